"""Closed solids and what is made of them: revolved profiles, prisms, rounded boxes, handles.

All are metres, z up. Booleans of manifold3d keep them closed and facing outwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from manifold3d import Manifold

ROUND_SEGMENTS = 64  # of a full circle, a multiple of 4: a quarter rotation maps it onto itself
_BALL_SEGMENTS = 16

Points = NDArray[np.float64]


def manifold_library():
    """The module manifold3d.

    Raises:
        ModuleNotFoundError: it is not installed.
    """
    try:
        import manifold3d
    except ModuleNotFoundError as error:
        message = "procedural shapes need manifold3d: pip install manifold3d"
        raise ModuleNotFoundError(message, name=error.name) from error
    return manifold3d


def revolved(profile: ArrayLike, segments: int = ROUND_SEGMENTS) -> Manifold:
    """Revolve a closed profile (N, 2) of radius and height about the z axis."""
    return _section(profile).revolve(segments)


def prism(outline: ArrayLike, height: float, scale_top: float = 1.0) -> Manifold:
    """Extrude an outline (N, 2) from z = 0 to `height`, its top scaled."""
    return _section(outline).extrude(height, scale_top=(scale_top, scale_top))


def rounded_box(size: Sequence[float], bevel: float) -> Manifold:
    """A box of size (3,) about the origin, its edges cut at 45 degrees by `bevel`."""
    half = np.asarray(size, np.float64) / 2.0
    if bevel <= 0.0:
        return manifold_library().Manifold.cube(tuple(2.0 * half), True)
    corners = np.array(np.meshgrid(*[[-1.0, 1.0]] * 3)).reshape(3, -1).T
    points = [corners * (half - bevel * (1.0 - np.eye(3)[axis])) for axis in range(3)]
    return convex(np.concatenate(points))


def rounded_rectangle(width: float, depth: float, radius: float, steps: int = 6) -> Points:
    """Outline (N, 2) of a rectangle about the origin whose corners are arcs."""
    radius = min(radius, 0.499 * width, 0.499 * depth)
    quarter = np.linspace(0.0, np.pi / 2.0, steps)
    arc = radius * np.stack([np.cos(quarter), np.sin(quarter)], axis=1)
    inner = np.array([width / 2.0 - radius, depth / 2.0 - radius])
    outline = []
    for quadrant, sign in enumerate(((1, 1), (-1, 1), (-1, -1), (1, -1))):
        cosine, sine = np.round([np.cos(quadrant * np.pi / 2.0), np.sin(quadrant * np.pi / 2.0)])
        rotation = np.array([[cosine, -sine], [sine, cosine]])
        outline.append(inner * sign + arc @ rotation.T)
    return np.concatenate(outline)


def convex(points: ArrayLike) -> Manifold:
    """The convex hull of points (N, 3)."""
    return manifold_library().Manifold.hull_points(np.asarray(points, np.float64))


def capsule(start: ArrayLike, end: ArrayLike, radius: float, end_radius: float = 0.0) -> Manifold:
    """A rod with round ends, conical where the radii differ (0 takes the first one)."""
    return swept([start, end], [radius, end_radius or radius])


def swept(
    path: ArrayLike, radii: Sequence[float], flatten: Sequence[float] = (1, 1, 1)
) -> Manifold:
    """A rod with round ends along a path (N, 3), N >= 2.

    Args:
        path: middle of the rod.
        radii: N of them.
        flatten: factors (3,) of its thickness along the axes.
    """
    path = np.asarray(path, np.float64)
    points = _ball_points() * np.asarray(flatten, np.float64)
    links = [
        convex(np.concatenate([a + r * points, b + s * points]))
        for a, b, r, s in zip(path[:-1], path[1:], radii[:-1], radii[1:], strict=True)
    ]
    return united(links)


def ball() -> Manifold:
    """A ball of radius one about the origin."""
    angle = np.linspace(0.0, np.pi, 13)
    return revolved(np.column_stack([np.sin(angle), -np.cos(angle)]), 32)


def bow(start: ArrayLike, end: ArrayLike, reach: float, square: float, steps: int = 9) -> Points:
    """Path (steps, 3) of a handle from a point to another one, away from the z axis along x.

    Args:
        start, end: (3,) where it begins and ends.
        reach: how far it goes out between them, metres.
        square: 0 for an arc, towards 1 for a handle with corners.
    """
    along = np.linspace(0.0, 1.0, steps)
    arc = np.sin(np.pi * along)
    out = arc ** (1.0 - 0.75 * square)
    path = np.outer(1.0 - along, start) + np.outer(along, end)
    path[:, 0] += reach * out
    return path


def united(solids: Sequence[Manifold]) -> Manifold:
    """The union of solids."""
    library = manifold_library()
    return library.Manifold.batch_boolean(list(solids), library.OpType.Add)


def placed(solid: Manifold, offset: Sequence[float]) -> Manifold:
    """The solid moved by an offset (3,), metres."""
    return solid.translate(tuple(float(value) for value in offset))


def stretched(solid: Manifold, factors: Sequence[float]) -> Manifold:
    """The solid scaled along the axes by factors (3,)."""
    return solid.scale(tuple(float(value) for value in factors))


def _section(outline: ArrayLike):
    library = manifold_library()
    points = np.ascontiguousarray(outline, np.float64)
    return library.CrossSection([points], library.FillRule.NonZero)


def _ball_points() -> Points:
    """Points of a unit ball, with all of the axes among them."""
    rings = np.linspace(0.0, np.pi, _BALL_SEGMENTS // 2 + 1)
    around = np.linspace(0.0, 2.0 * np.pi, _BALL_SEGMENTS, endpoint=False)
    polar, azimuth = (grid.ravel() for grid in np.meshgrid(rings, around))
    flat = np.sin(polar)
    return np.stack([flat * np.cos(azimuth), flat * np.sin(azimuth), np.cos(polar)], axis=1)
