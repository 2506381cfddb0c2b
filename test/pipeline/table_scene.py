"""Two known objects and some that no library has, on a table that a camera sees."""

from __future__ import annotations

import dataclasses

import numpy as np
from analytic import AnalyticShape, box, bracket, cylinder
from analytic_scene import CAMERA, rendered, truthful_model
from numpy.typing import NDArray

from crisp_ros.network.checkpoint import Model
from crisp_ros.observation.frame import Frame
from crisp_ros.synthesis.scenes import look_at

T_CAMERA_TABLE = look_at(np.array([0.1, -0.55, 0.45]), np.zeros(3))
KNOWN = (box((0.04, 0.025, 0.055)), bracket(0.12, 0.09, 0.05, 0.02))
TIN, CARTON = cylinder(0.05, 0.06, "tin"), box((0.035, 0.03, 0.07), "carton")
TIN_PLACE, CARTON_PLACE = (-0.02, 0.12), (0.22, 0.02)
UNKNOWN = 20  # label of the first object that is not known
_PLACES = ((-0.14, -0.03), (0.06, -0.09))


def standing(shape: AnalyticShape, place: tuple[float, float], yaw: float) -> NDArray[np.float64]:
    """T_camera_object of a shape that stands on the table."""
    T = np.eye(4)
    cosine, sine = np.cos(yaw), np.sin(yaw)
    T[:2, :2] = [[cosine, -sine], [sine, cosine]]
    T[:3, 3] = *place, -shape.lower[2]
    return T_CAMERA_TABLE @ T


def table_frame(*unknown: tuple[AnalyticShape, tuple[float, float]]) -> Frame:
    """The known objects, with labels 1 and 2, and others at places on the table.

    A colour is a coordinate of the object there; those of the others are noise.
    """
    objects = [*zip(KNOWN, _PLACES, strict=True), *unknown]
    labels = [1, 2, *range(UNKNOWN, UNKNOWN + len(unknown))]
    poses = [standing(shape, place, 0.4 + i) for i, (shape, place) in enumerate(objects)]
    frame = rendered([shape for shape, _ in objects], poses, labels).frame
    noise = np.random.default_rng(0).integers(0, 256, frame.rgb.shape).astype(np.uint8)
    rgb = np.where((frame.labels >= UNKNOWN)[..., None], noise, frame.rgb)
    depth = np.where(frame.labels == 0, _table_depth(), frame.depth)
    return dataclasses.replace(frame, rgb=rgb, depth=depth.astype(np.float32))


def known_model(unknown: int) -> Model:
    """A model that knows the first two objects of a frame; it takes the others for the first."""
    return truthful_model(KNOWN, (0, 1, *[0] * unknown))


def _table_depth() -> NDArray[np.float64]:
    """Depth (H, W) of the table alone, metres."""
    v, u = np.mgrid[: CAMERA.height, : CAMERA.width]
    x, y = (u - CAMERA.cx) / CAMERA.fx, (v - CAMERA.cy) / CAMERA.fy
    rays = np.stack([x, y, np.ones(u.shape)], axis=-1)
    normal = T_CAMERA_TABLE[:3, 2]
    depth = (normal @ T_CAMERA_TABLE[:3, 3]) / (rays @ normal)
    return np.where((depth > 0) & (depth < 2.0), depth, 0.0)
