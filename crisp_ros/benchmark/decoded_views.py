"""Noisy views of one side of library shapes: inputs of the benchmark and of the figures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import roma
import torch
from torch import Tensor

from crisp_ros.benchmark.sphere_tracing import Viewpoint, shape_view
from crisp_ros.geometry.se3 import invert, transform
from crisp_ros.network.decoder import ShapeDecoder
from crisp_ros.network.library import ShapeLibrary

_DISTANCE_M = 0.7
_ELEVATION_DEG = (10.0, 60.0)
_OUTLIER_REACH = 0.5  # share of the shape's diameter
_MIN_POINTS = 50


class ViewError(ValueError):
    """A shape without a visible surface."""


@dataclass(frozen=True)
class ViewNoise:
    """Noise of the depth camera and the network.

    Attributes:
        depth_m: standard deviation of depth along the viewing ray.
        pnc_m: standard deviation of each network coordinate, independent from point to point.
        pnc_outliers: share of the points whose coordinates are random.
        pnc_shrink: factor by which the network's coordinates shrink towards their mean.
        pnc_shift_m: length of a common shift of the network's coordinates in a random direction.
        pnc_turn: angle of a common rotation about a random axis, radians.
    """

    depth_m: float = 0.002
    pnc_m: float = 0.005
    pnc_outliers: float = 0.1
    pnc_shrink: float = 0.95
    pnc_shift_m: float = 0.005
    pnc_turn: float = 0.1


class DecodedViews(NamedTuple):
    """One view of each of B shapes.

    Attributes:
        shapes: (B,) library indices.
        points: (B, N, 3) camera frame, metres.
        pnc: (B, N, 3) the network's coordinates, object frame, metres.
        valid: (B, N) bool.
        T_object_camera: (B, 4, 4) true poses.
    """

    shapes: Tensor
    points: Tensor
    pnc: Tensor
    valid: Tensor
    T_object_camera: Tensor

    def to(self, device: torch.device | str) -> DecodedViews:
        """Copy the views to a device."""
        return DecodedViews(*(part.to(device) for part in self))


@torch.no_grad()
def decoded_views(
    decoder: ShapeDecoder,
    library: ShapeLibrary,
    shapes: Sequence[int],
    noise: ViewNoise,
    count: int = 1000,
    seed: int = 0,
) -> DecodedViews:
    """Return noisy views of library shapes from random sides.

    Args:
        decoder: f_d, on the CPU.
        library: the shapes, on the CPU.
        shapes: B library indices.
        noise: see `ViewNoise`.
        count: number N of points of a view; those of a small shape repeat.
        seed: of sides, points and noise.

    Raises:
        ViewError: the decoder has no surface in the box of a shape.
    """
    generator = torch.Generator().manual_seed(seed)
    points, pnc, poses = [], [], []
    for shape in shapes:
        seen, T = _seen(decoder, library, shape, count, generator)
        x = transform(invert(T), seen[None])[0]
        rays = torch.nn.functional.normalize(x, dim=-1)
        points.append(x + noise.depth_m * torch.randn(count, 1, generator=generator) * rays)
        pnc.append(_predicted(seen, float(library.diameters[shape]), noise, generator))
        poses.append(T)
    return DecodedViews(
        torch.tensor(list(shapes)),
        torch.stack(points),
        torch.stack(pnc),
        torch.ones(len(points), count, dtype=torch.bool),
        torch.stack(poses),
    )


def _seen(
    decoder: ShapeDecoder, library: ShapeLibrary, shape: int, count: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Visible points (N, 3), object frame, from a random side, and T_object_camera (4, 4)."""
    azimuth, height = torch.rand(2, generator=generator).tolist()
    low, high = _ELEVATION_DEG
    diameter = float(library.diameters[shape])
    middle = ((library.lower[shape] + library.upper[shape]) / 2).tolist()
    view = Viewpoint(
        2 * math.pi * azimuth,
        math.radians(low + (high - low) * height),
        max(_DISTANCE_M, diameter),
        (middle[0], middle[1], middle[2]),
        width_m=1.1 * diameter,
    )
    found = shape_view(decoder, library.codes[shape], view, reach_m=0.6 * diameter)
    visible = found.points[found.hit]
    if len(visible) < _MIN_POINTS:
        raise ViewError(
            f"the decoder shows no surface of {library.names[shape]} in its box: "
            "is the model trained?"
        )
    order = torch.randperm(len(visible), generator=generator)
    return visible[order.repeat(math.ceil(count / len(visible)))[:count]], view.T_object_camera


def _predicted(
    points: Tensor, diameter: float, noise: ViewNoise, generator: torch.Generator
) -> Tensor:
    middle = points.mean(0)
    axis, shift = torch.nn.functional.normalize(torch.randn(2, 3, generator=generator), dim=-1)
    rotated = noise.pnc_shrink * (points - middle) @ roma.rotvec_to_rotmat(noise.pnc_turn * axis).T
    z = middle + rotated + noise.pnc_shift_m * shift
    z = z + noise.pnc_m * torch.randn(points.shape, generator=generator)
    wild = middle + _OUTLIER_REACH * diameter * torch.randn(points.shape, generator=generator)
    outlier = torch.rand(len(points), 1, generator=generator) < noise.pnc_outliers
    return torch.where(outlier, wild, z)
