"""Rigid transforms as 4x4 matrices, tensors or arrays, with any number of leading batch dimensions.

The product of two transforms is the matrix product: T_a_c = T_a_b @ T_b_c.
"""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = TypeVar("Array", Tensor, NDArray[Any])

_SERIES_BELOW = 0.0625  # squared angle under which the series is exact to float64 and has no 0/0


def from_rotation_translation(rotation: Array, translation: Array) -> Array:
    """Compose the 4x4 matrix of z = R x + t.

    Args:
        rotation: (..., 3, 3).
        translation: (..., 3) metres; leading dimensions broadcast against those of `rotation`.

    Returns:
        (..., 4, 4), with the dtype and device of `rotation`.
    """
    if not isinstance(rotation, Tensor):
        batch = np.broadcast_shapes(rotation.shape[:-2], translation.shape[:-1])
        T = np.zeros((*batch, 4, 4), rotation.dtype)
        T[..., :3, :3], T[..., :3, 3], T[..., 3, 3] = rotation, translation, 1
        return T
    batch = torch.broadcast_shapes(rotation.shape[:-2], translation.shape[:-1])
    top = torch.cat(
        (rotation.expand(*batch, 3, 3), translation[..., None].expand(*batch, 3, 1)), dim=-1
    )
    bottom = rotation.new_zeros(*batch, 1, 4)
    bottom[..., 3] = 1.0  # filled on the device: a constant row would be uploaded on every call
    return torch.cat((top, bottom), dim=-2)


def rotation_about(rotation: Array, centre: Array, target: Array | None = None) -> Array:
    """Compose the motion (..., 4, 4) that rotates and moves one point to a target.

    Args:
        rotation: (..., 3, 3).
        centre: (..., 3) metres.
        target: (..., 3) where the centre is moved, metres; by default it stays.
    """
    target = centre if target is None else target
    return from_rotation_translation(rotation, target - (rotation @ centre[..., None])[..., 0])


def transform(T: Array, points: Array) -> Array:
    """Move points by a rigid transform.

    Args:
        T: (..., 4, 4), `T_target_source`.
        points: (..., N, 3) metres, source frame; leading dimensions broadcast against those of T.

    Returns:
        (..., N, 3) metres, target frame.
    """
    return points @ T[..., :3, :3].swapaxes(-1, -2) + T[..., None, :3, 3]


def transform_point(T: Array, point: Array) -> Array:
    """Move one point (..., 3) by each transform (..., 4, 4); see `transform`."""
    return transform(T, point[..., None, :])[..., 0, :]


def invert(T: Array) -> Array:
    """Invert rigid transforms (..., 4, 4), from the transposed rotation."""
    rotation = T[..., :3, :3].swapaxes(-1, -2)
    return from_rotation_translation(rotation, -(rotation @ T[..., :3, 3:])[..., 0])


def exp(xi: Tensor) -> Tensor:
    """Compute the exponential map of SE(3), smooth (with its gradient) at zero.

    Args:
        xi: (..., 6), the translational part rho in metres, then the rotational part phi in radians.

    Returns:
        (..., 4, 4): R = Exp(phi), t = J(phi) rho with J the left Jacobian of SO(3).
    """
    rho, phi = xi[..., :3], xi[..., 3:]
    square = (phi * phi).sum(-1)[..., None, None]
    sine, cosine, cubic = _rodrigues_coefficients(square)
    hat = _hat(phi)
    hat_squared = hat @ hat
    identity = torch.eye(3, dtype=xi.dtype, device=xi.device)
    rotation = identity + sine * hat + cosine * hat_squared
    jacobian = identity + cosine * hat + cubic * hat_squared
    return from_rotation_translation(rotation, (jacobian @ rho[..., None]).squeeze(-1))


def _hat(v: Tensor) -> Tensor:
    x, y, z = v.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.stack((zero, -z, y, z, zero, -x, -y, x, zero), dim=-1).unflatten(-1, (3, 3))


def _rodrigues_coefficients(square: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """sin(a)/a, (1 - cos a)/a^2 and (a - sin a)/a^3 as functions of a^2."""
    small = square < _SERIES_BELOW
    safe = torch.where(small, torch.ones_like(square), square)  # keeps 0/0 out of the gradient
    angle = safe.sqrt()
    s = torch.where(small, square, torch.zeros_like(square))
    sine = 1 - s / 6 * (1 - s / 20 * (1 - s / 42 * (1 - s / 72)))
    cosine = (1 - s / 12 * (1 - s / 30 * (1 - s / 56 * (1 - s / 90)))) / 2
    cubic = (1 - s / 20 * (1 - s / 42 * (1 - s / 72 * (1 - s / 110)))) / 6
    return (
        torch.where(small, sine, angle.sin() / angle),
        torch.where(small, cosine, 2 * (angle / 2).sin().square() / safe),
        torch.where(small, cubic, (angle - angle.sin()) / (safe * angle)),
    )
