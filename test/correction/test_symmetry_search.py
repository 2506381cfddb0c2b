"""A mug that is given turned about its axis, in a depth image rendered from its closed form."""

import dataclasses

import numpy as np
import pytest
import torch
from analytic import mug
from analytic_scene import AnalyticDecoder, analytic_library
from correction.rendering import CAMERA, LABEL, rendered, seen_points
from scipy.spatial.transform import Rotation

from crisp_ros.correction.near_symmetries import near_symmetries
from crisp_ros.correction.residuals import surface_objective
from crisp_ros.correction.surface import SurfacePoints, library_surfaces
from crisp_ros.correction.symmetry_search import Posed, Turned, TurnSettings, best_turns
from crisp_ros.correction.visibility import Images
from crisp_ros.geometry.se3 import invert, transform

MUG = mug(0.04, 0.045, 0.008, 0.03)
DECODER, LIBRARY = AnalyticDecoder([MUG]), analytic_library([MUG])
SURFACES = library_surfaces(DECODER, LIBRARY)
TURNS = near_symmetries(DECODER, LIBRARY, SURFACES, 0)


def about_axis(degrees: float) -> torch.Tensor:
    T = torch.eye(4)
    T[:3, :3] = torch.from_numpy(Rotation.from_euler("z", degrees, degrees=True).as_matrix())
    return T


def looked_at(handle_deg: float) -> torch.Tensor:
    """T_object_camera from above, 40 degrees; the handle points so far past the right."""
    T_camera_object = torch.eye(4)
    standing = Rotation.from_euler("x", 130, degrees=True)
    turned = standing * Rotation.from_euler("z", handle_deg, degrees=True)
    T_camera_object[:3, :3] = torch.from_numpy(turned.as_matrix())
    T_camera_object[:3, 3] = torch.tensor([0.01, 0.0, 0.5])
    return invert(T_camera_object)


def seen(T_true: torch.Tensor, *T_given: torch.Tensor) -> tuple[Posed, Images]:
    """Objects with these poses in one image."""
    depth, labels = rendered(MUG, T_true.double())
    points = seen_points(depth, labels)
    given = torch.stack(T_given)
    batch = len(given)
    some = points[torch.linspace(0, len(points) - 1, 800).long()].expand(batch, -1, -1)
    objects = Posed(
        points=some,
        valid=torch.ones(some.shape[:2], dtype=torch.bool),
        codes=torch.ones(batch, 1),
        T_object_camera=given,
        surfaces=SurfacePoints(*(part.expand(batch, *part.shape[1:]) for part in SURFACES)),
        labels=torch.full((batch,), LABEL),
    )
    return objects, Images(depth, labels, CAMERA)


def error_deg(T: torch.Tensor, T_true: torch.Tensor) -> float:
    turn = T[:3, :3].double().numpy() @ T_true[:3, :3].double().numpy().T
    return float(np.degrees(Rotation.from_matrix(turn).magnitude()))


def turned(objects: Posed, images: Images, **changes: object) -> Turned:
    settings = dataclasses.replace(TurnSettings(), **changes)
    return best_turns(DECODER, objects, [TURNS] * len(objects.labels), images, settings)


@pytest.mark.parametrize("handle", [0.0, -60.0, 30.0])
@pytest.mark.parametrize("by", [70.0, 155.0, -110.0])
def test_a_handle_in_view_is_found(handle: float, by: float) -> None:
    T_true = looked_at(handle)
    objects, images = seen(T_true, about_axis(by) @ T_true)
    found = turned(objects, images)
    assert found.rows.tolist() == [0]
    assert error_deg(found.T_object_camera[0], T_true) < 3.0
    torch.testing.assert_close(found.turns @ objects.T_object_camera, found.T_object_camera)


def test_a_handle_out_of_sight_is_turned_out_of_sight_by_free_space_alone() -> None:
    """Seen from the side without it, no depth point lies on the handle."""
    T_true = looked_at(90.0)
    objects, images = seen(T_true, about_axis(100.0) @ T_true)
    found = turned(objects, images)
    assert found.rows.tolist() == [0]
    assert error_deg(found.T_object_camera[0], T_true) < 60.0
    assert len(turned(objects, images, exposed_m=0.0).rows) == 0


def test_right_poses_stay_among_wrong_ones() -> None:
    T_true = looked_at(-30.0)
    wrong = about_axis(120.0) @ T_true
    objects, images = seen(T_true, T_true, wrong, about_axis(2.0) @ T_true, wrong)
    found = turned(objects, images)
    assert found.rows.tolist() == [1, 3]
    assert all(error_deg(T, T_true) < 3.0 for T in found.T_object_camera)


def test_the_objective_is_that_of_the_pose_found() -> None:
    T_true = looked_at(0.0)
    objects, images = seen(T_true, about_axis(120.0) @ T_true)
    found = turned(objects, images)
    sdf = DECODER.sdf(transform(found.T_object_camera, objects.points), objects.codes)
    scale = torch.tensor(TurnSettings().pose.robust_scale_m)
    expected = surface_objective(sdf, objects.valid, scale)
    torch.testing.assert_close(found.objective, expected)


def test_points_that_are_not_finite_do_not_count() -> None:
    T_true = looked_at(0.0)
    objects, images = seen(T_true, about_axis(120.0) @ T_true)
    spoilt = objects.points.clone()
    spoilt[:, ::7] = torch.nan
    found = turned(objects._replace(points=spoilt), images)
    assert error_deg(found.T_object_camera[0], T_true) < 3.0
    invalid = objects._replace(valid=torch.zeros_like(objects.valid))
    assert torch.isfinite(turned(invalid, images).T_object_camera).all()


def test_what_is_clear_is_not_tried() -> None:
    T_true = looked_at(0.0)
    objects, images = seen(T_true, about_axis(120.0) @ T_true)
    assert len(turned(objects, images, doubted_above_m=1.0).rows) == 0
