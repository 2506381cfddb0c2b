"""Global registration of library shapes: pose and shape from depth points alone."""

import numpy as np
import pytest
import torch
from analytic import AnalyticShape, box, bracket, sphere
from analytic_scene import analytic_field, analytic_prepared, rendered
from scipy.spatial.transform import Rotation

from crisp_ros.correction.correspondences import Correspondences
from crisp_ros.correction.global_registration import (
    GlobalRegistrationSettings,
    register_globally,
    seen_size,
)
from crisp_ros.correction.visibility import Images, images_of
from crisp_ros.observation.object_points import back_projected

SHAPES = (box((0.04, 0.025, 0.055)), sphere(0.025), bracket(0.12, 0.09, 0.05, 0.02))
FIELD = analytic_field(*SHAPES)


IMAGE = tuple[Correspondences, torch.Tensor, Images]


def observed(shape: AnalyticShape, T: np.ndarray) -> IMAGE:
    """Depth points of a shape, with some that are not there, its label and the images."""
    frame = rendered([shape], [T], [5]).frame
    points = torch.from_numpy(back_projected(frame, *np.nonzero(frame.labels == 5)))[None]
    points = torch.cat((points, torch.full((1, 40, 3), torch.nan)), dim=1)
    seen = Correspondences.of_points(points, torch.isfinite(points).all(-1))
    return seen, torch.tensor([5]), images_of(frame, torch.device("cpu"))


def pose(seed: int) -> np.ndarray:
    T = np.eye(4)
    T[:3, :3] = Rotation.random(random_state=seed).as_matrix()
    T[:3, 3] = 0.1, -0.05, 0.6
    return T


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("index", [0, 2])
def test_pose_and_shape_come_from_depth_alone(index: int, seed: int) -> None:
    """A box has symmetries, so that surfaces are compared and not poses."""
    T, library = pose(seed), analytic_prepared(*SHAPES)
    found = register_globally(FIELD, library, torch.arange(3), *observed(SHAPES[index], T))
    assert found.shapes.index[0] == index
    moved = found.T_object_camera[0].numpy() @ T
    surface = library.surfaces.points[index][library.surfaces.valid[index]].double().numpy()
    distances = SHAPES[index].sdf(torch.from_numpy(surface @ moved[:3, :3].T + moved[:3, 3]))
    assert distances.abs().mean() < 0.004


def test_each_shape_has_its_best_pose_the_best_shape_first() -> None:
    T, library = pose(4), analytic_prepared(*SHAPES)
    image = observed(SHAPES[2], T)
    both, alone = (
        register_globally(FIELD, library, torch.tensor(tried), *image) for tried in ((0, 2), (2,))
    )
    assert both.shapes.index.tolist() == [2, 0] and alone.shapes.index.tolist() == [2]
    assert both.cost[1] > 5 * both.cost[0]
    torch.testing.assert_close(both.cost[0], alone.cost[0], rtol=0.05, atol=1e-8)


def test_only_candidates_as_large_as_the_object_are_tried() -> None:
    library = analytic_prepared(*SHAPES)
    image = observed(SHAPES[2], pose(0))
    assert register_globally(FIELD, library, torch.tensor([1]), *image) is None
    near = GlobalRegistrationSettings(most_shapes=1)
    small = observed(SHAPES[1], pose(0))
    found = register_globally(FIELD, library, torch.tensor([1, 2]), *small, near)
    assert found.shapes.index.tolist() == [1]


def test_an_object_with_hardly_a_point_has_no_fit() -> None:
    library = analytic_prepared(*SHAPES)
    seen, label, images = observed(SHAPES[0], pose(0))
    none = seen._replace(valid=torch.zeros_like(seen.valid))
    assert register_globally(FIELD, library, torch.arange(3), none, label, images) is None


def test_the_size_seen_is_that_of_the_box_along_its_axes() -> None:
    box_points = torch.rand(4000, 3, generator=torch.Generator().manual_seed(0))
    box_points = (box_points - 0.5) * torch.tensor([0.3, 0.2, 0.05])
    rotated = box_points @ torch.from_numpy(pose(1)[:3, :3]).float().T
    outlier = torch.cat((rotated, torch.full((10, 3), 5.0)))
    expected = (0.3**2 + 0.2**2 + 0.05**2) ** 0.5
    assert seen_size(rotated).item() == pytest.approx(expected, rel=0.05)
    assert seen_size(outlier[:-9]).item() == pytest.approx(expected, rel=0.3)
