"""Shares of outlines behind which an object may go on."""

from __future__ import annotations

import numpy as np
import pytest

from crisp_ros.observation.frame import Camera, Frame
from crisp_ros.observation.outline import hidden_outline_share


def frame(column: int = 40, background_m: float = 1.0, occluder_m: float = 0.0) -> Frame:
    """A square of 20 px, 0.8 m away, from a column on; an occluder on the right of it."""
    depth = np.full((80, 120), background_m, np.float32)
    labels = np.zeros((80, 120), np.int32)
    depth[30:50, column : column + 20], labels[30:50, column : column + 20] = 0.8, 1
    if occluder_m:
        depth[20:60, column + 20 : column + 40] = occluder_m
    rgb = np.zeros((80, 120, 3), np.uint8)
    return Frame(rgb, depth, labels, Camera(100.0, 100.0, 59.5, 39.5, 120, 80))


@pytest.mark.parametrize("background_m", [0.85, 1.0, 0.79, 0.0])
def test_an_outline_in_front_of_the_background_is_seen(background_m: float) -> None:
    """Nor does a table that is hardly nearer hide anything, or a surface without depth."""
    assert hidden_outline_share(frame(background_m=background_m), 1) == 0.0


def test_the_side_next_to_an_occluder_is_hidden() -> None:
    assert hidden_outline_share(frame(occluder_m=0.6), 1) == pytest.approx(0.25, abs=0.05)
    assert hidden_outline_share(frame(occluder_m=0.9), 1) == 0.0


def test_the_side_at_the_end_of_the_image_is_hidden() -> None:
    assert hidden_outline_share(frame(column=100), 1) == pytest.approx(0.25, abs=0.05)
    assert hidden_outline_share(frame(column=0), 1) == pytest.approx(0.25, abs=0.05)
    assert hidden_outline_share(frame(column=5), 1) == 0.0


def test_an_object_without_depth_or_pixels_hides_nothing() -> None:
    seen = frame(occluder_m=0.6)
    seen.depth[seen.labels == 1] = 0.0
    assert hidden_outline_share(seen, 1) == hidden_outline_share(seen, 7) == 0.0
