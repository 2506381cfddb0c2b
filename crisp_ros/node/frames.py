"""The messages of one moment become a frame; what is wrong with them is laid at an input's door."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
from sensor_msgs.msg import CameraInfo, Image

from crisp_ros.node import camera_info, images
from crisp_ros.observation.frame import Frame, FrameError

_PLAUSIBLE_DEPTH_M = (0.1, 10.0)
_EVERY = 4  # of the depth pixels along each axis, the share looked at for its plausibility


class FrameMessages(NamedTuple):
    """What belongs to one frame."""

    rgb: Image
    depth: Image
    segmentation: Image
    camera_info: CameraInfo


class InputError(ValueError):
    """An input that cannot be used; `input` is its name in `FrameMessages`."""

    def __init__(self, input: str, reason: str) -> None:
        super().__init__(reason)
        self.input = input


def frame(messages: FrameMessages, rectified: bool) -> Frame:
    """The frame that messages describe.

    Args:
        messages: colour, depth registered to it, segmentation and calibration.
        rectified: the images are rectified.

    Raises:
        InputError: an encoding, size or calibration that cannot be used.
    """
    with _blaming("rgb"):
        rgb = images.rgb(messages.rgb)
    with _blaming("depth"):
        depth = images.depth_m(messages.depth)
    with _blaming("segmentation"):
        labels = images.labels(messages.segmentation)
        if labels.min() < 0:
            raise images.ImageError(
                f"segmentation has negative labels, down to {labels.min()}: "
                "expected 0 for the background and positive labels"
            )
    with _blaming("camera_info"):
        camera = camera_info.camera(messages.camera_info, rectified)
        _require_size("camera_info describes", (camera.height, camera.width), rgb.shape)
    with _blaming("depth"):
        _require_size("depth is", depth.shape, rgb.shape)
    with _blaming("segmentation"):
        _require_size("segmentation is", labels.shape, rgb.shape)
    return Frame(rgb, depth, labels, camera)


def warnings(messages: FrameMessages, frame: Frame) -> dict[str, str]:
    """What is odd about a frame that can be used, by the input's name."""
    found = {}
    depth = frame.depth[::_EVERY, ::_EVERY]
    depth = depth[depth > 0]
    if len(depth) == 0 and not frame.depth.any():
        found["depth"] = "no valid depth: every pixel is 0, NaN or infinite"
    elif len(depth) > 0:
        median = float(np.median(depth))
        low, high = _PLAUSIBLE_DEPTH_M
        if not low <= median <= high:
            found["depth"] = (
                f"median depth is {median:g} m, expected {low:g} to {high:g} m: "
                "32FC1 has to be in metres, 16UC1 in millimetres (REP 118)"
            )
    if messages.depth.header.frame_id != messages.rgb.header.frame_id:
        found.setdefault(
            "depth",
            f"depth is in frame {messages.depth.header.frame_id!r}, colour in "
            f"{messages.rgb.header.frame_id!r}: depth has to be registered to colour",
        )
    if not messages.rgb.header.frame_id:
        found["rgb"] = "the header has no frame_id, so that no transform can be broadcast"
    if not frame.labels.any():
        found["segmentation"] = "no object: every pixel is background (0)"
    return found


@contextmanager
def _blaming(input: str) -> Iterator[None]:
    try:
        yield
    except (images.ImageError, camera_info.CameraInfoError, FrameError) as error:
        raise InputError(input, str(error)) from error


def _require_size(what: str, size: tuple[int, ...], rgb: tuple[int, ...]) -> None:
    if size[:2] != rgb[:2]:
        raise images.ImageError(
            f"{what} {size[1]} x {size[0]} pixels, colour is {rgb[1]} x {rgb[0]}: "
            "all inputs have to be registered to the colour image"
        )
