"""Conversion of the messages of one moment to a frame; errors name the input at fault."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from vision_msgs.msg import Detection2DArray

from crisp_ros.data.depth_units import PLAUSIBLE_DEPTH_M, unit_by_distance, unit_in_use
from crisp_ros.data.image_encodings import description
from crisp_ros.data.rgbd_messages import (
    CameraImages,
    InputError,
    InputRules,
    errors_of,
    read_camera_images,
    require_size,
)
from crisp_ros.node.inputs import segmentation_messages
from crisp_ros.node.inputs.cv_bridge_decoder import CV_BRIDGE
from crisp_ros.node.inputs.segmentation_messages import Segmentation
from crisp_ros.node.parameters.node_parameters import Parameters
from crisp_ros.observation.frame import Frame, depth_mm_to_m
from crisp_ros.observation.observe import mask_sizes

__all__ = ["ConvertedFrame", "FrameMessages", "InputError", "convert_frame"]
_LISTED = 8
_DEPTH_STEP = 4  # every 4th pixel along each axis is enough to judge the depth


class FrameMessages(NamedTuple):
    """Messages of one frame."""

    rgb: Image | CompressedImage
    depth: Image | CompressedImage
    segmentation: Image | CompressedImage | Detection2DArray
    camera_info: CameraInfo


class ConvertedFrame(NamedTuple):
    """A frame with what its messages say about it.

    Attributes:
        frame: rectified.
        class_names: class names by label, as far as known.
        warnings: what is unusual, by the name of the input.
    """

    frame: Frame
    class_names: Mapping[int, str]
    warnings: Mapping[str, str]


def convert_frame(
    messages: FrameMessages,
    parameters: Parameters,
    label_names: Mapping[int, str],
    read: Callable[[Any, Any, Any, InputRules], CameraImages] = read_camera_images,
) -> ConvertedFrame:
    """Convert the messages of one frame and rectify its images.

    Args:
        messages: colour, depth registered to it, segmentation and calibration.
        parameters: formats of the messages.
        label_names: class names by label or category.
        read: converts colour, depth and calibration.

    Raises:
        InputError: unusable encoding, size or calibration.
    """
    rules = InputRules(parameters.rectified, parameters.depth_unit, CV_BRIDGE)
    images = read(messages.rgb, messages.depth, messages.camera_info, rules)
    rgb, depth = images.rgb, images.depth
    if depth.dtype == np.uint16:
        depth = depth_mm_to_m(depth)
    with errors_of("segmentation"):
        found = (
            segmentation_messages.from_detections(
                messages.segmentation,
                label_names,
                parameters.detection_score,
                parameters.max_objects,
                depth,
                images.camera.fx,
            )
            if parameters.segmentation_format == segmentation_messages.DETECTIONS
            else segmentation_messages.from_image(
                messages.segmentation, parameters.segmentation_format, label_names
            )
        )
        require_size("segmentation", found.labels, *rgb.shape[:2])
    labels = found.labels
    if (rectification := images.rectification) is not None:
        rgb, depth, labels = (
            rectification.colours(rgb),
            rectification.values(depth),
            rectification.values(labels),
        )
    result = Frame(rgb, depth, labels, images.camera)
    warnings = _warnings(messages, result, found, parameters, label_names)
    return ConvertedFrame(result, found.class_names, warnings)


def _warnings(
    messages: FrameMessages,
    frame: Frame,
    found: Segmentation,
    parameters: Parameters,
    label_names: Mapping[int, str],
) -> dict[str, str]:
    """Describe what is unusual about a usable frame, by the name of the input."""
    encoding = description(messages.depth)[0]
    segmentation = _segmentation_warning(messages, frame, found, label_names)
    warnings = {
        "depth": _depth_warning(frame, unit_in_use(encoding, parameters.depth_unit)),
        "segmentation": "" if found.warning and frame.labels.any() else segmentation,
    }
    warnings = {name: text for name, text in warnings.items() if text}
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
    return warnings


def _depth_warning(frame: Frame, unit_m: float) -> str:
    """Describe what is unusual about the depth, or ""."""
    depth = frame.depth[::_DEPTH_STEP, ::_DEPTH_STEP]
    depth = depth[depth > 0]
    if len(depth) == 0:
        return "" if frame.depth.any() else "no valid depth: every pixel is 0, NaN or infinite"
    median = float(np.median(depth))
    low, high = PLAUSIBLE_DEPTH_M
    if low <= median <= high:
        return ""
    better_m = unit_by_distance(unit_m, median)
    advice = f": set depth_unit to {better_m:g}" if better_m else "; see depth_unit"
    return (
        f"median depth is {median:g} m, expected {low:g} to {high:g} m: "
        "32FC1 has to be in metres, 16UC1 in millimetres (REP 118); a step is taken for "
        f"{unit_m:g} m{advice}"
    )


def _segmentation_warning(
    messages: FrameMessages, frame: Frame, found: Segmentation, label_names: Mapping[int, str]
) -> str:
    """Describe what is unusual about the labels, or ""."""
    has_boxes = isinstance(messages.segmentation, Detection2DArray)
    if not frame.labels.any():
        if has_boxes:
            return "no object: no box holds one"
        return "no object: every pixel is background (0)"
    if has_boxes or not label_names:
        return ""
    labels = mask_sizes(frame.labels)
    if not labels.keys().isdisjoint(found.class_names):
        return ""
    return (
        f"none of its labels has a name: it has {_listed(labels)}, label_info or label_names name "
        f"{_listed(label_names)}"
    )


def _listed(labels: Iterable[int]) -> str:
    first = sorted(labels)
    more = ", ..." if len(first) > _LISTED else ""
    return f"{', '.join(map(str, first[:_LISTED]))}{more}"
