"""Rectified images against the projection of points through each distortion model."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from crisp_ros.geometry.camera import Camera
from crisp_ros.geometry.rectification import rectification

CAMERA = Camera(300.0, 310.0, 162.0, 118.0, 320, 240)
MODELS = {
    "plumb_bob": (-0.25, 0.07, 0.001, -0.002, 0.01),
    "rational_polynomial": (0.4, -0.2, 0.001, -0.002, 0.01, 0.7, -0.1, 0.02),
    "equidistant": (-0.02, 0.01, -0.004, 0.001),
}


def distorted(x: np.ndarray, y: np.ndarray, model: str) -> tuple[np.ndarray, np.ndarray]:
    """Raw pixels of points (x, y, 1), from the models' equations."""
    k = MODELS[model]
    r2 = x * x + y * y
    if model == "equidistant":
        r = np.sqrt(r2)
        angle = np.arctan(r)
        a2 = angle**2
        bent = angle * (1 + k[0] * a2 + k[1] * a2**2 + k[2] * a2**3 + k[3] * a2**4)
        scale = np.where(r > 1e-9, bent / np.maximum(r, 1e-9), 1.0)
        x, y = scale * x, scale * y
    else:
        radial = 1 + k[0] * r2 + k[1] * r2**2 + k[4] * r2**3
        if model == "rational_polynomial":
            radial = radial / (1 + k[5] * r2 + k[6] * r2**2 + k[7] * r2**3)
        x, y = (
            x * radial + 2 * k[2] * x * y + k[3] * (r2 + 2 * x * x),
            y * radial + k[2] * (r2 + 2 * y * y) + 2 * k[3] * x * y,
        )
    return CAMERA.fx * x + CAMERA.cx, CAMERA.fy * y + CAMERA.cy


@pytest.mark.parametrize("model", MODELS)
def test_every_pixel_is_found_where_the_lens_put_it(model: str) -> None:
    found = rectification(CAMERA, model, MODELS[model])
    v, u = np.mgrid[: CAMERA.height, : CAMERA.width].astype(np.float64)
    x, y = (u - CAMERA.cx) / CAMERA.fx, (v - CAMERA.cy) / CAMERA.fy
    raw_u, raw_v = distorted(x, y, model)
    np.testing.assert_allclose(found.u, raw_u, atol=1e-3)
    np.testing.assert_allclose(found.v, raw_v, atol=1e-3)
    assert np.abs(found.u - u).max() > 3  # it does matter


@pytest.mark.parametrize("model", MODELS)
def test_a_disc_moves_to_where_a_pinhole_camera_sees_it(model: str) -> None:
    x, y = 0.4, -0.3
    u, v = (float(value) for value in distorted(np.array(x), np.array(y), model))
    labels = np.zeros((CAMERA.height, CAMERA.width), np.int32)
    cv2.circle(labels, (round(u), round(v)), 9, 70_000, -1)
    found = rectification(CAMERA, model, MODELS[model])
    moved = found.values(labels)
    assert moved.dtype == np.int32 and set(np.unique(moved)) == {0, 70_000}
    rows, columns = np.nonzero(moved)
    assert columns.mean() == pytest.approx(CAMERA.fx * x + CAMERA.cx, abs=1.0)
    assert rows.mean() == pytest.approx(CAMERA.fy * y + CAMERA.cy, abs=1.0)


def test_depth_is_not_blended_and_nothing_is_made_up() -> None:
    found = rectification(CAMERA, "plumb_bob", (0.5, 0.0, 0.0, 0.0, 0.0))
    depth = np.full((CAMERA.height, CAMERA.width), 1.0, np.float32)
    depth[:, 160:] = 3.0
    moved = found.values(depth)
    assert set(np.unique(moved).tolist()) == {0.0, 1.0, 3.0}
    assert moved[0, 0] == 0  # a pincushion's corner is outside the raw image
    rgb = np.full((CAMERA.height, CAMERA.width, 3), 200, np.uint8)
    assert found.colours(rgb)[120, 160].tolist() == [200, 200, 200]
    assert found.colours(rgb)[0, 0].tolist() == [0, 0, 0]
