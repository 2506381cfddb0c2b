"""Depth images of scattered scenes as cameras of many kinds would measure them."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from crisp_ros.observation.frame import Camera

from .renderer import Rendering
from .sensor import DepthSensor, sensed_depth

_COARSE = 8  # px; what is behind the objects is made at this resolution


def measured_depth(
    rendering: Rendering, camera: Camera, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Depth (H, W) in metres that a random sensor measures, 0 where it measures nothing."""
    behind = depth_behind(rendering.depth, rng)
    depth = np.where(rendering.instances > 0, rendering.depth, behind).astype(np.float32)
    return sensed_depth(depth, camera, random_depth_sensor(rng), rng)


def random_depth_sensor(rng: np.random.Generator) -> DepthSensor:
    """A depth camera between a good one and a poor one; see `DepthSensor` for real ones."""
    grazing = rng.uniform(60.0, 80.0)
    return DepthSensor(
        disparity_px_m=rng.uniform(30.0, 60.0),
        step_px=float(rng.choice([0.03, 0.0625, 0.125])),
        noise_px=float(np.exp(rng.uniform(np.log(0.02), np.log(0.12)))),
        correlation_px=rng.uniform(0.6, 2.5),
        lateral_px=rng.uniform(0.0, 0.8),
        edge_loss=rng.uniform(0.1, 0.9),
        grazing_deg=(grazing, grazing + rng.uniform(5.0, 17.0)),
        random_loss=float(rng.choice([0.001, 0.005, 0.03])),
        range_m=(0.2, 6.0),
    )


def depth_behind(depth: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Depth (H, W) of what surrounds objects: now touching them, now far behind them.

    Args:
        depth: (H, W) metres of the objects, 0 elsewhere.
        rng: of the distance, which changes smoothly over the image.
    """
    height, width = depth.shape
    size = (max(2, width // _COARSE), max(2, height // _COARSE))
    coarse = cv2.resize(depth, size, interpolation=cv2.INTER_NEAREST)
    if not (coarse > 0).any():
        return np.full(depth.shape, rng.uniform(0.8, 3.0), np.float32)
    _, nearest = cv2.distanceTransformWithLabels(
        (coarse <= 0).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    table = np.zeros(nearest.max() + 1, np.float32)
    table[nearest[coarse > 0]] = coarse[coarse > 0]
    around = cv2.GaussianBlur(table[nearest], (0, 0), 2.0)
    gap = rng.uniform(0.0, 0.03) if rng.random() < 0.5 else rng.uniform(0.05, 1.5)
    tilt = rng.uniform(-0.5, 0.5, 2)
    v, u = np.mgrid[-1 : 1 : size[1] * 1j, -1 : 1 : size[0] * 1j]
    behind = around + (gap * (1.0 + tilt[0] * u + tilt[1] * v)).astype(np.float32)
    return cv2.resize(behind.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
