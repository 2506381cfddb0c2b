"""Roles of the topics of a bag: as named by the user, by usual name, or by type."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from crisp_ros.data.image_encodings import COLOUR, DEPTH, LABELS, compressed_format
from crisp_ros.data.recorded_frame import RecordingError


class Topics(NamedTuple):
    """Usual base names of the topics of a recording, without image_transport's suffixes."""

    rgb: str = "/rgb/image_rect_color"
    depth: str = "/depth_registered/image_rect"
    segmentation: str = "/segmentation"
    camera_info: str = "/rgb/camera_info"
    label_info: str = "/label_info"


IMAGE_TYPES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
_ROLE_OF_TYPE = {
    "sensor_msgs/msg/CameraInfo": "camera_info",
    "vision_msgs/msg/LabelInfo": "label_info",
}
_ROLE_OF_ENCODING = {
    # What may also be depth or labels is not taken for colour.
    **dict.fromkeys(set(COLOUR) - set(DEPTH) - set(LABELS), "rgb"),
    **dict.fromkeys(("32FC1", "16UC1"), "depth"),
    **dict.fromkeys(("mono8", "8UC1", "mono16", "32SC1"), "segmentation"),
}
_EXPECTED = {
    "rgb": "a colour image (rgb8, bgr8, JPEG, ...)",
    "depth": "an image of 32FC1 or 16UC1",
    "segmentation": "an image of mono8, 8UC1, mono16 or 32SC1",
    "camera_info": "a sensor_msgs/CameraInfo",
}
_REMEDIES = {
    "rgb": "record the colour image too",
    "depth": "record the depth image that is registered to colour",
    "segmentation": "record the masks of a segmenter with the images (docs/segmentation.md)",
    "camera_info": "record the calibration of the colour camera",
}
_SUFFIXES = ("", "/compressedDepth", "/compressed")  # the best first


def role_of(message_type: str, encoding: str = "") -> str | None:
    """Return the field of `Topics` that a topic of this type can fill; None for none.

    Args:
        message_type: such as sensor_msgs/msg/Image.
        encoding: of an image; of a compressed one its format, such as "rgb8; jpeg compressed bgr8".
    """
    if message_type not in IMAGE_TYPES:
        return _ROLE_OF_TYPE.get(message_type)
    if message_type == IMAGE_TYPES[0]:
        return _ROLE_OF_ENCODING.get(encoding)
    format = compressed_format(encoding)
    if format.is_depth:
        return "depth"
    if format.codec == "jpeg":  # loses too much to be labels or depth
        return "rgb"
    return _ROLE_OF_ENCODING.get(format.encoding)


def found_topics(roles: Mapping[str, str | None], given: Mapping[str, str]) -> dict[str, str]:
    """The topic of each field of `Topics`; that of the names of labels may be missing.

    Args:
        roles: `role_of` every topic that holds a message, by its name.
        given: base names that were asked for, by field.

    Raises:
        RecordingError: a topic is not there, or several would do.
    """
    found = {}
    for role, usual in Topics()._asdict().items():
        topic = _named(roles, given.get(role, usual))
        if topic is None and role not in given:
            topic = _only_one(roles, role, found)
        if topic is not None:
            found[role] = topic
        elif role in given:
            raise RecordingError(f"no topic {given[role]} for {role}; there are {_listed(roles)}")
        elif role in _EXPECTED:
            raise RecordingError(
                f"no topic for {role}, neither {usual} nor {_EXPECTED[role]};"
                f" there are {_listed(roles)}; {_REMEDIES[role]}, or name the topic as {role}=TOPIC"
            )
    return found


def _named(roles: Mapping[str, str | None], name: str) -> str | None:
    """The topic of a base name, raw or compressed."""
    return next((name + suffix for suffix in _SUFFIXES if name + suffix in roles), None)


def _only_one(roles: Mapping[str, str | None], role: str, found: Mapping[str, str]) -> str | None:
    """The topic that has this role, if there is but one."""
    names = {_base(topic) for topic, known in roles.items() if known == role}
    if role == "camera_info":
        next_to_colour = f"{_base(found['rgb']).rpartition('/')[0]}/camera_info"
        names = {next_to_colour} if next_to_colour in names else names
    if len(names) > 1:
        choice = _listed(sorted(names))
        raise RecordingError(f"several topics could be {role}: {choice}; name one as {role}=TOPIC")
    return _named(roles, names.pop()) if names else None


def _base(topic: str) -> str:
    """The name without image_transport's suffix."""
    for suffix in _SUFFIXES[1:]:
        topic = topic.removesuffix(suffix)
    return topic


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"
