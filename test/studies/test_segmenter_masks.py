"""Figures of masks against the true ones."""

from types import SimpleNamespace

import numpy as np
import pytest

from crisp_ros.geometry.camera import Camera
from crisp_ros.observation.frame import Frame
from crisp_ros.studies import segmenter_masks
from crisp_ros.studies.segmenter_masks import mask_figures, picture, table_frames


class Shifted:
    """A segmenter that finds the first of two true masks, and no other."""

    def reset(self) -> None:
        pass

    def segment(self, rgb, depth, camera):
        labels = np.zeros(depth.shape, np.int32)
        labels[10:40, 10:40] = 7
        return SimpleNamespace(labels=labels)


def frame(gap_px: int) -> Frame:
    labels = np.zeros((60, 100), np.int32)
    labels[10:40, 10:40] = 1
    labels[10:40, 40 + gap_px : 70 + gap_px] = 2
    camera = Camera(100.0, 100.0, 50.0, 30.0, 100, 60)
    depth = np.full(labels.shape, 0.8, np.float32)
    return Frame(np.zeros((60, 100, 3), np.uint8), depth, labels, camera)


def test_missed_and_touching_instances_count() -> None:
    figures = mask_figures(Shifted(), [frame(0), frame(20)])
    assert figures.instances == 4
    assert figures.overlap_f == pytest.approx(0.5) and figures.above_75 == pytest.approx(0.5)
    assert figures.touching_share == pytest.approx(0.5)
    assert figures.touching_f == pytest.approx(0.5)
    assert figures.cpu_ms >= 0.0
    assert mask_figures(Shifted(), []).to_json()["overlap_f"] is None


def test_noise_changes_the_depth_and_not_the_scene(monkeypatch: pytest.MonkeyPatch) -> None:
    small = segmenter_masks.replace(segmenter_masks.TABLES, width=64, height=48)
    monkeypatch.setattr(segmenter_masks, "TABLES", small)
    (quiet,), (noisy,) = (list(table_frames([], noise, 3, 1)) for noise in (1.0, 2.0))
    assert (quiet.labels == noisy.labels).all() and quiet.labels.any()
    assert (quiet.depth != noisy.depth).any()


def test_masks_are_drawn_over_the_image() -> None:
    scene = frame(0)
    drawn = picture(Shifted(), [scene, scene])
    assert drawn.shape == (60, 100, 3)  # the image above the masks, at half the size
    masks = drawn[30:]
    assert not drawn[:30].any()
    assert masks[10:15, 10:15].any(-1).all() and not masks[25:, :].any()
