"""An estimated frame with its inputs and results."""

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
from crisp_ros.node.outputs.published_objects import PublishedObject
from crisp_ros.node.parameters.node_parameters import Parameters
from crisp_ros.observation.frame import Frame
from crisp_ros.pipeline import EstimatorSettings, FrameEstimate
from crisp_ros.pipeline.added_shapes import ExpectedObject
from crisp_ros.pipeline.frame_dump import FrameDump
from crisp_ros.pipeline.prior_replay import PriorContext


class EstimatedFrame(NamedTuple):
    """One estimated frame.

    Attributes:
        header: of the image.
        camera_info: the calibration message.
        frame: input of the estimator.
        estimate: output of the estimator, before tracking.
        expected: objects that the estimator was given from the frame before.
        prior_context: see `Trace`.
        settings: of the estimator.
        device: of the estimator.
        checkpoint: file of the model.
        prior_checkpoint: file of the prior for unknown objects; "" for none.
        prior_version: of that model; "" for none.
        objects: as they are tracked.
        stage_ms: durations by stage, milliseconds.
        parameters: of the node.
    """

    header: Header
    camera_info: CameraInfo
    frame: Frame
    estimate: FrameEstimate
    expected: tuple[ExpectedObject, ...]
    prior_context: PriorContext | None
    settings: EstimatorSettings
    device: str
    checkpoint: str
    prior_checkpoint: str
    prior_version: str
    objects: list[PublishedObject]
    stage_ms: Mapping[str, float]
    parameters: Parameters

    @property
    def stamp_text(self) -> str:
        """Stamp as part of a file name, such as "12_000000005"."""
        return f"{self.header.stamp.sec}_{self.header.stamp.nanosec:09d}"

    def message(self) -> ObjectEstimateArray:
        """Convert it to the message on ~/objects."""
        prefix, version = self.parameters.tf_prefix, self.estimate.model_version
        return object_estimates(self.header, self.objects, prefix, version, self.stage_ms)

    def dump(self) -> FrameDump:
        """Collect all of it for a file."""
        context = {
            "stamp": f"{self.header.stamp.sec}.{self.header.stamp.nanosec:09d}",
            "frame_id": self.header.frame_id,
            "camera_info": _calibration(self.camera_info),
            "parameters": dataclasses.asdict(self.parameters),
            "published": [_description(o) for o in self.objects],
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
            self.prior_checkpoint,
            self.prior_version,
            self.expected,
            self.prior_context,
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


def _description(published: PublishedObject) -> dict[str, Any]:
    return {
        "id": published.id,
        "label": published.estimate.label,
        "T_camera_object": published.estimate.T_camera_object.tolist(),
        "certified": published.estimate.certified,
        "orientation_certified": published.estimate.orientation_certified,
        "mesh_version": published.version,
    }
