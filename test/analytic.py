"""Shapes with a closed-form signed distance: the oracles of the tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class AnalyticShape:
    """A shape with its signed distance and bounding box, object frame, metres."""

    name: str
    distance: Callable[[Tensor], Tensor]
    lower: tuple[float, float, float]
    upper: tuple[float, float, float]

    def sdf(self, points: Tensor) -> Tensor:
        """Return signed distances (...,) of points (..., 3), negative inside."""
        return self.distance(points)

    def surface(self, count: int, generator: torch.Generator, visible_from: Sequence[float] = ()):
        """Sample points (count, 3) approximately uniformly on the surface.

        With `visible_from` (a direction in the object frame, towards the viewer), samples only
        points that a distant viewer in this direction sees.
        """
        lower, upper = torch.tensor(self.lower).double(), torch.tensor(self.upper).double()
        margin = 0.05 * (upper - lower).norm()
        found: list[Tensor] = []
        while sum(len(f) for f in found) < count:
            shape = (4 * count, 3)
            x = torch.rand(shape, generator=generator, dtype=torch.float64)
            x = lower - margin + x * (upper - lower + 2 * margin)
            # Project only points of a thin shell: distant points would accumulate on the edges.
            x = x[self.sdf(x).abs() < 0.5 * margin]
            for _ in range(8):
                distance, gradient = self._distance_and_gradient(x)
                x = x - distance[:, None] * gradient
            x = x[self.sdf(x).abs() < 1e-5]
            if len(visible_from):
                x = x[self._is_seen(x, visible_from)]
            found.append(x)
        return torch.cat(found)[:count]

    def normals(self, points: Tensor) -> Tensor:
        """Return unit normals (N, 3) at points (N, 3) on the surface."""
        gradient = self._distance_and_gradient(points)[1]
        return gradient / gradient.norm(dim=-1, keepdim=True)

    def _distance_and_gradient(self, points: Tensor) -> tuple[Tensor, Tensor]:
        x = points.detach().requires_grad_(True)
        distance = self.sdf(x)
        (gradient,) = torch.autograd.grad(distance.sum(), x)
        return distance.detach(), gradient

    def _is_seen(self, points: Tensor, direction: Sequence[float]) -> Tensor:
        """Return whether the ray from each surface point to the viewer misses the shape."""
        ray = torch.tensor(list(direction)).to(points)
        ray = ray / ray.norm()
        size = (torch.tensor(self.upper) - torch.tensor(self.lower)).norm().item()
        steps = torch.linspace(0.001, size, 400).to(points)
        along = points[:, None, :] + steps[:, None] * ray
        return (self.sdf(along) > -1e-6).all(dim=-1) & ((self.normals(points) @ ray) > 0.1)


def sphere(radius: float, name: str = "sphere") -> AnalyticShape:
    """Return a sphere around the origin."""
    return AnalyticShape(name, lambda p: p.norm(dim=-1) - radius, (-radius,) * 3, (radius,) * 3)


def _box(points: Tensor, half: Sequence[float], centre: Sequence[float] = (0, 0, 0)) -> Tensor:
    q = (points - torch.tensor(centre).to(points)).abs() - torch.tensor(half).to(points)
    outside = (q.clamp_min(0.0).square().sum(-1) + 1e-24).sqrt()
    return outside + q.amax(dim=-1).clamp_max(0.0)


def box(half: Sequence[float], name: str = "box") -> AnalyticShape:
    """Return an axis-aligned box around the origin, given its half edges."""
    a, b, c = half
    return AnalyticShape(name, lambda p: _box(p, half), (-a, -b, -c), (a, b, c))


def _radius_height(points: Tensor) -> Tensor:
    """Return profile coordinates (..., 2): distance to the z axis, and height."""
    radius = (points[..., :2].square().sum(-1) + 1e-24).sqrt()
    return torch.stack((radius, points[..., 2]), dim=-1)


def _cylinder(points: Tensor, radius: float, half_height: float) -> Tensor:
    return _box(_radius_height(points), (radius, half_height), (0.0, 0.0))


def cylinder(radius: float, half_height: float, name: str = "cylinder") -> AnalyticShape:
    """Return an upright cylinder (axis z) around the origin."""
    lower = (-radius, -radius, -half_height)
    upper = (radius, radius, half_height)
    return AnalyticShape(name, lambda p: _cylinder(p, radius, half_height), lower, upper)


def capsule(radius: float, half_length: float, name: str = "capsule") -> AnalyticShape:
    """Return a capsule: a sphere swept along a segment of the z axis, of `half_length`."""

    def distance(points: Tensor) -> Tensor:
        z = points[..., 2:]
        offset = torch.cat((points[..., :2], z - z.clamp(-half_length, half_length)), dim=-1)
        return offset.norm(dim=-1) - radius

    reach = half_length + radius
    return AnalyticShape(name, distance, (-radius, -radius, -reach), (radius, radius, reach))


def cup(radius: float, half_height: float, wall: float, name: str = "cup") -> AnalyticShape:
    """Return an open cylinder with a bottom, axis z, opening upwards."""

    def distance(points: Tensor) -> Tensor:
        return _cup(points, radius, half_height, wall)

    lower = (-radius, -radius, -half_height)
    return AnalyticShape(name, distance, lower, (radius, radius, half_height))


def _cup(points: Tensor, radius: float, half_height: float, wall: float) -> Tensor:
    profile = _radius_height(points)
    side = _box(profile, (wall / 2, half_height), (radius - wall / 2, 0.0))
    bottom = _box(profile, (radius, wall / 2), (0.0, wall / 2 - half_height))
    return torch.minimum(side, bottom)


def mug(
    radius: float, half_height: float, wall: float, handle: float, name: str = "mug"
) -> AnalyticShape:
    """Return a cup with a round handle on the +x side that extends `handle` beyond the wall."""
    ring, thickness = handle, 0.006

    def distance(points: Tensor) -> Tensor:
        x = points[..., 0] - radius
        plane = (x.square() + points[..., 2].square() + 1e-24).sqrt() - (ring - thickness)
        torus = (plane.square() + points[..., 1].square() + 1e-24).sqrt() - thickness
        # Cut away the half of the ring inside the cup.
        torus = torch.maximum(torus, radius - wall / 2 - points[..., 0])
        return torch.minimum(_cup(points, radius, half_height, wall), torus)

    lower = (-radius, -radius, -half_height)
    return AnalyticShape(name, distance, lower, (radius + handle, radius, half_height))


def bracket(
    length: float, height: float, width: float, thickness: float, name: str = "bracket"
) -> AnalyticShape:
    """Return an L: plates along x and z that meet at a corner; bounding box centred at 0."""
    a, b, c, t = length / 2, width / 2, height / 2, thickness / 2

    def distance(points: Tensor) -> Tensor:
        foot = _box(points, (a, b, t), (0.0, 0.0, t - c))
        back = _box(points, (t, b, c), (t - a, 0.0, 0.0))
        return torch.minimum(foot, back)

    return AnalyticShape(name, distance, (-a, -b, -c), (a, b, c))


def household() -> tuple[AnalyticShape, ...]:
    """Return eight shapes of 7 to 22 cm; the mug and the cup differ only in the handle."""
    return (
        box((0.04, 0.025, 0.055)),
        sphere(0.038),
        cylinder(0.033, 0.05),
        capsule(0.022, 0.06),
        mug(0.04, 0.045, 0.008, 0.03),
        cup(0.04, 0.045, 0.008),
        bracket(0.12, 0.09, 0.05, 0.02),
        box((0.10, 0.03, 0.015), "bar"),
    )
