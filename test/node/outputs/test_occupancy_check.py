"""The place of an unseen object: free, occupied or out of view."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from analytic import mug
from analytic_scene import CAMERA, rendered

from crisp_ros.node.outputs.occupancy_check import Occupancy, check_occupancy
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
    [(1.0, Occupancy.FREE), (0.4, Occupancy.OCCUPIED), (0.0, Occupancy.UNKNOWN)],
    ids=["a wall behind it", "a hand before it", "no depth"],
)
def test_the_depth_at_the_place_determines_the_occupancy(
    surface, depth: float, expected: Occupancy
) -> None:
    assert check_occupancy(surface, POSE, frame(depth)) is expected


def test_the_place_of_an_unsegmented_object_is_occupied(surface) -> None:
    seen = rendered([MUG], [POSE], [3]).frame
    background = frame(np.where(seen.depth > 0, seen.depth, 1.2))
    assert check_occupancy(surface, POSE, background) is Occupancy.OCCUPIED
    assert check_occupancy(surface, at(-0.1, -0.02, 0.6), background) is Occupancy.FREE


def test_a_place_covered_in_part_is_free(surface) -> None:
    depth = np.full((CAMERA.height, CAMERA.width), 1.0)
    u = round(CAMERA.fx * 0.05 / 0.6 + CAMERA.cx)
    depth[:, u + 12 :] = 0.3
    assert check_occupancy(surface, POSE, frame(depth)) is Occupancy.FREE
    depth[:, u - 10 :] = 0.3
    assert check_occupancy(surface, POSE, frame(depth)) is Occupancy.OCCUPIED


@pytest.mark.parametrize("T", [at(2.0, 0.0, 0.6), at(0.0, 0.0, -0.6), at(0.0, 0.0, 0.0)])
def test_the_occupancy_out_of_view_is_unknown(surface, T) -> None:
    assert check_occupancy(surface, T, frame(1.0)) is Occupancy.UNKNOWN


def test_without_a_surface_the_occupancy_is_unknown() -> None:
    assert check_occupancy(np.zeros((0, 3)), POSE, frame(1.0)) is Occupancy.UNKNOWN
