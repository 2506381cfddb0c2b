"""Subscriptions of the segmenter: colour, depth and calibration of one moment."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy, qos_policy_name_from_kind
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.subscription import Subscription
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from crisp_ros.data.camera_calibration import CalibrationBuffer
from crisp_ros.data.image_encodings import KINDS, ImageError, check
from crisp_ros.node.inputs.input_topics import CAMERA_INFO_TOPIC, image_topic
from crisp_ros.node.inputs.synchronizer import ImageSynchronizer, stamp_ns
from crisp_ros.node.qos import has_latched_publisher, latched
from crisp_ros.node.segmenter.segmenter_parameters import SegmenterParameters

_QUEUE = 10
_JUMP_S = 1.0  # a stamp older than the newest by more is a restarted recording


class CameraMessages(NamedTuple):
    """Messages of one moment.

    Attributes:
        rgb: colour image.
        depth: registered to it.
        camera_info: calibration of both.
    """

    rgb: Image | CompressedImage
    depth: Image | CompressedImage
    camera_info: CameraInfo


@dataclass
class InputCount:
    """Messages received on a topic.

    Attributes:
        topic: resolved name.
        count: messages so far.
        last: monotonic time of the latest, seconds.
        fault: why the latest could not be used, or "".
    """

    topic: str
    count: int = 0
    last: float = field(default_factory=time.monotonic)
    fault: str = ""

    def record(self) -> None:
        """Count a message."""
        self.count += 1
        self.last = time.monotonic()


class SegmenterInputs:
    """Subscriptions that deliver matching messages; an older stamp starts again.

    Attributes:
        inputs: what has arrived, by the name of the input; empty while not subscribed.
    """

    def __init__(
        self,
        node: Node,
        on_images: Callable[[CameraMessages], None],
        on_jump: Callable[[], None],
        on_message: Callable[[str, Any], None] = lambda name, message: None,
    ) -> None:
        """Prepare the queues; `subscribe` subscribes.

        Args:
            node: that subscribes.
            on_images: called with the messages of each moment.
            on_jump: called when stamps jump back.
            on_message: called first with each message, and the name of its input.
        """
        self._node, self._on_images, self._on_jump = node, on_images, on_jump
        self._on_message = on_message
        self._subscriptions: list[Subscription] = []
        self._calibrations = CalibrationBuffer()
        self._newest = 0
        self.inputs: dict[str, InputCount] = {}

    def subscribe(self, parameters: SegmenterParameters) -> None:
        """Subscribe to all inputs.

        Raises:
            rclpy.qos_overriding_options.InvalidQosOverridesError, RuntimeError: invalid QoS
                override.
        """
        names = ("rgb", "depth")
        self._synchronizer = ImageSynchronizer(
            names, parameters.sync_slop, _QUEUE, self._matched, lambda name, stamp: None
        )
        self._newest = 0
        info = self._node.resolve_topic_name(CAMERA_INFO_TOPIC)
        self._subscribe("camera_info", CameraInfo, info, self._calibrated)
        transports = (parameters.image_transport, parameters.depth_image_transport)
        for name, transport in zip(names, transports, strict=True):
            topic = image_topic(self._node, name, transport)
            self._subscribe(name, *topic, partial(self._received, name))

    def unsubscribe(self) -> None:
        """End all subscriptions and forget what is queued."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions.clear()
        self._calibrations.clear()
        self.inputs = {}

    def _subscribe(
        self, name: str, kind: type, topic: str, callback: Callable[[Any], None]
    ) -> None:
        self.inputs[name] = InputCount(topic)
        if name == "camera_info" and has_latched_publisher(self._node, topic):
            qos = latched(depth=1)
        else:
            qos = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
        events = SubscriptionEventCallbacks(
            incompatible_qos=lambda event: self._refuse(
                name,
                f"a publisher offers an incompatible "
                f"{qos_policy_name_from_kind(event.last_policy_kind)}",
            )
        )
        self._subscriptions.append(
            self._node.create_subscription(
                kind,
                topic,
                callback,
                qos,
                event_callbacks=events,
                qos_overriding_options=QoSOverridingOptions.with_default_policies(),
            )
        )

    def _refuse(self, name: str, reason: str) -> None:
        if name not in self.inputs:
            return  # the event was waiting when the subscription ended
        self.inputs[name].fault = reason
        self._node.get_logger().warning(f"{name}: {reason}", throttle_duration_sec=5.0)

    def _calibrated(self, message: CameraInfo) -> None:
        if not self.inputs:
            return  # the message was waiting when the subscription ended
        self.inputs["camera_info"].record()
        self._on_message("camera_info", message)
        self._calibrations.add(stamp_ns(message), message)

    def _received(self, name: str, message: Image | CompressedImage) -> None:
        if not self.inputs:
            return
        self.inputs[name].record()
        self._on_message(name, message)
        try:
            check(message, KINDS[name])
        except ImageError as error:
            self._refuse(name, str(error))
            return
        self.inputs[name].fault = ""
        stamp = stamp_ns(message)
        if self._newest - stamp > _JUMP_S * 1e9:
            self._synchronizer.clear()
            self._newest = 0
            self._on_jump()
        self._newest = max(self._newest, stamp)
        self._synchronizer.add(name, message)

    def _matched(self, rgb: Image, depth: Image) -> None:
        if not self._calibrations:
            self.inputs["camera_info"].fault = "images arrive, but no calibration"
            return
        self.inputs["camera_info"].fault = ""
        self._on_images(CameraMessages(rgb, depth, self._calibrations.of(stamp_ns(rgb))))
