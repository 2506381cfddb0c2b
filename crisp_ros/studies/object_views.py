"""Views of single objects by a noisy depth camera from random sides, with ground truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import trimesh
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from torch import Tensor

from crisp_ros.geometry.se3 import invert
from crisp_ros.observation.frame import Camera
from crisp_ros.synthesis.renderer import Placement, Renderer, Scene

_CAMERA = Camera(600.0, 600.0, 159.5, 119.5, 320, 240)


@dataclass(frozen=True)
class ObjectViewSettings:
    """Settings of `object_views`.

    Attributes:
        views: of each object.
        points: of a view.
        distance_m: least and largest distance of the camera.
        noise_m: standard deviation of depth along the ray.
        outliers: share of the points that are displaced along the ray.
        outlier_m: least and largest displacement of an outlier.
        seed: of everything.
    """

    views: int = 5
    points: int = 300
    distance_m: tuple[float, float] = (0.6, 1.1)
    noise_m: float = 0.002
    outliers: float = 0.05
    outlier_m: tuple[float, float] = (0.03, 0.3)
    seed: int = 0


class ObjectViews(NamedTuple):
    """B views, `ObjectViewSettings.views` of each object in a row.

    Attributes:
        objects: (B,) index of the object's name.
        points: (B, N, 3) camera frame, metres, with noise and outliers.
        z: (B, N, 3) the noise-free points in the object frame.
        T_object_camera: (B, 4, 4) float64.
    """

    objects: Tensor
    points: Tensor
    z: Tensor
    T_object_camera: Tensor

    @property
    def valid(self) -> Tensor:
        """Validity (B, N) of the points: all are valid."""
        return torch.ones(self.points.shape[:2], dtype=torch.bool)


def object_views(
    meshes: Mapping[str, trimesh.Trimesh],
    names: Sequence[str],
    settings: ObjectViewSettings | None = None,
) -> ObjectViews:
    """Render each object alone, with about half of its surface visible.

    Args:
        meshes: by name, object frame, metres.
        names: of the objects, in the order of their indices.
        settings: see `ObjectViewSettings`.
    """
    settings = settings or ObjectViewSettings()
    rng = np.random.default_rng(settings.seed)
    renderer = Renderer([meshes[name] for name in names], _CAMERA.width, _CAMERA.height)
    rows = []
    try:
        for k in range(len(names)):
            for _ in range(settings.views):
                T = np.eye(4)
                T[:3, :3] = Rotation.random(random_state=rng.integers(2**31)).as_matrix()
                T[2, 3] = rng.uniform(*settings.distance_m)
                depth = renderer.render(Scene(_CAMERA, (Placement(k, T),))).depth
                points, exact = _drawn(depth, settings, rng)
                T_object_camera = invert(T)
                z = trimesh.transform_points(exact, T_object_camera)
                rows.append((k, points, z, T_object_camera))
    finally:
        renderer.release()
    objects, points, z, T = zip(*rows, strict=True)
    return ObjectViews(
        torch.tensor(objects),
        torch.from_numpy(np.stack(points)).float(),
        torch.from_numpy(np.stack(z)).float(),
        torch.from_numpy(np.stack(T)),
    )


def _drawn(
    depth: NDArray[np.float32], settings: ObjectViewSettings, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Points (N, 3) of a depth image with noise, and the same without."""
    v, u = np.nonzero(depth > 0)
    chosen = rng.choice(len(u), settings.points, replace=len(u) < settings.points)
    v, u = v[chosen], u[chosen]
    z = depth[v, u].astype(np.float64)[:, None]
    x, y = (u - _CAMERA.cx) / _CAMERA.fx, (v - _CAMERA.cy) / _CAMERA.fy
    exact = z * np.stack([x, y, np.ones_like(x)], axis=1)
    off = settings.noise_m * rng.standard_normal(z.shape)
    far = rng.random(z.shape) < settings.outliers
    off += far * rng.uniform(*settings.outlier_m, z.shape)
    rays = exact / np.linalg.norm(exact, axis=1, keepdims=True)
    return exact + off * rays, exact
