"""The estimator with a model that has a prior over shapes and no library."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from known import Known
from table_depth import CAMERA, LABEL, T_CAMERA_TABLE, table_images

from crisp_ros.correction.prior_shape import PriorShapeSettings
from crisp_ros.geometry.se3 import invert
from crisp_ros.network.checkpoint import Model
from crisp_ros.network.model import CrispNetwork, network_config
from crisp_ros.network.shape_prior import ShapePrior
from crisp_ros.observation.frame import Frame
from crisp_ros.pipeline import Estimator
from crisp_ros.pipeline.settings import EstimatorSettings


@pytest.fixture(scope="module")
def model(known: Known) -> Model:
    """A model of the known decoder with a prior over its shapes."""
    decoder = known.decoder
    config = dataclasses.replace(
        network_config("depth_only"),
        decoder_hidden=decoder.hidden,
        decoder_layers=len(decoder.film_layers),
    )
    network = CrispNetwork(config).eval()
    network.decoder.load_state_dict(decoder.state_dict())
    return Model(network, None, {}, ShapePrior.of_codes(known.library.codes, 4))


def _frame(known: Known, name: str) -> tuple[Frame, torch.Tensor]:
    """One shape on the table, and its true middle in the camera frame."""
    (shape,) = known.named(name)
    T_table_object = torch.eye(4).double()
    T_table_object[2, 3] = -shape.lower[2]
    T_camera_object = T_CAMERA_TABLE @ T_table_object
    depth, labels = table_images(shape.sdf, invert(T_camera_object))
    rgb = np.zeros((CAMERA.height, CAMERA.width, 3), np.uint8)
    frame = Frame(rgb, depth.float().numpy(), labels.numpy().astype(np.int32), CAMERA)
    middle = 0.5 * (torch.tensor(shape.lower) + torch.tensor(shape.upper)).double()
    return frame, T_camera_object[:3, :3] @ middle + T_camera_object[:3, 3]


def test_an_object_is_placed_and_shaped_by_depth_alone(model: Model, known: Known) -> None:
    frame, middle = _frame(known, known.library.names[0])
    (found,) = Estimator(model).estimate(frame).objects
    assert found.label == LABEL and found.shape_source == "prior"
    T = torch.as_tensor(found.T_camera_object).double()
    lower, upper = (torch.as_tensor(part).double() for part in (found.lower, found.upper))
    centre = T[:3, :3] @ (0.5 * (lower + upper)) + T[:3, 3]
    assert (centre - middle).norm() < 0.02


def test_a_model_without_a_prior_says_so(model: Model) -> None:
    without = dataclasses.replace(model, prior=None)
    with pytest.raises(ValueError, match="no prior over shapes"):
        Estimator(without, EstimatorSettings(shape_mode="prior"))


@pytest.mark.parametrize(
    "setting, reason",
    [
        ("spread_limit_m", "explains the depth nearly as well"),
        ("surface_limit_m", "the shape has no surface within"),
        ("hidden_limit", "of the outline is hidden"),
        ("open_limit", "of the mask's outline the surface goes on"),
    ],
)
def test_what_is_not_determined_withholds_the_certificate(
    model: Model, known: Known, setting: str, reason: str
) -> None:
    """The condition of the prior decides: without its limit the same frame has another reason."""
    frame, _ = _frame(known, known.library.names[0])
    found = []
    for limit in (-1.0, 1.0):
        prior = dataclasses.replace(PriorShapeSettings(spread_limit_m=1.0), **{setting: limit})
        (one,) = Estimator(model, EstimatorSettings(prior_shapes=prior)).estimate(frame).objects
        found.append(one)
    assert not found[0].certified and reason in found[0].reason
    assert reason not in found[1].reason


def test_without_a_support_an_object_may_go_on_downwards(model: Model, known: Known) -> None:
    frame, _ = _frame(known, known.library.names[0])
    nothing_else = dataclasses.replace(frame, depth=np.where(frame.labels > 0, frame.depth, 0.0))
    limits = PriorShapeSettings(spread_limit_m=1.0, surface_limit_m=1.0)
    settings = EstimatorSettings(prior_shapes=limits)
    reasons = [
        Estimator(model, settings).estimate(shown).objects[0].reason
        for shown in (frame, nothing_else)
    ]
    assert ["stands on was not seen" in reason for reason in reasons] == [False, True]
