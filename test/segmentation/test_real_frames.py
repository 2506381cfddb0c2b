"""The built-in segmenter on real frames of three cameras, where they are on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from crisp_ros.data.bop import BopDataset
from crisp_ros.evaluation.mask_overlap import InstanceOverlap, mask_overlaps, summarize_overlaps
from crisp_ros.geometry.camera import Camera
from crisp_ros.observation.frame import Frame
from crisp_ros.segmentation.segmenter import Segmenter, builtin_segmenter

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


def ycbv_frames() -> Iterator[Frame]:
    dataset = BopDataset(DATA / "bop" / "ycbv")
    yield from map(Frame.from_recorded, dataset.frames())


def camera_frames(name: str) -> Iterator[Frame]:
    for path in sorted((DATA / "real").glob(f"{name}_*.npz")):
        with np.load(path) as arrays:
            depth = arrays["depth"].astype(np.float32)
            height, width = depth.shape
            camera = Camera.from_matrix(arrays["K"], width, height)
            yield Frame(arrays["rgb"], depth, arrays["labels"], camera)


def overlaps(segmenter: Segmenter, frames: Iterator[Frame]) -> list[InstanceOverlap]:
    found = []
    for frame in frames:
        segmenter.reset()
        labels = segmenter.segment(frame.rgb, frame.depth, frame.camera).labels
        found += mask_overlaps(labels, frame.labels)
    return found


@pytest.mark.skipif(not (DATA / "bop").is_dir(), reason="the real frames are not here")
def test_masks_of_ycb_video_frames() -> None:
    summary = summarize_overlaps(overlaps(builtin_segmenter(), ycbv_frames()))
    print(summary)
    assert summary.instances == 13
    assert summary.overlap_f >= 0.8 and summary.above_75 >= 0.7


@pytest.mark.parametrize("camera", ["g6dof", "mosd"], ids=["RealSense", "Kinect"])
@pytest.mark.skipif(not (DATA / "real").is_dir(), reason="the real frames are not here")
def test_masks_of_other_cameras(camera: str) -> None:
    summary = summarize_overlaps(overlaps(builtin_segmenter(), camera_frames(camera)))
    print(summary)
    assert summary.instances >= 10 and summary.overlap_f >= 0.75
