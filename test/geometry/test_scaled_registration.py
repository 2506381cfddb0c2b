"""Rotation, translation and size of the unit, from coordinates in that unit."""

import math

import pytest
import roma
import torch

from crisp_ros.geometry.scaled_registration import register_with_scale

COUNT, N = 6, 400


def _objects(noise: float = 0.0, outliers: float = 0.0):
    """Points of a half ellipsoid, coordinates in units of `size` metres, and the truth."""
    generator = torch.Generator().manual_seed(0)
    directions = torch.nn.functional.normalize(
        torch.randn((COUNT, N, 3), generator=generator), dim=-1
    )
    directions[..., 2] = directions[..., 2].abs()
    z = directions * torch.tensor([0.04, 0.06, 0.09])
    rotation = roma.random_rotmat(COUNT)
    translation = torch.randn((COUNT, 3), generator=generator) * 0.2 + torch.tensor([0, 0, 0.8])
    points = (z - translation[:, None]) @ rotation  # z = R x + t
    size = torch.linspace(0.05, 0.4, COUNT)
    units = z / size[:, None, None]
    units = units + noise * torch.randn(units.shape, generator=generator) / size[:, None, None]
    wrong = torch.rand((COUNT, N), generator=generator) < outliers
    units = torch.where(wrong[..., None], units.roll(3, 1) * 1.5, units)
    return points, units, rotation, size


def _angles(R: torch.Tensor, S: torch.Tensor) -> torch.Tensor:
    return torch.rad2deg(roma.rotmat_geodesic_distance(R, S))


def test_exact_coordinates_give_exact_sizes() -> None:
    points, units, rotation, size = _objects()
    found = register_with_scale(points, units, torch.ones(COUNT, N, dtype=torch.bool))
    torch.testing.assert_close(found.size, size, rtol=1e-4, atol=0)
    assert _angles(found.registration.T_object_camera[:, :3, :3], rotation).max() < 0.1
    assert found.registration.converged.all()


@pytest.mark.parametrize(("noise", "outliers"), [(0.003, 0.0), (0.001, 0.3)])
def test_noise_and_outliers_do_not_shrink_the_unit(noise: float, outliers: float) -> None:
    points, units, rotation, size = _objects(noise, outliers)
    found = register_with_scale(points, units, torch.ones(COUNT, N, dtype=torch.bool))
    assert (found.size / size - 1).abs().max() < 0.02
    assert _angles(found.registration.T_object_camera[:, :3, :3], rotation).max() < 2.0


def test_points_without_depth_or_coordinates_are_left_out() -> None:
    points, units, _, size = _objects()
    valid = torch.ones(COUNT, N, dtype=torch.bool)
    valid[:, ::4] = False
    points[:, ::4] = math.nan
    units[:, 1::5] = math.inf
    found = register_with_scale(points, units, valid)
    torch.testing.assert_close(found.size, size, rtol=1e-4, atol=0)
    nothing = register_with_scale(points, units, torch.zeros_like(valid))
    assert torch.isfinite(nothing.size).all() and (nothing.size > 0).all()
    assert not nothing.registration.converged.any()
