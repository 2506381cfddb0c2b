"""The messages of one moment become a frame; what is wrong with them is laid at an input's door."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from vision_msgs.msg import Detection2DArray

from crisp_ros.data import image_messages
from crisp_ros.data.image_messages import ImageError
from crisp_ros.node.inputs import camera_info
from crisp_ros.node.inputs import segmentation_messages as segmentation
from crisp_ros.node.inputs.segmentation_messages import Segmentation
from crisp_ros.node.outputs import image_encoding as images
from crisp_ros.node.parameters.node_parameters import Parameters
from crisp_ros.observation.frame import Frame, FrameError

_PLAUSIBLE_DEPTH_M = (0.1, 10.0)
_EVERY = 4  # of the depth pixels along each axis, the share looked at for its plausibility


class FrameMessages(NamedTuple):
    """What belongs to one frame."""

    rgb: Image | CompressedImage
    depth: Image | CompressedImage
    segmentation: Image | CompressedImage | Detection2DArray
    camera_info: CameraInfo


class InputError(ValueError):
    """An input that cannot be used; `input` is its name in `FrameMessages`."""

    def __init__(self, input: str, reason: str) -> None:
        super().__init__(reason)
        self.input = input


class NamedFrame(NamedTuple):
    """A frame; class names of its labels, as far as known; what is odd about it, by the input."""

    frame: Frame
    class_names: Mapping[int, str]
    warnings: Mapping[str, str]


def frame(
    messages: FrameMessages, parameters: Parameters, label_names: Mapping[int, str]
) -> NamedFrame:
    """The frame that messages describe, rectified.

    Args:
        messages: colour, depth registered to it, segmentation and calibration.
        parameters: say what they hold.
        label_names: class names by label or category.

    Raises:
        InputError: an encoding, size or calibration that cannot be used.
    """
    with _blaming("rgb"):
        rgb = image_messages.colour(messages.rgb)
    with _blaming("depth"):
        depth = images.depth_m(messages.depth)
        _require_size("depth is", depth.shape, rgb.shape)
    with _blaming("camera_info"):
        camera = camera_info.camera(messages.camera_info, parameters.rectified)
        _require_size("camera_info describes", (camera.height, camera.width), rgb.shape)
        rectification = camera_info.rectification_of(messages.camera_info, parameters.rectified)
    with _blaming("segmentation"):
        found = (
            segmentation.from_detections(
                messages.segmentation,
                label_names,
                parameters.detection_score,
                parameters.max_objects,
                depth,
                camera.fx,
            )
            if parameters.segmentation_format == segmentation.DETECTIONS
            else segmentation.from_image(
                messages.segmentation, parameters.segmentation_format, label_names
            )
        )
        _require_size("segmentation is", found.labels.shape, rgb.shape)
    labels = found.labels
    if rectification is not None:
        rgb, depth, labels = (
            rectification.colours(rgb),
            rectification.values(depth),
            rectification.values(labels),
        )
    result = Frame(rgb, depth, labels, camera)
    return NamedFrame(result, found.class_names, _warnings(messages, result, found))


def _warnings(messages: FrameMessages, frame: Frame, found: Segmentation) -> dict[str, str]:
    """What is odd about a frame that can be used, by the input's name."""
    warnings = {}
    depth = frame.depth[::_EVERY, ::_EVERY]
    depth = depth[depth > 0]
    if len(depth) == 0 and not frame.depth.any():
        warnings["depth"] = "no valid depth: every pixel is 0, NaN or infinite"
    elif len(depth) > 0:
        median = float(np.median(depth))
        low, high = _PLAUSIBLE_DEPTH_M
        if not low <= median <= high:
            warnings["depth"] = (
                f"median depth is {median:g} m, expected {low:g} to {high:g} m: "
                "32FC1 has to be in metres, 16UC1 in millimetres (REP 118)"
            )
    frame_id = messages.rgb.header.frame_id
    for name, message, advice in (
        ("depth", messages.depth, "depth has to be registered to colour"),
        ("segmentation", messages.segmentation, "it has to be of the colour image"),
        ("camera_info", messages.camera_info, "it has to be the colour camera's"),
    ):
        other = message.header.frame_id
        if other != frame_id and (other or name == "depth"):
            warnings.setdefault(
                name, f"{name} is in frame {other!r}, colour in {frame_id!r}: {advice}"
            )
    if not frame_id:
        warnings["rgb"] = "the header has no frame_id, so that no transform can be broadcast"
    elif messages.rgb.header.stamp.sec == messages.rgb.header.stamp.nanosec == 0:
        warnings["rgb"] = "the header has no stamp: transforms are of the time 0"
    if found.warning:
        warnings.setdefault("segmentation", found.warning)
    if not frame.labels.any():
        warnings["segmentation"] = (
            "no object: no box holds one"
            if isinstance(messages.segmentation, Detection2DArray)
            else "no object: every pixel is background (0)"
        )
    return warnings


@contextmanager
def _blaming(input: str) -> Iterator[None]:
    try:
        yield
    except (ImageError, camera_info.CameraInfoError, FrameError) as error:
        raise InputError(input, str(error)) from error


def _require_size(what: str, size: tuple[int, ...], rgb: tuple[int, ...]) -> None:
    if size[:2] != rgb[:2]:
        raise ImageError(
            f"{what} {size[1]} x {size[0]} pixels, colour is {rgb[1]} x {rgb[0]}: "
            "all inputs have to be registered to the colour image"
        )
