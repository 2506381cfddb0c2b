"""Soft light on resting objects: many distant lights, each with a shadow map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import trimesh
from numpy.typing import NDArray

from crisp_ros.geometry.se3 import transform
from crisp_ros.observation.frame import Camera

from .renderer import Placement, Renderer, Scene
from .scenes import look_at

Array = NDArray[np.float32]

_MAP_PX = 512
_DISTANCE_M = 8.0  # far enough for a pinhole camera to be nearly orthographic
_LIFT_M = 0.003  # points are tested this far off their surface, so that it does not shade itself
_BIAS_M = 0.002
_WINDOW_DEG, _LAMP_DEG = 14.0, 9.0  # from the middle of each to its rim
WIDTHS_RAD = tuple(np.deg2rad([2.0 * _WINDOW_DEG, 2.0 * _LAMP_DEG]).tolist())


class Lamps(NamedTuple):
    """Distant lights.

    Attributes:
        direction: (L, 3) unit vectors from the scene to the lights, world frame, z up.
        irradiance: (L, 3) that each gives to a surface facing it.
    """

    direction: Array
    irradiance: Array

    def above(self) -> Array:
        """Irradiance (3,) of a surface that faces up."""
        return np.clip(self.direction[:, 2], 0.0, None) @ self.irradiance


class IndoorLight(NamedTuple):
    """The light of a room.

    Attributes:
        all: a window, a lamp and the light of the walls, each split into many lights that together
            give soft shadows.
        brightest: window and lamp as one light each, which fill the angles `WIDTHS_RAD`.
    """

    all: Lamps
    brightest: Lamps


def indoor_light(
    rng: np.random.Generator, window: int = 36, lamp: int = 20, walls: int = 56
) -> IndoorLight:
    """A broad window to one side, a warm lamp on the other, and bright walls all around."""
    azimuth = rng.uniform(0.0, 2.0 * np.pi)
    window_colour = 1.25 * np.array([0.96, 1.0, 1.06])
    lamp_colour = 0.55 * np.array([1.12, 0.98, 0.78])
    groups = [
        (_disc(azimuth, 38.0, _WINDOW_DEG, window, rng), window_colour),
        (_disc(azimuth + 2.5, 58.0, _LAMP_DEG, lamp, rng), lamp_colour),
        (_hemisphere(walls), 1.1 * np.array([1.0, 0.985, 0.95])),
    ]
    direction = np.concatenate([d for d, _ in groups])
    irradiance = np.concatenate([np.tile(e / len(d), (len(d), 1)) for d, e in groups])
    centres = np.concatenate(
        [_disc(azimuth, 38.0, 0.0, 1, rng), _disc(azimuth + 2.5, 58.0, 0.0, 1, rng)]
    )
    return IndoorLight(
        Lamps(direction.astype(np.float32), irradiance.astype(np.float32)),
        Lamps(centres.astype(np.float32), np.float32([window_colour, lamp_colour])),
    )


class Lighting:
    """Light that arrives in a scene whose objects do not move.

    Args:
        meshes, T_world_object: what casts shadows.
        lamps: the lights.
        radius_m: all objects are within this distance of the origin.
    """

    def __init__(
        self,
        meshes: Sequence[trimesh.Trimesh],
        T_world_object: Sequence[NDArray[np.float64]],
        lamps: Lamps,
        radius_m: float,
    ) -> None:
        self.lamps = lamps
        focal = 0.5 * _MAP_PX * _DISTANCE_M / radius_m
        middle = (_MAP_PX - 1) / 2
        self._camera = Camera(focal, focal, middle, middle, _MAP_PX, _MAP_PX)
        self._T_light_world = []
        self._depth = []
        renderer = Renderer(meshes, _MAP_PX, _MAP_PX)
        for direction in lamps.direction:
            T = look_at(_DISTANCE_M * direction.astype(np.float64), np.zeros(3))
            placements = tuple(Placement(i, T @ pose) for i, pose in enumerate(T_world_object))
            depth = renderer.render(Scene(self._camera, placements)).depth
            self._depth.append(np.where(depth > 0.0, depth, np.inf).astype(np.float32))
            self._T_light_world.append(T.astype(np.float32))
        renderer.release()

    def irradiance(self, points: Array, normals: Array) -> Array:
        """Light that arrives at surfaces, (N, 3), from points and unit normals (N, 3), world."""
        points, normals = np.asarray(points, np.float32), np.asarray(normals, np.float32)
        total = np.zeros((len(points), 3), np.float32)
        for light, direction in enumerate(self.lamps.direction):
            facing = normals @ direction
            lit = np.flatnonzero(facing > 0.0)
            lit = lit[self._visible(light, points[lit] + _LIFT_M * normals[lit])]
            total[lit] += facing[lit, None] * self.lamps.irradiance[light]
        return total

    def _visible(self, light: int, points: Array) -> NDArray[np.bool_]:
        """Whether a light reaches each point (N, 3)."""
        T = self._T_light_world[light]
        local = transform(T, points)
        scale = np.float32(self._camera.fx) / local[:, 2]
        u = np.rint(local[:, 0] * scale + self._camera.cx).astype(np.int32)
        v = np.rint(local[:, 1] * scale + self._camera.cy).astype(np.int32)
        inside = (u >= 0) & (v >= 0) & (u < _MAP_PX) & (v < _MAP_PX)
        u, v = np.clip(u, 0, _MAP_PX - 1), np.clip(v, 0, _MAP_PX - 1)
        return ~inside | (local[:, 2] <= self._depth[light][v, u] + _BIAS_M)


def _disc(
    azimuth: float, elevation_deg: float, spread_deg: float, count: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Directions spread evenly over a disc of the sky."""
    index = np.arange(count) + 0.5
    radius = np.deg2rad(spread_deg) * np.sqrt(index / count)
    angle = index * np.pi * (3.0 - np.sqrt(5.0)) + rng.uniform(0.0, 2.0 * np.pi)
    up = np.deg2rad(elevation_deg) + radius * np.sin(angle)
    around = azimuth + radius * np.cos(angle) / np.cos(np.deg2rad(elevation_deg))
    return np.stack([np.cos(up) * np.cos(around), np.cos(up) * np.sin(around), np.sin(up)], 1)


def _hemisphere(count: int) -> NDArray[np.float64]:
    """Directions spread evenly over the upper half sphere, none of them quite at the zenith."""
    index = np.arange(count) + 0.5
    z = 1.0 - index / count
    angle = index * np.pi * (3.0 - np.sqrt(5.0))
    radius = np.sqrt(1.0 - z * z)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle), z], 1)
