"""A frame that was estimated, with all that was told about it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header

from crisp_ros import __version__
from crisp_ros.msg import ObjectEstimateArray
from crisp_ros.node.outputs.message_conversion import object_estimates
from crisp_ros.node.outputs.published_objects import KnownObject
from crisp_ros.node.parameters.node_parameters import Parameters
from crisp_ros.observation.frame import Frame
from crisp_ros.pipeline import EstimatorSettings, FrameEstimate
from crisp_ros.pipeline.frame_dump import FrameDump


class EstimatedFrame(NamedTuple):
    """One frame.

    header: of the image. camera_info: the calibration as it came. frame, estimate: what the
    estimator was given and answered, before tracking. settings, device, checkpoint: of the
    estimator. known: the objects as they are tracked. stage_ms: milliseconds a stage.
    parameters: of the node.
    """

    header: Header
    camera_info: CameraInfo
    frame: Frame
    estimate: FrameEstimate
    settings: EstimatorSettings
    device: str
    checkpoint: str
    known: list[KnownObject]
    stage_ms: Mapping[str, float]
    parameters: Parameters

    @property
    def stamp_text(self) -> str:
        """The stamp for a file's name, such as "12_000000005"."""
        return f"{self.header.stamp.sec}_{self.header.stamp.nanosec:09d}"

    def message(self) -> ObjectEstimateArray:
        """Message for ~/objects."""
        prefix, version = self.parameters.tf_prefix, self.estimate.model_version
        return object_estimates(self.header, self.known, prefix, version, self.stage_ms)

    def dump(self) -> FrameDump:
        """All of it for a file."""
        context = {
            "stamp": f"{self.header.stamp.sec}.{self.header.stamp.nanosec:09d}",
            "frame_id": self.header.frame_id,
            "camera_info": _calibration(self.camera_info),
            "parameters": dataclasses.asdict(self.parameters),
            "published": [_published(o) for o in self.known],
            "versions": {"crisp_ros": __version__, "torch": torch.__version__},
        }
        return FrameDump(
            self.frame,
            self.estimate,
            self.settings,
            self.checkpoint,
            self.device,
            torch.get_num_threads(),
            context,
        )


def _calibration(message: CameraInfo) -> dict[str, Any]:
    roi = message.roi
    return {
        "width": message.width,
        "height": message.height,
        "distortion_model": message.distortion_model,
        "d": list(message.d),
        "k": message.k.tolist(),
        "r": message.r.tolist(),
        "p": message.p.tolist(),
        "binning": [message.binning_x, message.binning_y],
        "roi": [roi.x_offset, roi.y_offset, roi.width, roi.height],
    }


def _published(known: KnownObject) -> dict[str, Any]:
    return {
        "id": known.id,
        "label": known.estimate.label,
        "T_camera_object": known.estimate.T_camera_object.tolist(),
        "certified": known.estimate.certified,
        "mesh_version": known.version,
    }
