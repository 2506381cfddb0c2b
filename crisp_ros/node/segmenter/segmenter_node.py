"""The lifecycle node that separates objects: colour and depth in, label images out.

ros2 run crisp_ros crisp_segmenter --ros-args -p autostart:=true
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus
from diagnostic_updater import DiagnosticStatusWrapper, Updater
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn
from rclpy.publisher import Publisher
from sensor_msgs.msg import Image
from vision_msgs.msg import LabelInfo

from crisp_ros.data.rgbd_messages import InputRules, read_camera_images
from crisp_ros.network.cpu_threads import set_own_cpu_threads
from crisp_ros.node.inputs.cv_bridge_decoder import CV_BRIDGE
from crisp_ros.node.inputs.input_topics import IMAGE_TOPICS, LABEL_INFO_TOPIC
from crisp_ros.node.latest_item_worker import LatestItemWorker
from crisp_ros.node.main import run
from crisp_ros.node.managed_node import ManagedNode
from crisp_ros.node.outputs.image_encoding import image_message
from crisp_ros.node.parameters.parameter_server import ParameterServer
from crisp_ros.node.qos import latched
from crisp_ros.node.segmenter.estimator_link import EstimatorLink
from crisp_ros.node.segmenter.segmenter_inputs import CameraMessages, SegmenterInputs
from crisp_ros.node.segmenter.segmenter_parameters import SegmenterParameters
from crisp_ros.observation.frame import depth_mm_to_m
from crisp_ros.segmentation.known_surfaces import no_objects
from crisp_ros.segmentation.segmenter import Segmentation, Segmenter
from crisp_ros.segmentation.weights import bundled_weights, load_weights

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR

_SILENT_S = 5.0


@dataclass
class SegmentedImage:
    """Figures of the latest image, for diagnostics.

    Attributes:
        objects: number of objects, -1 before the first image.
        plane: the support and its distance from the camera, or "".
        reasons: why parts of the image are no objects.
        milliseconds: of the segmentation.
        fault: why the images could not be used, or "".
        images: segmented so far.
    """

    objects: int = -1
    plane: str = ""
    reasons: tuple[str, ...] = ()
    milliseconds: float = 0.0
    fault: str = ""
    images: int = 0


class SegmenterNode(ManagedNode):
    """Node that publishes a label image for each pair of colour and depth images.

    activate: subscribes. deactivate: stops. Labels start again where time jumps back.
    """

    def __init__(
        self, name: str = "crisp_segmenter", link: EstimatorLink | None = None, **options: Any
    ) -> None:
        """Declare the parameters and start to publish diagnostics.

        Args:
            name: of the node.
            link: to the estimator of this process, which gets images and labels from this node.
            options: of the node.

        Raises:
            rclpy.exceptions.ParameterException: a parameter's override is refused.
        """
        super().__init__(name, **options)
        self._parameter_server = ParameterServer(
            self, lambda: self._state.label, SegmenterParameters
        )
        self._segmenter: Segmenter | None = None
        self._latest = SegmentedImage()
        self._link = link
        forward = () if link is None else (link.receive,)
        self._inputs = SegmenterInputs(self, self._images_received, self._time_jumped, *forward)
        self._worker: LatestItemWorker[CameraMessages] = LatestItemWorker(
            self._segment, self._failed, "segmentation", self._set_cpu_threads
        )
        self._labels: Publisher | None = None
        self._label_info: Publisher | None = None
        self._updater = Updater(self)
        self._updater.setHardwareID("none")
        self._updater.add("segmentation", self._report)
        self._updater.add("inputs", self._report_inputs)
        self._updater.add("lifecycle", self._state.report)
        if self.parameters.autostart:
            self.start_by_itself()

    @property
    def parameters(self) -> SegmenterParameters:
        """Values of the parameters."""
        return self._parameter_server.values

    def close(self) -> None:
        """End the thread, before the node is destroyed."""
        self._worker.stop()

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the network and create the publishers."""
        parameters, network = self.parameters, None
        try:
            if parameters.network:
                network = load_weights(Path(parameters.weights or bundled_weights()))
            self._segmenter = Segmenter(parameters.settings(), network)
        except (ValueError, OSError) as error:
            return self._refuse(f"cannot configure: {error}")
        self._labels = self.create_publisher(Image, IMAGE_TOPICS["segmentation"], 5)
        self._label_info = self.create_publisher(LabelInfo, LABEL_INFO_TOPIC, latched(depth=1))
        return self._enter("inactive")

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe and start to work."""
        super().on_activate(state)
        try:
            self._inputs.subscribe(self.parameters)
        except Exception as error:  # an invalid QoS override, above all
            self._inputs.unsubscribe()
            super().on_deactivate(state)
            return self._refuse(f"cannot activate: {error}")
        self._segmenter.reset()
        self._latest = SegmentedImage()
        self._worker.start()
        # Labels are of instances and have no class: an empty map says so to all who wait for one.
        self._label_info.publish(LabelInfo(threshold=0.0))
        return self._enter("active")

    def _update_diagnostics(self) -> None:
        self._updater.update()

    def _stop(self) -> None:
        self._inputs.unsubscribe()
        self._worker.stop()

    def _release(self) -> None:
        for publisher in (self._labels, self._label_info):
            if publisher is not None:
                self.destroy_publisher(publisher)
        self._labels = self._label_info = self._segmenter = None

    # In the executor's thread

    def _images_received(self, messages: CameraMessages) -> None:
        self._worker.submit(messages)

    def _time_jumped(self) -> None:
        self.get_logger().warning("time jumped back: labels start again")
        self._worker.call(self._segmenter.reset)

    # In the worker's thread

    def _set_cpu_threads(self) -> None:
        set_own_cpu_threads(self.parameters.threads)

    def _segment(self, messages: CameraMessages) -> None:
        start = time.perf_counter()
        parameters = self.parameters
        rules = InputRules(parameters.rectified, parameters.depth_unit, CV_BRIDGE)
        read = read_camera_images if self._link is None else self._link.images.read
        images = read(*messages, rules)
        depth = images.depth
        metres = depth_mm_to_m(depth) if depth.dtype == np.uint16 else depth
        self._segmenter.change(parameters.settings())
        header, known = messages.rgb.header, no_objects
        if self._link is not None:
            known = partial(self._link.known_objects, header)
        result = self._segmenter.segment(images.rgb, metres, images.camera, known)
        labels = image_message(result.labels.astype(np.uint16), "16UC1", header)
        if self._link is not None:
            self._link.send_labels(labels)
        if self._labels is not None:
            self._labels.publish(labels)
        self._latest = _summary(result, 1e3 * (time.perf_counter() - start), self._latest.images)

    def _failed(self, error: Exception) -> None:
        self._latest.fault = str(error)
        self.get_logger().warning(f"cannot segment: {error}", throttle_duration_sec=5.0)

    # Diagnostics

    def _report(self, stat: DiagnosticStatusWrapper) -> DiagnosticStatusWrapper:
        latest = self._latest
        if self._state.label != "active":
            stat.summary(OK, f"no image is segmented: the node is {self._state.label}")
        elif latest.fault:
            stat.summary(ERROR, f"the images cannot be segmented: {latest.fault}")
        elif latest.objects < 0:
            stat.summary(WARN, "waiting for the first colour and depth images")
        elif latest.objects == 0:
            stat.summary(WARN, f"no object: {'; '.join(latest.reasons) or 'nothing is visible'}")
        else:
            noun = "object" if latest.objects == 1 else "objects"
            stat.summary(OK, f"{latest.objects} {noun}")
        stat.add("objects", str(max(latest.objects, 0)))
        stat.add("support", latest.plane or "none")
        stat.add("left out", "; ".join(latest.reasons) or "nothing")
        stat.add("segmentation (ms)", f"{latest.milliseconds:.1f}")
        stat.add("images", str(latest.images))
        return stat

    def _report_inputs(self, stat: DiagnosticStatusWrapper) -> DiagnosticStatusWrapper:
        now = time.monotonic()
        faults = []
        for name, record in self._inputs.inputs.items():
            stat.add(f"{name} ({record.topic})", f"{record.count} messages")
            silent_s = now - record.last
            if record.fault:
                faults.append(f"{name}: {record.fault}")
            elif silent_s > _SILENT_S and not (name == "camera_info" and record.count):
                faults.append(f"nothing on {record.topic} for {silent_s:.0f} s")
        if faults:
            stat.summary(ERROR, "; ".join(faults))
        else:
            stat.summary(OK, "not subscribed" if not self._inputs.inputs else "receiving")
        return stat


def _summary(result: Segmentation, milliseconds: float, images: int) -> SegmentedImage:
    support = result.support
    plane = ""
    if support is not None:
        share = f"{100 * support.share:.0f} % of the image"
        plane = f"plane {support.offset:.3f} m from the camera, {share}"
    return SegmentedImage(result.count, plane, result.reasons, milliseconds, "", images + 1)


def main(arguments: Sequence[str] | None = None) -> int:
    """Segment until shutdown; return 0, or 1 if the parameters are refused."""
    return run(SegmenterNode, arguments, "crisp_segmenter")


if __name__ == "__main__":
    sys.exit(main())
