"""A room with a table in it, intersected exactly with the rays of a camera."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from crisp_ros.observation.frame import Camera

from .cycles import TexturedQuad
from .materials import Material, cloth, plaster, spectral_noise, tiles, wood

Array = NDArray[np.float32]

_TABLE_PX_M, _ROOM_PX_M = 1500.0, 300.0  # of the textures of `quads`


class RoomView(NamedTuple):
    """The surface that each pixel sees.

    Attributes:
        depth: (H, W) along the optical axis, metres.
        point: (H, W, 3) world frame, metres.
        normal: (H, W, 3) world frame, unit.
        reflectance: (H, W, 3) linear.
        on_table: (H, W) bool, the table's upper side.
    """

    depth: Array
    point: Array
    normal: Array
    reflectance: Array
    on_table: NDArray[np.bool_]


@dataclass(frozen=True)
class Room:
    """World frame: z up, the table top is z = 0, its middle the origin. Metres.

    Attributes:
        table_half, table_thickness: half edges (x, y) of the top and its thickness.
        runner_half: half edges (x, y) of a cloth on it.
        lower, upper: corners of the room.
    """

    top: Material
    runner: Material
    floor: Material
    walls: Material
    pictures: NDArray[np.float32]
    table_half: tuple[float, float] = (0.75, 0.5)
    table_thickness: float = 0.035
    runner_half: tuple[float, float] = (0.34, 0.24)
    lower: tuple[float, float, float] = (-2.3, -2.0, -0.74)
    upper: tuple[float, float, float] = (2.1, 2.2, 1.8)

    def view(self, camera: Camera, T_camera_world: NDArray[np.float64]) -> RoomView:
        """Intersect every pixel's ray with table and room. The camera must be in the room."""
        rays, eye = _rays(camera, T_camera_world)
        half, thickness = self.table_half, self.table_thickness
        table_lower = np.array([-half[0], -half[1], -thickness], np.float32)
        table_upper = np.array([half[0], half[1], 0.0], np.float32)
        enter, leave, _ = _slabs(rays, eye, table_lower, table_upper)
        axis_table = _entered_axis(rays, eye, table_lower, table_upper)
        hits = (enter < leave) & (enter > 0.0)
        _, wall, axis_wall = _slabs(
            rays, eye, np.asarray(self.lower, np.float32), np.asarray(self.upper, np.float32)
        )
        distance = np.where(hits, enter, wall)
        axis = np.where(hits, axis_table, axis_wall)
        point = eye + distance[..., None] * rays
        normal = -np.sign(rays) * (np.arange(3) == axis[..., None])
        on_table = hits & (axis == 2) & (normal[..., 2] > 0)
        reflectance = self._reflectance(point, axis, hits, on_table)
        return RoomView(distance, point, normal.astype(np.float32), reflectance, on_table)

    def quads(self) -> list[TexturedQuad]:
        """Table and room for a renderer of meshes; light passes through walls and ceiling."""
        x, y, below = *self.table_half, -self.table_thickness
        (x0, y0, z0), (x1, y1, z1) = self.lower, self.upper
        table = [
            self._quad((-x, -y, 0.0), (2.0 * x, 0.0, 0.0), (0.0, 2.0 * y, 0.0), 2, True),
            *(
                self._quad((-x, side, below), (2.0 * x, 0.0, 0.0), (0.0, 0.0, -below), 1, True)
                for side in (-y, y)
            ),
            *(
                self._quad((side, -y, below), (0.0, 2.0 * y, 0.0), (0.0, 0.0, -below), 0, True)
                for side in (-x, x)
            ),
        ]
        along_x, along_y, up = (x1 - x0, 0.0, 0.0), (0.0, y1 - y0, 0.0), (0.0, 0.0, z1 - z0)
        return [
            *table,
            *(self._quad((x0, y0, z), along_x, along_y, 2, False) for z in (z0, z1)),
            *(self._quad((x0, y, z0), along_x, up, 1, False) for y in (y0, y1)),
            *(self._quad((x, y0, z0), along_y, up, 0, False) for x in (x0, x1)),
        ]

    def _quad(
        self,
        corner: tuple[float, float, float],
        along: tuple[float, float, float],
        across: tuple[float, float, float],
        axis: int,
        of_table: bool,
    ) -> TexturedQuad:
        """The parallelogram from a corner, with the reflectance that `view` sees on it."""
        start, first, second = (np.array(v) for v in (corner, along, across))
        density = _TABLE_PX_M if of_table else _ROOM_PX_M
        columns, rows = (max(2, round(density * np.linalg.norm(v))) for v in (first, second))
        u = ((np.arange(columns) + 0.5) / columns)[None, :, None]
        v = ((np.arange(rows) + 0.5) / rows)[:, None, None]
        point = (start + u * first + v * second).astype(np.float32)
        shape = point.shape[:2]
        here, on_top = np.full(shape, of_table), np.full(shape, of_table and axis == 2)
        reflectance = self._reflectance(point, np.full(shape, axis), here, on_top)
        corners = np.array([start, start + first, start + first + second, start + second])
        is_floor = axis == 2 and corner[2] < 0.0
        return TexturedQuad(corners, reflectance.astype(np.float32), of_table or is_floor)

    def _reflectance(
        self, point: Array, axis: NDArray, of_table: NDArray, on_table: NDArray
    ) -> Array:
        result = np.empty_like(point)
        on_floor = (axis == 2) & ~of_table & (point[..., 2] < 0.0)
        on_wall = ~of_table & ~on_floor
        cloth_here = on_table & (np.abs(point[..., :2]) < self.runner_half).all(-1)
        bare = of_table & ~cloth_here
        result[bare] = self.top.at(point[bare][:, 0], point[bare][:, 1])
        result[cloth_here] = self.runner.at(point[cloth_here][:, 0], point[cloth_here][:, 1])
        result[on_floor] = self.floor.at(point[on_floor][:, 0], point[on_floor][:, 1])
        along = np.where(axis == 0, point[..., 1], point[..., 0])[on_wall]
        result[on_wall] = self._wall(along, point[on_wall][:, 2])
        return result

    def _wall(self, along: Array, height: Array) -> Array:
        """Painted plaster, a skirting board, a rail and pictures that hang on it."""
        colour = self.walls.at(along, height)
        panel = height < 0.12
        colour = np.where(panel[:, None], colour * np.float32([0.52, 0.56, 0.6]), colour)
        skirting = height < self.lower[2] + 0.12
        rail = (height > 0.12) & (height < 0.17)
        colour = np.where((skirting | rail)[:, None], np.float32(0.72), colour)
        cell = np.floor(along / 1.05)
        u, v = along / 1.05 - cell, (height - 0.4) / 0.62
        inside = (np.abs(u - 0.5) < 0.31) & (v > 0.0) & (v < 1.0)
        frame = inside & ~((np.abs(u - 0.5) < 0.28) & (v > 0.055) & (v < 0.945))
        side = self.pictures.shape[1]
        which = cell.astype(int) % len(self.pictures)
        row = np.clip((v * side).astype(int), 0, side - 1)
        column = np.clip(((u - 0.2) / 0.6 * side).astype(int), 0, side - 1)
        colour = np.where(inside[:, None], self.pictures[which, row, column], colour)
        return np.where(frame[:, None], np.float32([0.09, 0.06, 0.04]), colour)


def furnished_room(rng: np.random.Generator) -> Room:
    """A room whose surfaces are drawn at random."""
    cloths = (
        ((0.52, 0.47, 0.38), (0.08, 0.17, 0.25)),
        ((0.16, 0.22, 0.20), (0.45, 0.40, 0.30)),
        ((0.47, 0.44, 0.40), (0.36, 0.10, 0.07)),
    )
    paints = ((0.60, 0.56, 0.47), (0.42, 0.50, 0.50), (0.56, 0.50, 0.44))
    return Room(
        top=wood(1024, rng),
        runner=cloth(576, rng, cloths[rng.integers(len(cloths))]),
        floor=tiles(768, rng),
        walls=plaster(512, rng, paints[rng.integers(len(paints))]),
        pictures=np.stack([_picture(128, rng) for _ in range(3)]),
    )


def _picture(side: int, rng: np.random.Generator) -> Array:
    """An abstract landscape: bands of colour that follow noise."""
    height = np.linspace(1.0, 0.0, side, dtype=np.float32)[:, None]
    height = height + 0.08 * spectral_noise(side, 2.0, rng, stretch=(3.0, 1.0))
    bands = np.sort(rng.uniform(0.1, 0.9, 4))
    colours = rng.uniform(0.05, 0.6, (5, 1)) * rng.uniform(0.5, 1.0, (5, 3))
    return colours[np.searchsorted(bands, height)].astype(np.float32)


def _rays(camera: Camera, T_camera_world: NDArray[np.float64]) -> tuple[Array, Array]:
    """World directions (H, W, 3) of optical-axis length 1, and the camera's place (3,)."""
    x = (np.arange(camera.width) - camera.cx) / camera.fx
    y = (np.arange(camera.height) - camera.cy) / camera.fy
    local = np.stack([*np.meshgrid(x, y), np.ones((camera.height, camera.width))], axis=-1)
    rotation = T_camera_world[:3, :3]
    eye = -rotation.T @ T_camera_world[:3, 3]
    return (local @ rotation).astype(np.float32), eye.astype(np.float32)


def _slabs(rays: Array, eye: Array, lower: Array, upper: Array) -> tuple[Array, Array, NDArray]:
    """Compute where rays enter and leave a box, and the axis of the exit face."""
    inverse = 1.0 / np.where(np.abs(rays) < 1e-9, np.float32(1e-9), rays)
    a, b = (lower - eye) * inverse, (upper - eye) * inverse
    far = np.maximum(a, b)
    return np.minimum(a, b).max(-1), far.min(-1), far.argmin(-1)


def _entered_axis(rays: Array, eye: Array, lower: Array, upper: Array) -> NDArray:
    inverse = 1.0 / np.where(np.abs(rays) < 1e-9, np.float32(1e-9), rays)
    return np.minimum((lower - eye) * inverse, (upper - eye) * inverse).argmax(-1)
