"""The Cayley map of rigid motions, for the steps of solvers."""

from __future__ import annotations

import torch
from torch import Tensor

from crisp_ros.geometry.device_constants import constant
from crisp_ros.geometry.spd_inverse import spd_inverse


def cayley(xi: Tensor) -> Tensor:
    """Compute the Cayley map (1 - X / 2)^-1 (1 + X / 2) of the twists X of motions.

    It is a rigid motion, agrees with the exponential map to second order, and costs a tenth of it.

    Args:
        xi: (B, 6), the translational part rho in metres, then the rotational part phi in radians.

    Returns:
        (B, 4, 4).
    """
    half = (xi @ constant(_HALF_TWISTS, xi).view(6, 16)).view(-1, 4, 4)
    identity = torch.eye(4, dtype=xi.dtype, device=xi.device)
    return 2 * spd_inverse(identity - half) - identity


def _half_twists() -> tuple[float, ...]:
    """The linear map (6, 16) from motions to half their twists, row by row."""
    twists = [[0.0] * 16 for _ in range(6)]
    for axis in range(3):
        one, two = (axis + 1) % 3, (axis + 2) % 3
        twists[axis][4 * axis + 3] = 0.5
        twists[3 + axis][4 * two + one], twists[3 + axis][4 * one + two] = 0.5, -0.5
    return tuple(value for row in twists for value in row)


_HALF_TWISTS = _half_twists()
