"""The Cayley map against the exponential map and its own definition."""

import pytest
import torch

from crisp_ros.geometry.cayley import cayley
from crisp_ros.geometry.fixed_shapes import force_fixed_shapes
from crisp_ros.geometry.se3 import exp


def test_small_motions_are_those_of_the_exponential_map() -> None:
    xi = 0.01 * torch.randn(50, 6, generator=torch.Generator().manual_seed(0)).double()
    torch.testing.assert_close(cayley(xi), exp(xi), atol=2e-5, rtol=0)
    # The error is of third order.
    error, half = ((cayley(s * xi) - exp(s * xi)).abs().amax() for s in (1.0, 0.5))
    assert error / half == pytest.approx(8.0, rel=0.1)


def test_large_motions_are_rigid() -> None:
    xi = 3.0 * torch.randn(50, 6, generator=torch.Generator().manual_seed(1)).double()
    found = cayley(xi)
    rotation = found[:, :3, :3]
    torch.testing.assert_close(rotation @ rotation.mT, torch.eye(3).double().expand(50, 3, 3))
    torch.testing.assert_close(torch.linalg.det(rotation), torch.ones(50).double())
    assert (found[:, 3] == torch.tensor([0.0, 0.0, 0.0, 1.0]).double()).all()
    # The way of a GPU, without a pivot.
    with force_fixed_shapes():
        torch.testing.assert_close(cayley(xi), found)
