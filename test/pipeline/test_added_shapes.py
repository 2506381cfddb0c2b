"""Shapes added after the training: found without the network, and known ones as before."""

import dataclasses

import numpy as np
import pytest
import torch
from analytic_scene import Rendered, TruthfulNetwork, analytic_library, rendered
from pipeline.three_objects import BOX, BRACKET, MUG, POSES, SETTINGS, SHAPES, pose

from crisp_ros.correction.global_registration import GlobalFit
from crisp_ros.network.checkpoint import Model
from crisp_ros.network.model import NetworkOutput
from crisp_ros.pipeline import Estimator, ObjectEstimate, added_shapes
from crisp_ros.pipeline.added_shapes import ExpectedObject

BRACKET_INDEX = 2


def model(added: int) -> Model:
    """It knows box and mug, and takes the bracket for a box of no place."""
    network = TruthfulNetwork(SHAPES, (0, 1, 0))

    def spoil(output: NetworkOutput) -> NetworkOutput:
        noise = torch.randn(output.pnc[0].shape, generator=torch.Generator().manual_seed(0))
        pnc, code = output.pnc.clone(), output.code.clone()
        pnc[2:] = 0.05 * noise
        code[2:] = torch.tensor([0.5, 0.3, 0.0])
        return NetworkOutput(pnc, code)

    network.spoil = spoil
    return Model(network, dataclasses.replace(analytic_library(SHAPES), added=added), {})


@pytest.fixture(scope="module")
def image() -> Rendered:
    """The view of the bracket leaves no motion free."""
    return rendered((BOX, MUG, BRACKET), (*POSES[:2], pose(0.0, 0.12, 0.7, 1)), (4, 7, 11))


def estimates(
    image: Rendered, added: int, expected: tuple[ExpectedObject, ...] = (), **changes
) -> list[ObjectEstimate]:
    tested = Estimator(model(added), dataclasses.replace(SETTINGS, **changes))
    return list(tested.trace(image.frame, expected=expected).estimate.objects)


@pytest.mark.parametrize("mode", ["auto", "library"])
def test_an_added_shape_is_found_without_coordinates(image: Rendered, mode: str) -> None:
    found = estimates(image, added=1, shape_mode=mode)[2]
    assert found.shape_index == BRACKET_INDEX and found.shape_source == "library"
    assert found.certified and not found.unknown
    error = np.linalg.inv(image.poses[11]) @ found.T_camera_object
    assert np.linalg.norm(error[:3, 3]) < 0.003 and np.trace(error[:3, :3]) > 2.99


def test_what_the_network_knows_stays_as_it_was(image: Rendered) -> None:
    with_added, without = (estimates(image, added)[:2] for added in (1, 0))
    for a, b in zip(with_added, without, strict=True):
        assert a.shape_index == b.shape_index and a.certified
        np.testing.assert_array_equal(a.T_camera_object, b.T_camera_object)
        assert (a.residual_m, a.score, a.reason) == (b.residual_m, b.score, b.reason)


def expected_object(T: np.ndarray, shape_index: int, detections: int) -> ExpectedObject:
    lower, upper = (np.array(part, float) for part in (BRACKET.lower, BRACKET.upper))
    return ExpectedObject(T, lower, upper, shape_index, detections)


def test_an_object_seen_before_is_followed(image: Rendered, monkeypatch) -> None:
    """Within the basin of the pose solver, without another search."""
    monkeypatch.setattr(added_shapes, "register_globally", None)  # not called
    T = image.poses[11].copy()
    T[:3, 3] += 0.008, -0.006, 0.01
    found = estimates(image, 1, (expected_object(T, BRACKET_INDEX, 1),))[2]
    assert found.shape_index == BRACKET_INDEX and found.certified
    assert np.linalg.norm(found.T_camera_object[:3, 3] - image.poses[11][:3, 3]) < 0.003


def test_only_new_objects_are_searched_for(image: Rendered, monkeypatch) -> None:
    calls = []
    monkeypatch.setattr(added_shapes, "register_globally", lambda *args: calls.append(args))
    T = image.poses[11]
    elsewhere = T.copy()
    elsewhere[:3, 3] += 0.5
    counts = []
    for expected in (
        (),
        (expected_object(T, 0, 1),),
        (expected_object(T, 0, 3),),
        (expected_object(elsewhere, 0, 3),),
    ):
        calls.clear()
        assert not estimates(image, 1, expected)[2].certified
        counts.append(len(calls))
    assert counts == [1, 1, 0, 1]


def test_a_fit_without_a_certificate_changes_nothing(image: Rendered, monkeypatch) -> None:
    T = torch.from_numpy(np.linalg.inv(image.poses[11])).float()[None]
    T[0, :3, 3] += 0.5
    seen = []

    def misplaced(field, library, candidates, *rest) -> GlobalFit:
        seen.append(candidates.tolist())
        return GlobalFit(T, library.shapes(candidates), torch.zeros(len(T)))

    monkeypatch.setattr(added_shapes, "register_globally", misplaced)
    tried = estimates(image, added=1)[2]
    monkeypatch.setattr(added_shapes, "register_globally", lambda *args: None)
    without = estimates(image, added=1)[2]
    assert seen == [[BRACKET_INDEX]] and not tried.certified
    assert tried.shape_index == without.shape_index
    np.testing.assert_array_equal(tried.T_camera_object, without.T_camera_object)
