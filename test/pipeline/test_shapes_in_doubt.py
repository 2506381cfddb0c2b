"""Certified shapes that the network does not name clearly: similar ones compete with them."""

import dataclasses

import numpy as np
import pytest
import torch
from analytic import AnalyticShape, bracket
from analytic_scene import TruthfulNetwork, analytic_library, rendered
from pipeline.three_objects import BOX, BRACKET, MUG, SETTINGS, pose

from crisp_ros.correction.shape_choice import ShapeChoiceSettings
from crisp_ros.network.checkpoint import Model
from crisp_ros.network.model import NetworkOutput
from crisp_ros.pipeline import Estimator, ObjectEstimate, named_shapes
from crisp_ros.pipeline.added_shapes import ExpectedObject

TRUE, OTHER = 2, 3
POSE = pose(0.0, 0.12, 0.7, 1)
LABEL = 11
HALF_TURN = torch.diag(torch.tensor([-1.0, -1.0, 1.0]))
IN_DOUBT = (0.0, 0.0, 0.36, 0.64)
CLEAR = (0.0, 0.0, 0.1, 0.9)


def other_frame(shape: AnalyticShape) -> AnalyticShape:
    """The shape in an object frame that is rotated by half a circle about its z axis."""
    rotation = HALF_TURN.double()
    return dataclasses.replace(shape, distance=lambda x: shape.distance(x @ rotation.to(x)))


LARGER = other_frame(bracket(0.128, 0.096, 0.053, 0.021, "larger bracket"))
EQUAL = other_frame(bracket(0.12, 0.09, 0.05, 0.02, "equal bracket"))


def estimate(
    other: AnalyticShape,
    code: tuple[float, ...] = IN_DOUBT,
    expected: tuple[ExpectedObject, ...] = (),
    is_lost: bool = False,
    **changes: object,
) -> ObjectEstimate:
    """The first bracket, as the network sees it: in the frame of the other one, or nowhere."""
    shapes = (BOX, MUG, BRACKET, other)
    network = TruthfulNetwork(shapes, (OTHER,))

    def spoil(output: NetworkOutput) -> NetworkOutput:
        pnc = torch.einsum("ij,bjhw->bihw", HALF_TURN, output.pnc)
        if is_lost:
            pnc = torch.zeros_like(pnc)
        return NetworkOutput(pnc, torch.tensor(code).expand_as(output.code))

    network.spoil = spoil
    model = Model(network, analytic_library(shapes), {})
    tested = Estimator(model, dataclasses.replace(SETTINGS, **changes))
    frame = rendered((BRACKET,), (POSE,), (LABEL,)).frame
    return tested.trace(frame, expected=expected).estimate.objects[0]


def seen_before(detections: int, certified: bool) -> ExpectedObject:
    lower, upper = (np.array(part, float) for part in (BRACKET.lower, BRACKET.upper))
    return ExpectedObject(POSE, lower, upper, OTHER, detections, certified)


def test_of_two_similar_shapes_the_better_one_is_taken() -> None:
    without = estimate(LARGER, named_shapes=None)
    assert without.certified and without.shape_index == OTHER  # within the certificate's centimetre
    found = estimate(LARGER)
    assert found.certified and found.shape_index == TRUE
    error = np.linalg.inv(POSE) @ found.T_camera_object
    assert np.linalg.norm(error[:3, 3]) < 0.002 and np.trace(error[:3, :3]) > 2.99


@pytest.mark.parametrize("code", [IN_DOUBT, CLEAR])
def test_a_shape_is_compared_only_where_its_name_is_in_doubt(code, monkeypatch) -> None:
    calls = []
    monkeypatch.setattr(named_shapes, "register_globally", lambda *args: calls.append(args))
    found = estimate(LARGER, code)
    assert found.certified and found.shape_index == OTHER
    assert len(calls) == (code == IN_DOUBT)


def test_two_shapes_that_explain_an_object_alike_withhold_it() -> None:
    assert estimate(EQUAL, named_shapes=None).certified
    found = estimate(EQUAL)
    assert not found.certified and found.score < 0.5 and not found.unknown
    assert found.reason == "2-bracket and 3-equal bracket explain the object alike"
    assert not found.orientation_certified


def test_in_later_frames_a_shape_in_doubt_waits() -> None:
    """It is compared in the first frames that show it, unless one of them has certified it."""
    waiting = estimate(LARGER, expected=(seen_before(5, certified=False),))
    assert not waiting.certified and "not compared" in waiting.reason
    assert estimate(LARGER, expected=(seen_before(30, certified=False),)).shape_index == TRUE
    kept = estimate(LARGER, expected=(seen_before(5, certified=True),))
    assert kept.certified and kept.shape_index == OTHER


def test_a_similar_shape_that_is_not_named_must_explain_well() -> None:
    lost = {"is_lost": True, "empty_space": None, "shape_mode": "library"}
    found = estimate(LARGER, CLEAR, **lost)
    assert found.certified and found.shape_index == TRUE
    strict = ShapeChoiceSettings(explained_m=0.0)
    assert not estimate(LARGER, CLEAR, shape_choice=strict, **lost).certified
    less_clear = 0.0, 0.0, 0.25, 0.75  # the code of the other shape is three times as far
    assert estimate(LARGER, less_clear, shape_choice=strict, **lost).shape_index == TRUE


def test_a_shape_found_by_depth_alone_has_no_certain_orientation() -> None:
    found = estimate(LARGER)
    assert found.certified and not found.orientation_certified
    assert "neither coordinates nor print confirm it" in found.orientation_reason
