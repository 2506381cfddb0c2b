"""Objects rest on the plane or on each other, and do not enter one another."""

import numpy as np
import trimesh

from crisp_ros.synthesis.clutter_layout import ClutterLayout, clutter_layout

CUBES = [trimesh.creation.box((0.06, 0.06, 0.06)) for _ in range(5)]
UPRIGHT = [np.eye(3)] * 5


def places(layout: ClutterLayout, seed: int = 0) -> np.ndarray:
    placed = clutter_layout(CUBES, UPRIGHT, layout, np.random.default_rng(seed))
    return np.array([T[:3, 3] for T in placed.values()])


def gaps(centres: np.ndarray) -> np.ndarray:
    """Largest distance along an axis between the faces of each pair of cubes."""
    pairs = [(a, b) for i, a in enumerate(centres) for b in centres[i + 1 :]]
    return np.array([np.abs(a - b).max() - 0.06 for a, b in pairs])


def test_objects_alone_stand_on_the_plane_and_apart() -> None:
    centres = places(ClutterLayout(touching_share=0.0, stacked_share=0.0, gap_m=0.02))
    assert len(centres) == 5
    assert np.allclose(centres[:, 2], 0.03, atol=0.001)
    assert gaps(centres).min() > 0.01


def test_touching_objects_touch() -> None:
    centres = places(ClutterLayout(touching_share=1.0, stacked_share=0.0))
    assert np.allclose(centres[:, 2], 0.03, atol=0.001)
    apart = np.abs(centres[:, None] - centres[None]).max(-1) - 0.06
    nearest = (apart + np.eye(len(centres))).min(axis=1)
    assert nearest.max() < 0.012 and nearest.min() > -0.006


def test_stacked_objects_rest_on_others() -> None:
    centres = places(ClutterLayout(touching_share=0.0, stacked_share=1.0))
    heights = np.sort(centres[:, 2])
    assert heights[0] < 0.04 and heights[1] > 0.08
    assert gaps(centres).min() > -0.006


def test_objects_without_room_are_left_out() -> None:
    table = [trimesh.creation.box((1.0, 1.0, 0.1)), *CUBES[:1]]
    layout = ClutterLayout(radius_m=0.2)
    placed = clutter_layout(table, UPRIGHT[:2], layout, np.random.default_rng(0))
    assert list(placed) == [1]
