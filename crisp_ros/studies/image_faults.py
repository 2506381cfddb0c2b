"""Faults of masks and depth images, as segmenters and depth cameras have them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

from crisp_ros.observation.frame import Camera, Frame

SCALED = "depth x "
"""First words of the faults that scale depth."""
_JUMP = 0.03  # depth steps by a larger share are borders of surfaces

Fault = Callable[[Frame, np.random.Generator], Frame]


def with_borders_moved(frame: Frame, pixels: int, rng: np.random.Generator) -> Frame:
    """Grow all masks by some pixels, or shrink them where the number is negative.

    A grown mask covers the background, and pieces of half of its neighbours: masks are drawn in
    random order.
    """
    element = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * abs(pixels) + 1,) * 2)
    change = cv2.dilate if pixels > 0 else cv2.erode
    labels = np.zeros_like(frame.labels)
    for label in rng.permutation(np.unique(frame.labels[frame.labels > 0])):
        mask = (frame.labels == label).astype(np.uint8)
        labels[change(mask, element, borderValue=0 if pixels > 0 else 1) > 0] = label
    return dataclasses.replace(frame, labels=labels)


def with_neighbour_pieces(frame: Frame, rng: np.random.Generator, share: float = 0.12) -> Frame:
    """Add a disc of what is next to each object to its mask.

    Args:
        frame: the frame.
        rng: of the places.
        share: radius of the disc over the longer side of the mask's box.
    """
    labels = frame.labels.copy()
    for label in rng.permutation(np.unique(frame.labels[frame.labels > 0])):
        mask = (frame.labels == label).astype(np.uint8)
        _, _, width, height = cv2.boundingRect(mask)
        radius = max(2, round(share * max(width, height)))
        contour = np.concatenate(
            cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]
        )
        disc = np.zeros_like(mask)
        cv2.circle(disc, tuple(map(int, contour[rng.integers(len(contour)), 0])), radius, 1, -1)
        labels[disc > 0] = label
    return dataclasses.replace(frame, labels=labels)


def with_flying_pixels(frame: Frame, rng: np.random.Generator, reach_px: int = 2) -> Frame:
    """Replace depth near borders of surfaces by values between the two surfaces."""
    near, far = _range_of(frame.depth, reach_px)
    mixed = near + (far - near) * rng.random(frame.depth.shape, np.float32)
    depth = np.where((frame.depth > 0) & (far > (1 + _JUMP) * near), mixed, frame.depth)
    return dataclasses.replace(frame, depth=depth.astype(np.float32))


def with_edge_holes(frame: Frame, rng: np.random.Generator, reach_px: int = 3) -> Frame:
    """Remove most of the depth near borders of surfaces."""
    near, far = _range_of(frame.depth, reach_px)
    lost = (far > (1 + _JUMP) * near) & (rng.random(frame.depth.shape) < 0.8)
    return dataclasses.replace(frame, depth=np.where(lost, np.float32(0), frame.depth))


def with_scaled_depth(frame: Frame, scale: float) -> Frame:
    """Multiply all depth by a factor."""
    return dataclasses.replace(frame, depth=frame.depth * np.float32(scale))


def with_half_the_pixels(frame: Frame) -> Frame:
    """Halve the resolution, as if the objects were twice as far away from the camera."""
    camera = frame.camera
    width, height = camera.width // 2, camera.height // 2
    half = Camera(
        camera.fx / 2,
        camera.fy / 2,
        (camera.cx + 0.5) / 2 - 0.5,
        (camera.cy + 0.5) / 2 - 0.5,
        width,
        height,
    )
    rgb = cv2.resize(frame.rgb[: 2 * height, : 2 * width], None, None, 0.5, 0.5, cv2.INTER_AREA)
    every = np.s_[: 2 * height : 2, : 2 * width : 2]
    return Frame(rgb, frame.depth[every], frame.labels[every], half)


FAULTS: Mapping[str, Fault] = {
    "none": lambda frame, rng: frame,
    **{
        f"masks {'grown' if by > 0 else 'shrunk'} by {abs(by)} px": (
            lambda frame, rng, by=by: with_borders_moved(frame, by, rng)
        )
        for by in (2, 4, 6, -2, -4, -6)
    },
    "a piece of the neighbour": with_neighbour_pieces,
    "flying pixels": with_flying_pixels,
    "holes along edges": with_edge_holes,
    **{
        f"{SCALED}{scale}": (lambda frame, rng, scale=scale: with_scaled_depth(frame, scale))
        for scale in (1.02, 1.05, 1.1, 1.15)
    },
    "twice as far": lambda frame, rng: with_half_the_pixels(frame),
}
"""Faults by name."""


def _range_of(
    depth: NDArray[np.float32], reach_px: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Least and largest valid depth (H, W) within some pixels."""
    element = np.ones((2 * reach_px + 1,) * 2, np.uint8)
    near = cv2.erode(np.where(depth > 0, depth, np.float32(np.inf)), element)
    far = cv2.dilate(depth, element)
    return np.where(far > 0, near, 0).astype(np.float32), far
