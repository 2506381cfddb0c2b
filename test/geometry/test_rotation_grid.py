"""Even grids of rotations."""

import torch
from scipy.spatial.transform import Rotation

from crisp_ros.geometry.rotation_grid import rotation_grid


def test_every_rotation_is_near_one_of_the_grid() -> None:
    grid = Rotation.from_matrix(rotation_grid(576).numpy())
    some = Rotation.random(500, random_state=0)
    nearest = torch.tensor([(grid.inv() * one).magnitude().min() for one in some]).rad2deg()
    assert nearest.max() < 30 and nearest.mean() < 16


def test_a_grid_has_distinct_rotations_and_is_always_the_same() -> None:
    grid = rotation_grid(60)
    assert grid.shape == (60, 3, 3) and grid.dtype == torch.float32
    torch.testing.assert_close(grid @ grid.mT, torch.eye(3).expand(60, 3, 3))
    torch.testing.assert_close(torch.linalg.det(grid), torch.ones(60))
    apart = torch.cdist(grid.flatten(1), grid.flatten(1)) + torch.eye(60)
    assert apart.min() > 0.3 and torch.equal(grid, rotation_grid(60))
