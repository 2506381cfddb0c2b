"""An unseen object: gone, covered or out of view."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from analytic import mug
from analytic_scene import CAMERA, rendered

from crisp_ros.node.outputs.occupancy_check import Presence, presence
from crisp_ros.observation.frame import Frame

MUG = mug(0.04, 0.045, 0.008, 0.03)


def at(x: float, y: float, z: float) -> np.ndarray:
    T = np.eye(4)
    T[:3, 3] = x, y, z
    return T


POSE = at(0.05, -0.02, 0.6)


@pytest.fixture(scope="module")
def surface() -> np.ndarray:
    return MUG.surface(400, torch.Generator().manual_seed(0)).numpy()


def frame(depth: np.ndarray | float) -> Frame:
    depth = np.broadcast_to(np.float32(depth), (CAMERA.height, CAMERA.width)).copy()
    return Frame(np.zeros((*depth.shape, 3), np.uint8), depth, np.zeros(depth.shape, int), CAMERA)


@pytest.mark.parametrize(
    ("depth", "expected"),
    [(1.0, Presence.GONE), (0.4, Presence.POSSIBLE), (0.0, Presence.UNKNOWN)],
    ids=["a wall behind it", "a hand before it", "no depth"],
)
def test_what_the_depth_at_its_place_says(surface, depth: float, expected: Presence) -> None:
    assert presence(surface, POSE, frame(depth)) is expected


def test_an_object_that_is_there_but_not_segmented_is_not_gone(surface) -> None:
    seen = rendered([MUG], [POSE], [3]).frame
    background = frame(np.where(seen.depth > 0, seen.depth, 1.2))
    assert presence(surface, POSE, background) is Presence.POSSIBLE
    assert presence(surface, at(-0.1, -0.02, 0.6), background) is Presence.GONE


def test_a_cover_of_a_small_part_does_not_hide_that_it_is_gone(surface) -> None:
    depth = np.full((CAMERA.height, CAMERA.width), 1.0)
    u = round(CAMERA.fx * 0.05 / 0.6 + CAMERA.cx)
    depth[:, u + 12 :] = 0.3
    assert presence(surface, POSE, frame(depth)) is Presence.GONE
    depth[:, u - 10 :] = 0.3
    assert presence(surface, POSE, frame(depth)) is Presence.POSSIBLE


@pytest.mark.parametrize("T", [at(2.0, 0.0, 0.6), at(0.0, 0.0, -0.6), at(0.0, 0.0, 0.0)])
def test_out_of_view(surface, T) -> None:
    assert presence(surface, T, frame(1.0)) is Presence.UNKNOWN


def test_without_a_surface_nothing_can_be_told() -> None:
    assert presence(np.zeros((0, 3)), POSE, frame(1.0)) is Presence.UNKNOWN
