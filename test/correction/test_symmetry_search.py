"""A mug that is estimated rotated about its axis, in a depth image of its closed form."""

import dataclasses

import numpy as np
import pytest
import torch
from analytic import mug
from analytic_scene import analytic_field, analytic_prepared
from correction.rendering import CAMERA, LABEL, rendered, seen_points
from scipy.spatial.transform import Rotation

from crisp_ros.correction.hypotheses import Hypotheses
from crisp_ros.correction.residuals import surface_objective
from crisp_ros.correction.symmetry_motions import SymmetryKind
from crisp_ros.correction.symmetry_search import (
    ResolvedSymmetries,
    SymmetrySearchSettings,
    resolve_near_symmetries,
    rival_motions,
)
from crisp_ros.correction.visibility import Images
from crisp_ros.geometry.se3 import invert, transform

MUG = mug(0.04, 0.045, 0.008, 0.03)
FIELD, LIBRARY = analytic_field(MUG), analytic_prepared(MUG)
NEAR = LIBRARY.motions(0).of_kind(SymmetryKind.NEAR)


def about_axis(degrees: float) -> torch.Tensor:
    T = torch.eye(4)
    T[:3, :3] = torch.from_numpy(Rotation.from_euler("z", degrees, degrees=True).as_matrix())
    return T


def looked_at(handle_deg: float) -> torch.Tensor:
    """T_object_camera from above, 40 degrees; the handle points so far past the right."""
    T_camera_object = torch.eye(4)
    standing = Rotation.from_euler("x", 130, degrees=True)
    rotated = standing * Rotation.from_euler("z", handle_deg, degrees=True)
    T_camera_object[:3, :3] = torch.from_numpy(rotated.as_matrix())
    T_camera_object[:3, 3] = torch.tensor([0.01, 0.0, 0.5])
    return invert(T_camera_object)


def seen(T_true: torch.Tensor, *T_given: torch.Tensor) -> tuple[Hypotheses, Images]:
    """Hypotheses with these poses in one image."""
    depth, labels = rendered(MUG, T_true.double())
    points = seen_points(depth, labels)
    batch = len(T_given)
    some = points[torch.linspace(0, len(points) - 1, 800).long()].expand(batch, -1, -1)
    valid, shapes = torch.ones(some.shape[:2]).bool(), LIBRARY.shapes(torch.zeros(batch).long())
    hypotheses = Hypotheses.of_points(some, valid, shapes)._replace(
        T_object_camera=torch.stack(T_given), labels=torch.full((batch,), LABEL)
    )
    return hypotheses, Images(depth, labels, CAMERA)


def error_deg(T: torch.Tensor, T_true: torch.Tensor) -> float:
    apart = T[:3, :3].double().numpy() @ T_true[:3, :3].double().numpy().T
    return float(np.degrees(Rotation.from_matrix(apart).magnitude()))


def resolved(hypotheses: Hypotheses, images: Images, **changes: object) -> ResolvedSymmetries:
    settings = dataclasses.replace(SymmetrySearchSettings(), **changes)
    surfaces = LIBRARY.surfaces_of(hypotheses.shapes)
    motions = [NEAR] * len(hypotheses.labels)
    return resolve_near_symmetries(FIELD, hypotheses, surfaces, motions, images, settings)


@pytest.mark.parametrize("handle", [0.0, -60.0, 30.0])
@pytest.mark.parametrize("by", [70.0, 155.0, -110.0])
def test_a_handle_in_view_is_found(handle: float, by: float) -> None:
    T_true = looked_at(handle)
    hypotheses, images = seen(T_true, about_axis(by) @ T_true)
    found = resolved(hypotheses, images)
    assert found.rows.tolist() == [0]
    assert error_deg(found.T_object_camera[0], T_true) < 3.0
    torch.testing.assert_close(found.motions @ hypotheses.T_object_camera, found.T_object_camera)


def test_free_space_alone_moves_a_handle_out_of_sight() -> None:
    """Seen from the side without it, no depth point lies on the handle."""
    T_true = looked_at(90.0)
    hypotheses, images = seen(T_true, about_axis(100.0) @ T_true)
    found = resolved(hypotheses, images)
    assert found.rows.tolist() == [0]
    assert error_deg(found.T_object_camera[0], T_true) < 60.0
    assert len(resolved(hypotheses, images, exposed_m=0.0).rows) == 0


def test_right_poses_stay_among_wrong_ones() -> None:
    T_true = looked_at(-30.0)
    wrong = about_axis(120.0) @ T_true
    hypotheses, images = seen(T_true, T_true, wrong, about_axis(2.0) @ T_true, wrong)
    found = resolved(hypotheses, images)
    assert found.rows.tolist() == [1, 3]
    assert all(error_deg(T, T_true) < 3.0 for T in found.T_object_camera)


def test_the_objective_is_that_of_the_pose_found() -> None:
    T_true = looked_at(0.0)
    hypotheses, images = seen(T_true, about_axis(120.0) @ T_true)
    found = resolved(hypotheses, images)
    points, _, _, valid = hypotheses.correspondences
    sdf = FIELD.sdf(transform(found.T_object_camera, points), hypotheses.shapes)
    scale = torch.tensor(SymmetrySearchSettings().pose.robust_scale_m)
    torch.testing.assert_close(found.objective, surface_objective(sdf, valid, scale))


def test_points_that_are_not_finite_do_not_count() -> None:
    T_true = looked_at(0.0)
    hypotheses, images = seen(T_true, about_axis(120.0) @ T_true)
    degraded = hypotheses.correspondences.points.clone()
    degraded[:, ::7] = torch.nan
    observed = hypotheses.correspondences._replace(points=degraded)
    found = resolved(hypotheses._replace(correspondences=observed), images)
    assert error_deg(found.T_object_camera[0], T_true) < 3.0
    blind = observed._replace(valid=torch.zeros_like(observed.valid))
    found = resolved(hypotheses._replace(correspondences=blind), images)
    assert torch.isfinite(found.T_object_camera).all()


def test_what_is_clear_is_not_tried() -> None:
    T_true = looked_at(0.0)
    hypotheses, images = seen(T_true, about_axis(120.0) @ T_true)
    assert len(resolved(hypotheses, images, doubted_above_m=1.0).rows) == 0


def test_rivals_are_refined_before_they_are_excluded() -> None:
    """A handle behind the mug is as good there as a little aside, but not 4 mm off its axis."""
    T_true = looked_at(90.0)
    hypotheses, images = seen(T_true, T_true)
    off_axis = about_axis(15.0)
    off_axis[:3, 3] = torch.tensor([0.003, -0.002, 0.002])
    surfaces = LIBRARY.surfaces_of(hypotheses.shapes)

    def rivals(count: int) -> list[bool]:
        settings = dataclasses.replace(SymmetrySearchSettings(), refined_rivals=count)
        motions = [torch.stack((off_axis, about_axis(180.0)))]
        (found,) = rival_motions(FIELD, hypotheses, surfaces, motions, images, settings)
        assert torch.equal(found.motions[:2], motions[0])
        for motion, possible in zip(found.motions[2:], found.possible[2:], strict=True):
            if possible:
                assert error_deg(motion @ T_true, T_true) < 30.0
                assert motion[:3, 3].norm() < 0.003
        return found.possible.tolist()

    assert rivals(0) == [False, False]
    # A handle that points to the camera stays contradicted.
    assert sorted(rivals(2)) == [False, False, False, True]
