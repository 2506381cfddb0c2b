"""Parameters of `crisp_player`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from itertools import islice
from typing import Any

from rcl_interfaces.msg import ParameterDescriptor
from rclpy.node import Node

from crisp_ros.data.bag_topics import Topics
from crisp_ros.data.bop import BopDataset
from crisp_ros.data.recorded_frame import (
    DatasetFrames,
    FrameSource,
    RecordedFrame,
    RecordingError,
)
from crisp_ros.data.recording import Recording
from crisp_ros.data.rgbd_messages import InputRules

_BOP_INTERVAL_S = 10.0  # between unrelated images; longer than the node holds an object


def _parameter(default: Any, description: str) -> Any:
    return field(default=default, metadata={"description": description})


def _topic(role: str) -> Any:
    return _parameter(
        "",
        f"Topic of the recording for {role}, without image_transport's suffix; empty: the usual"
        " name, or else the only topic of its kind.",
    )


@dataclass(frozen=True)
class PlayerParameters:
    """Parameters of the player."""

    recording: str = _parameter("", "rosbag2 folder, .mcap or .db3 file to play.")
    bop: str = _parameter("", "Data set folder in the BOP layout, played instead of a recording.")
    frames: int = _parameter(0, "Maximum number of frames; 0 for all.")
    loop: bool = _parameter(
        False, "Restart at the end; play no faster than recorded, and do not require estimates."
    )
    rate: float = _parameter(0.0, "Maximum frames a second; 0 for the pace of the node.")
    timeout: float = _parameter(
        120.0, "Seconds to wait for the node: until it is ready, and for each estimate."
    )
    estimator: str = _parameter("crisp", "Name of the node that estimates.")
    bring_up: bool = _parameter(False, "Configure and activate the node first.")
    segmented: bool = _parameter(
        False,
        "Leave the labels of the recording out: a segmenter publishes others, and each estimate "
        "is reported for the true object that its mask overlaps most.",
    )
    results: str = _parameter("", "Folder for the estimates; empty for none.")
    rgb_topic: str = _topic("rgb")
    depth_topic: str = _topic("depth")
    segmentation_topic: str = _topic("segmentation")
    camera_info_topic: str = _topic("camera_info")
    label_info_topic: str = _topic("label_info")
    rectified: bool = _parameter(
        True,
        "false: images of the recording are raw, and are rectified with camera_info's K and D.",
    )
    depth_unit: float = _parameter(
        0.0,
        "Length of one step of the recording's depth, metres; 0: by the encoding (REP 118).",
    )

    def source(self) -> FrameSource:
        """Open the recording or data set.

        Raises:
            RecordingError, DatasetError: unreadable recording or data set.
        """
        if bool(self.recording) == bool(self.bop):
            raise RecordingError("name what to play: the parameter recording, or bop")
        if self.bop:
            return DatasetFrames(BopDataset(self.bop), _BOP_INTERVAL_S)
        topics = {role: getattr(self, f"{role}_topic") for role in Topics._fields}
        given = {role: topic for role, topic in topics.items() if topic}
        rules = InputRules(self.rectified, self.depth_unit)
        return Recording(self.recording, given, rules)

    def played(self, source: FrameSource) -> Iterator[RecordedFrame]:
        """Read the frames to play, once."""
        frames = source.frames()
        return islice(frames, self.frames) if self.frames > 0 else frames


def declared_parameters(node: Node) -> PlayerParameters:
    """Declare the parameters on a node; return their values."""
    values = {
        parameter.name: node.declare_parameter(
            parameter.name,
            parameter.default,
            ParameterDescriptor(description=parameter.metadata["description"]),
        ).value
        for parameter in fields(PlayerParameters)
    }
    return PlayerParameters(**values)
