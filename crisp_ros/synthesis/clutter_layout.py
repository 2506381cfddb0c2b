"""Objects that stand alone, touch, lean together in a heap or are stacked, without physics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import trimesh
from numpy.typing import NDArray
from scipy import ndimage

_CELL_M = 0.005
_SAMPLES = 4000
_FREE = -1e3  # height where there is no object
_ATTEMPTS = 30
_GROUND_M = 0.002


@dataclass(frozen=True)
class ClutterLayout:
    """Settings of `clutter_layout`.

    Attributes:
        radius_m: half edge of the square in which they are placed.
        touching_share: of objects that are moved until they touch another one.
        stacked_share: of objects that are put onto another one.
        heaped: whether all are dropped at random places, as into a bin.
        gap_m: between objects that stand alone.
        height_m: no object reaches higher.
    """

    radius_m: float = 0.3
    touching_share: float = 0.4
    stacked_share: float = 0.15
    heaped: bool = False
    gap_m: float = 0.01
    height_m: float = 0.45


class _Relief:
    """Height maps of one oriented mesh: its lower and upper side per cell."""

    def __init__(self, points: NDArray[np.float64]) -> None:
        cells = np.floor(points[:, :2] / _CELL_M).astype(int)
        self.corner = cells.min(0)
        cells -= self.corner
        self.shape = tuple(cells.max(0) + 1)
        self.top = np.full(self.shape, _FREE)
        self.bottom = np.full(self.shape, -_FREE)
        np.maximum.at(self.top, (cells[:, 0], cells[:, 1]), points[:, 2])
        np.minimum.at(self.bottom, (cells[:, 0], cells[:, 1]), points[:, 2])


def clutter_layout(
    meshes: Sequence[trimesh.Trimesh],
    rotations: Sequence[NDArray[np.float64]],
    layout: ClutterLayout,
    rng: np.random.Generator,
) -> dict[int, NDArray[np.float64]]:
    """Drop meshes one after the other onto the plane z = 0 and onto each other.

    An object comes to rest where it first touches what is below it and keeps its orientation.
    Objects for which there is no place are left out.

    Args:
        meshes: metres.
        rotations: (3, 3) mesh to world frame of each.
        layout: see `ClutterLayout`.
        rng: of everything.

    Returns:
        T_world_object (4, 4) by index of the mesh.
    """
    side = int(2.0 * layout.radius_m / _CELL_M)
    ground = np.zeros((side, side))
    placed: dict[int, NDArray[np.float64]] = {}
    spots: list[NDArray[np.int_]] = []
    for index, (mesh, rotation) in enumerate(zip(meshes, rotations, strict=True)):
        points = _surface_points(mesh, rng) @ rotation.T
        relief = _Relief(points)
        found = _place(relief, ground, spots, layout, rng)
        if found is None:
            continue
        spot, height = found
        area = tuple(slice(s, s + n) for s, n in zip(spot, relief.shape, strict=True))
        ground[area] = np.maximum(ground[area], relief.top + height)
        spots.append(spot + np.array(relief.shape) // 2)
        T = np.eye(4)
        T[:3, :3] = rotation
        T[:2, 3] = (spot - relief.corner - side // 2) * _CELL_M
        T[2, 3] = height
        placed[index] = T
    return placed


def _surface_points(mesh: trimesh.Trimesh, rng: np.random.Generator) -> NDArray[np.float64]:
    sampled, _ = trimesh.sample.sample_surface(mesh, _SAMPLES, seed=int(rng.integers(2**31)))
    return np.concatenate([sampled, mesh.vertices])


def _place(
    relief: _Relief,
    ground: NDArray[np.float64],
    spots: Sequence[NDArray[np.int_]],
    layout: ClutterLayout,
    rng: np.random.Generator,
) -> tuple[NDArray[np.int_], float] | None:
    """Choose the cell of the relief's corner and its height above the plane."""
    room = np.array(ground.shape) - relief.shape
    if (room <= 0).any():
        return None
    draw = rng.random()
    if layout.heaped:
        kind = "heaped"
    elif spots and draw < layout.stacked_share:
        kind = "stacked"
    elif spots and draw < layout.stacked_share + layout.touching_share:
        kind = "touching"
    else:
        kind = "alone"
    gap = max(1, round(layout.gap_m / _CELL_M))
    wide = ndimage.maximum_filter(ground, 2 * gap + 1) if kind == "alone" else ground
    for _ in range(_ATTEMPTS):
        spot = rng.integers(0, room)
        if kind == "stacked":
            near = spots[rng.integers(len(spots))] - np.array(relief.shape) // 2
            spot = np.clip(near + np.rint(rng.normal(0.0, 2.0, 2)).astype(int), 0, room - 1)
        elif kind == "touching":
            pushed = _pushed(relief, ground, spots[rng.integers(len(spots))], room, rng)
            if pushed is None:
                continue
            spot = pushed
        height = _resting_height(relief, wide, spot)
        if kind in ("alone", "touching") and height > _ground_height(relief) + _GROUND_M:
            continue
        if kind == "alone":
            height = _resting_height(relief, ground, spot)
        if height + float(relief.top.max()) < layout.height_m:
            return spot, height
    return None


def _pushed(
    relief: _Relief,
    ground: NDArray[np.float64],
    near: NDArray[np.int_],
    room: NDArray[np.int_],
    rng: np.random.Generator,
) -> NDArray[np.int_] | None:
    """The first free spot on a random ray away from an object."""
    angle = rng.uniform(0.0, 2.0 * np.pi)
    direction = np.array([np.cos(angle), np.sin(angle)])
    start = near - np.array(relief.shape) // 2
    for step in range(1, 70):
        spot = np.rint(start + step * direction).astype(int)
        if (spot < 0).any() or (spot >= room).any():
            return None
        if _resting_height(relief, ground, spot) <= _ground_height(relief) + _GROUND_M:
            return spot
    return None


def _ground_height(relief: _Relief) -> float:
    """Height of the mesh's origin where it stands on the plane."""
    return -float(relief.bottom.min())


def _resting_height(relief: _Relief, ground: NDArray[np.float64], spot: NDArray[np.int_]) -> float:
    area = tuple(slice(s, s + n) for s, n in zip(spot, relief.shape, strict=True))
    return float((ground[area] - relief.bottom).max())
