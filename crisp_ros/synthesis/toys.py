"""Three toys that no data set has, drawn by formulas: objects of one's own to try training with."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import trimesh
from numpy.typing import NDArray

from crisp_ros.geometry.marching_cubes import triangulate

_CELL_M = 0.002
_MARGIN_M = 0.01

Field = Callable[[NDArray[np.float64]], NDArray[np.float64]]


class _Part(NamedTuple):
    """A signed distance (or a bound of it) of points (N, 3), and an RGB colour of points."""

    distance: Field
    colour: Callable[[NDArray[np.float64]], NDArray[np.float64]]


def toys() -> dict[str, trimesh.Trimesh]:
    """A hammer, a house and a rocket by name: closed, coloured, metres, z up, origin at the foot
    or elsewhere, as such files have it."""
    return {
        "hammer": _mesh(_hammer(), (-0.07, -0.03, 0.0), (0.07, 0.03, 0.2)),
        "house": _mesh(_house(), (-0.06, -0.05, 0.0), (0.06, 0.05, 0.13)),
        "rocket": _mesh(_rocket(), (-0.06, -0.06, 0.0), (0.06, 0.06, 0.19)),
    }


def _hammer() -> list[_Part]:
    grain = _striped((0.72, 0.5, 0.28), (0.5, 0.31, 0.15), 1, 0.012)
    return [
        _Part(_box((0.0, 0.0, 0.006), (0.04, 0.025, 0.006)), _plain((0.2, 0.2, 0.25))),
        _Part(_capsule((0.0, 0.0, 0.01), (0.0, 0.0, 0.16), 0.013), grain),
        _Part(_box((0.012, 0.0, 0.168), (0.045, 0.019, 0.019)), _plain((0.75, 0.12, 0.1))),
        _Part(
            _capsule((-0.02, 0.0, 0.168), (-0.055, 0.0, 0.155), 0.009), _plain((0.15, 0.4, 0.75))
        ),
    ]


def _house() -> list[_Part]:
    def roof(points: NDArray[np.float64]) -> NDArray[np.float64]:
        x, y, z = points.T
        slope = (np.abs(y) * 0.8 + (z - 0.115) * 0.6) / 1.0
        return np.maximum.reduce([slope, np.abs(x) - 0.052, 0.068 - z])

    def walls(points: NDArray[np.float64]) -> NDArray[np.float64]:
        x, y, z = points.T
        colour = np.tile([0.93, 0.85, 0.62], (len(points), 1))
        window = (np.abs(np.abs(x) - 0.024) < 0.01) & (np.abs(z - 0.045) < 0.01)
        colour[window & (np.abs(y) > 0.033)] = (0.25, 0.45, 0.7)
        colour[(np.abs(y) < 0.012) & (z < 0.04) & (x > 0)] = (0.35, 0.2, 0.12)
        colour[(np.abs(y) > 0.033) & (y > 0) & (z < 0.02)] = (0.3, 0.6, 0.25)
        return colour

    tiles = _striped((0.75, 0.25, 0.15), (0.5, 0.12, 0.1), 0, 0.014)
    return [
        _Part(_box((0.0, 0.0, 0.035), (0.045, 0.035, 0.035)), walls),
        _Part(roof, tiles),
        _Part(_box((0.028, 0.018, 0.1), (0.009, 0.009, 0.022)), _plain((0.4, 0.4, 0.42))),
    ]


def _rocket() -> list[_Part]:
    def body(points: NDArray[np.float64]) -> NDArray[np.float64]:
        x, y, z = points.T
        radius = 0.028 * np.sqrt(np.clip(1.0 - ((z - 0.07) / 0.11) ** 2, 0.0, None))
        return np.maximum(np.hypot(x, y) - radius, 0.012 - z) * 0.8

    def livery(points: NDArray[np.float64]) -> NDArray[np.float64]:
        x, y, z = points.T
        colour = np.tile([0.92, 0.92, 0.95], (len(points), 1))
        colour[z > 0.145] = (0.85, 0.15, 0.1)
        colour[(z > 0.05) & (z < 0.065)] = (0.1, 0.2, 0.55)
        colour[(y**2 + (z - 0.105) ** 2 < 0.011**2) & (x > 0)] = (0.2, 0.6, 0.8)
        return colour

    fins = [
        _Part(_fin(angle), _plain(colour))
        for angle, colour in (
            (0.0, (0.9, 0.7, 0.1)),
            (2.1, (0.2, 0.6, 0.3)),
            (4.2, (0.85, 0.15, 0.1)),
        )
    ]
    return [_Part(body, livery), *fins]


def _fin(angle: float) -> Field:
    def distance(points: NDArray[np.float64]) -> NDArray[np.float64]:
        x, y, z = points.T
        out = np.cos(angle) * x + np.sin(angle) * y
        across = np.abs(np.cos(angle) * y - np.sin(angle) * x) - 0.004
        return np.maximum.reduce(
            [across, -out, (out - 0.055 + 0.6 * z) * 0.85, z - 0.07, 0.002 - z]
        )

    return distance


def _box(centre: tuple[float, ...], half: tuple[float, ...]) -> Field:
    def distance(points: NDArray[np.float64]) -> NDArray[np.float64]:
        beyond = np.abs(points - centre) - half
        outside = np.linalg.norm(np.maximum(beyond, 0.0), axis=1)
        return outside + np.minimum(beyond.max(axis=1), 0.0)

    return distance


def _capsule(start: tuple[float, ...], end: tuple[float, ...], radius: float) -> Field:
    a, along = np.array(start), np.subtract(end, start)

    def distance(points: NDArray[np.float64]) -> NDArray[np.float64]:
        share = np.clip((points - a) @ along / (along @ along), 0.0, 1.0)
        return np.linalg.norm(points - a - share[:, None] * along, axis=1) - radius

    return distance


def _plain(colour: tuple[float, ...]) -> Field:
    return lambda points: np.tile(colour, (len(points), 1))


def _striped(one: tuple[float, ...], other: tuple[float, ...], axis: int, width: float) -> Field:
    def colour(points: NDArray[np.float64]) -> NDArray[np.float64]:
        odd = np.floor(points[:, axis] / width).astype(int) % 2 == 1
        return np.where(odd[:, None], one, other)

    return colour


def _mesh(
    parts: list[_Part], lower: tuple[float, ...], upper: tuple[float, ...]
) -> trimesh.Trimesh:
    """The surface of the parts together, each vertex in the colour of its part."""
    axes = [
        np.arange(low - _MARGIN_M, high + _MARGIN_M, _CELL_M)
        for low, high in zip(lower, upper, strict=True)
    ]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    values = np.min([part.distance(grid) for part in parts], axis=0)
    vertices, faces = triangulate(values.reshape([len(axis) for axis in axes]))
    vertices = np.array([axis[0] for axis in axes]) + _CELL_M * vertices
    nearest = np.argmin([part.distance(vertices) for part in parts], axis=0)
    colours = np.empty((len(vertices), 3))
    for index, part in enumerate(parts):
        own = nearest == index
        colours[own] = part.colour(vertices[own])
    paint = np.rint(255 * np.hstack([colours, np.ones((len(colours), 1))])).astype(np.uint8)
    return trimesh.Trimesh(vertices, faces, vertex_colors=paint, process=False)
