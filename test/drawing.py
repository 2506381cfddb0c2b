"""Drawn label images, and the detection of a working renderer."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import trimesh

from crisp_ros.synthesis.renderer import Renderer, RendererError


def discs(*circles: tuple[int, int, int]) -> np.ndarray:
    """Labels (120, 160), from 1, of circles: column and row of the centre and radius, pixels."""
    labels = np.zeros((120, 160), np.uint8)
    for label, (u, v, radius) in enumerate(circles, start=1):
        cv2.circle(labels, (u, v), radius, label, -1)
    return labels.astype(np.int32)


def needs_egl() -> None:
    """Skip the test if the renderer finds no EGL."""
    try:
        Renderer([trimesh.creation.box((0.1, 0.1, 0.1))], 8, 8).release()
    except RendererError as error:
        pytest.skip(str(error))
