"""Samples for the segmentation network: augmented inputs and targets from stored renders."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from crisp_ros.segmentation.network import OFFSET_PX
from crisp_ros.segmentation.network_input import network_input

from .segmenter_frames import DEPTH_UNIT_M, StoredFrames

_STEP = 2  # pixels of the input along an edge of a pixel of the output
_BORDER_PX = 2  # of the output, to another object
_NO_PLANE_SHARE = 0.1
_NO_COLOUR_SHARE = 0.1
_GREY_SHARE = 0.15
_UPSIDE_DOWN_SHARE = 0.05


class SegmenterSample(NamedTuple):
    """One image.

    Attributes:
        inputs: (8, H, W) float32, see `network_input`.
        labels: (h, w) at the size of the output, 0 for the background.
        offset: (2, h, w) columns and rows to the object's centre, in `OFFSET_PX`.
        border: (h, w) whether another object is next to the pixel.
        weight: (h, w) of the offsets: large and small objects count alike; 0 outside of them.
    """

    inputs: NDArray[np.float32]
    labels: NDArray[np.uint8]
    offset: NDArray[np.float32]
    border: NDArray[np.bool_]
    weight: NDArray[np.float32]


def segmenter_sample(frames: StoredFrames, index: int, rng: np.random.Generator) -> SegmenterSample:
    """Build the sample of a frame, with fresh augmentation."""
    rgb, labels = frames.rgb[index], frames.labels[index]
    depth = frames.depth[index] * np.float32(DEPTH_UNIT_M)
    fx, fy, cx, cy = frames.intrinsics[index].astype(np.float32)
    x = (np.arange(depth.shape[1], dtype=np.float32) - cx) / fx * depth
    y = ((np.arange(depth.shape[0], dtype=np.float32) - cy) / fy)[:, None] * depth
    points = np.stack([x, y, depth], axis=-1)
    valid = depth > 0.0
    height = np.zeros_like(depth)
    if rng.random() >= _NO_PLANE_SHARE:
        plane = frames.plane[index] + rng.normal(0.0, (0.006, 0.006, 0.006, 0.003))
        height = points @ plane[:3].astype(np.float32) + np.float32(plane[3])
    if rng.random() < 0.5:
        rgb, labels, height, valid = (a[:, ::-1] for a in (rgb, labels, height, valid))
        points = points[:, ::-1] * np.float32([-1, 1, 1])
    if rng.random() < _UPSIDE_DOWN_SHARE:
        rgb, labels, height, valid = (a[::-1, ::-1] for a in (rgb, labels, height, valid))
        points = points[::-1, ::-1] * np.float32([-1, -1, 1])
    inputs = network_input(rgb, points, height, valid)
    inputs[:3] = _recoloured(inputs[:3], rng)
    return SegmenterSample(inputs, *segmenter_targets(labels))


def segmenter_targets(
    labels: NDArray[np.uint8],
) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.bool_], NDArray[np.float32]]:
    """Labels, offsets, borders and weights at the output's size, from labels (H, W)."""
    small = np.ascontiguousarray(labels[::_STEP, ::_STEP])
    count = np.bincount(small.ravel(), minlength=256).astype(np.float32)
    rows, columns = np.indices(small.shape, dtype=np.float32)
    size = np.maximum(count, 1.0)
    u = np.bincount(small.ravel(), columns.ravel(), minlength=256) / size
    v = np.bincount(small.ravel(), rows.ravel(), minlength=256) / size
    offset = np.stack([u[small] - columns, v[small] - rows]).astype(np.float32) / OFFSET_PX
    window = np.ones((2 * _BORDER_PX + 1,) * 2, np.uint8)
    highest = cv2.dilate(small, window)
    lowest = 255 - cv2.dilate(np.where(small > 0, 255 - small, 0).astype(np.uint8), window)
    objects = small > 0
    border = objects & ((highest != small) | (lowest != small))
    weight = np.where(objects, 1.0 / np.sqrt(size)[small], 0.0).astype(np.float32)
    return small, np.where(objects, offset, 0.0).astype(np.float32), border, weight


def _recoloured(colour: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    draw = rng.random()
    if draw < _NO_COLOUR_SHARE:
        return np.zeros_like(colour)
    if draw < _NO_COLOUR_SHARE + _GREY_SHARE:
        colour = np.broadcast_to(colour.mean(0), colour.shape)
    gain = rng.normal(1.0, 0.15) * rng.normal(1.0, 0.06, (3, 1, 1))
    return (colour * gain + rng.normal(0.0, 0.1)).astype(np.float32)
