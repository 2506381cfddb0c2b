"""Boxes shifted along what is seen of them, in a depth image of their closed form."""

import pytest
import torch
from analytic import box
from analytic_scene import analytic_field, analytic_prepared
from correction.rendering import CAMERA, LABEL, rendered, seen_points
from hypothesis import given, settings
from hypothesis import strategies as st

from crisp_ros.correction.empty_space_refinement import (
    EmptySpaceRefinementSettings,
    RefinedPoses,
    refine_against_empty_space,
)
from crisp_ros.correction.hypotheses import Hypotheses
from crisp_ros.correction.residuals import surface_objective
from crisp_ros.correction.visibility import Images, exposed
from crisp_ros.geometry.se3 import exp, invert, transform

BOX = box((0.06, 0.04, 0.03))
FIELD, LIBRARY = analytic_field(BOX), analytic_prepared(BOX)
SETTINGS = EmptySpaceRefinementSettings()
HIDDEN_COLUMNS = 78


def truth() -> torch.Tensor:
    """T_object_camera of a box 0.6 m away whose long side faces the camera."""
    T_camera_object = torch.eye(4)
    T_camera_object[2, 3] = 0.6
    return invert(T_camera_object)


def shifted(*metres: float) -> torch.Tensor:
    """The pose of the box shifted along the camera's axes."""
    T_camera_object = invert(truth())
    T_camera_object[:3, 3] += torch.tensor(metres)
    return invert(T_camera_object)


def scene(hidden_columns: int = HIDDEN_COLUMNS) -> tuple[torch.Tensor, torch.Tensor]:
    """Depth and labels; something nearer hides the left columns."""
    depth, labels = rendered(BOX, truth().double())
    depth[:, :hidden_columns], labels[:, :hidden_columns] = 0.4, 3
    return depth, labels


def refined(
    depth: torch.Tensor, labels: torch.Tensor, *poses: torch.Tensor
) -> tuple[RefinedPoses, Hypotheses]:
    hypotheses = hypotheses_of(seen_points(depth, labels), *poses)
    surfaces = LIBRARY.surfaces_of(hypotheses.shapes)
    images = Images(depth, labels, CAMERA)
    return refine_against_empty_space(FIELD, hypotheses, surfaces, images), hypotheses


def hypotheses_of(points: torch.Tensor, *poses: torch.Tensor) -> Hypotheses:
    some = points[torch.linspace(0, len(points) - 1, 500).long()].expand(len(poses), -1, -1)
    valid = torch.ones(some.shape[:2]).bool()
    shapes = LIBRARY.shapes(torch.zeros(len(poses)).long())
    return Hypotheses.of_points(some, valid, shapes)._replace(
        T_object_camera=torch.stack(poses), labels=torch.full((len(poses),), LABEL)
    )


def exposed_share(depth: torch.Tensor, labels: torch.Tensor, T: torch.Tensor) -> torch.Tensor:
    surfaces = LIBRARY.surfaces_of(LIBRARY.shapes(torch.zeros(len(T)).long()))
    images = Images(depth, labels, CAMERA)
    objects = torch.full((len(T),), LABEL)
    seen = exposed(surfaces, T, objects, images, SETTINGS.visibility)
    return (seen.before | seen.outside).sum(-1) / seen.known.sum(-1)


def test_a_box_shifted_into_the_background_comes_back() -> None:
    """Depth alone does not contradict the shift: the other end of the box is hidden."""
    depth, labels = scene()
    poses = [shifted(0.03, 0.0, 0.0), shifted(0.025, 0.004, 0.0)]
    found, start = refined(depth, labels, *poses)
    sdf = FIELD.sdf(transform(start.T_object_camera, start.correspondences.points), start.shapes)
    assert sdf[0].abs().max() < 1e-3
    assert found.moved.all()
    error = invert(found.T_object_camera)[:, :3, 3] - invert(truth())[:3, 3]
    before = invert(torch.stack(poses))[:, :3, 3] - invert(truth())[:3, 3]
    # Nearer to the mask than this nothing proves that space is empty.
    unknown_m = (SETTINGS.empty.border_px + 2) * 0.57 / CAMERA.fx
    assert (before.norm(dim=-1) > 2 * unknown_m).all()
    assert (error.norm(dim=-1) < 1.05 * unknown_m).all()


def test_a_pose_that_is_not_contradicted_stays() -> None:
    """The true one, and one that reaches farther behind the obstacle."""
    depth, labels = scene()
    poses = torch.stack((truth(), shifted(-0.01, 0.0, 0.0)))
    found, _ = refined(depth, labels, *poses)
    assert not found.moved.any()
    assert torch.equal(found.T_object_camera, poses)


@settings(max_examples=8, deadline=None)
@given(
    st.tuples(*[st.floats(-0.04, 0.04)] * 3),
    st.tuples(*[st.floats(-0.3, 0.3)] * 3),
    st.integers(0, 95),
)
def test_moved_poses_explain_more(shift, rotation, hidden: int) -> None:
    depth, labels = scene(hidden)
    start = exp(torch.tensor([*shift, *rotation])) @ truth()
    found, hypotheses = refined(depth, labels, start)
    if not found.moved.any():
        assert torch.equal(found.T_object_camera[0], start)
        return
    both = torch.stack((start, found.T_object_camera[0]))
    before, after = exposed_share(depth, labels, both)
    # The decision is made with every fourth point of the surface.
    assert after < SETTINGS.gain * before + 0.1
    points, _, _, valid = hypotheses.correspondences
    sdf = FIELD.sdf(transform(both, points), LIBRARY.shapes(torch.zeros(2).long()))
    scale = torch.full((2,), SETTINGS.robust_scale_m)
    old, new = surface_objective(sdf, valid.expand_as(sdf), scale)
    torch.testing.assert_close(found.objective[0], new)
    assert new <= old + SETTINGS.loss * (old + SETTINGS.surface_error_m**2) + 1e-9


@pytest.mark.parametrize("fault", ["no depth", "not finite", "no points"])
def test_poses_without_data_stay(fault: str) -> None:
    depth, labels = scene()
    hypotheses = hypotheses_of(seen_points(depth, labels), shifted(0.02, 0.0, 0.0))
    if fault == "no depth":
        depth = torch.zeros_like(depth)
    elif fault == "not finite":
        hypotheses.T_object_camera[0, 0, 3] = torch.nan
    else:
        hypotheses.correspondences.valid[:] = False
    surfaces = LIBRARY.surfaces_of(hypotheses.shapes)
    images = Images(depth, labels, CAMERA)
    found = refine_against_empty_space(FIELD, hypotheses, surfaces, images)
    assert not found.moved.any()
    torch.testing.assert_close(found.T_object_camera, hypotheses.T_object_camera, equal_nan=True)
