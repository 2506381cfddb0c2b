"""Subscriptions to the node's inputs; images of one moment are put together."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from message_filters import ApproximateTimeSynchronizer, SimpleFilter, TimeSynchronizer
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.node import Node
from rclpy.qos import (
    DurabilityPolicy,
    QoSPolicyKind,
    QoSProfile,
    ReliabilityPolicy,
    qos_policy_name_from_kind,
)
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.subscription import Subscription
from rclpy.time import Time
from sensor_msgs.msg import CameraInfo, Image
from vision_msgs.msg import LabelInfo

from crisp_ros.node.frames import FrameMessages
from crisp_ros.node.monitor import Monitor
from crisp_ros.node.parameters import Parameters

IMAGE_TOPICS = {
    "rgb": "rgb/image_rect_color",
    "depth": "depth_registered/image_rect",
    "segmentation": "segmentation",
}
TOPICS = {**IMAGE_TOPICS, "camera_info": "rgb/camera_info"}
LABEL_INFO_TOPIC = "label_info"

_JUMP_S = 1.0  # a stamp older than the newest by more is a new run of a recording, not a late image


class Received(NamedTuple):
    """One frame's messages, and the run of time (counted by backward jumps) that they belong to."""

    messages: FrameMessages
    run: int


class Inputs:
    """The node's subscriptions; calls `on_frame` with what belongs together.

    Images wait for partners with a stamp less than `sync_slop` away. The calibration is the latest
    that came. When stamps jump back, all that waits is forgotten and `on_jump` is called.
    """

    def __init__(
        self,
        node: Node,
        monitor: Monitor,
        on_frame: Callable[[Received], None],
        on_jump: Callable[[], None],
    ) -> None:
        """Does not subscribe yet."""
        self._node = node
        self._monitor = monitor
        self._on_frame = on_frame
        self._on_jump = on_jump
        self._subscriptions: list[Subscription] = []
        self._entrances: dict[str, SimpleFilter] = {}
        self._newest: dict[str, int] = {}
        self._last_frame = -1
        self._camera_info: CameraInfo | None = None
        self._images: tuple[Image, Image, Image] | None = None
        self.label_names: dict[int, str] = {}
        self.run = 0

    def subscribe(self, parameters: Parameters) -> None:
        """Begins to listen.

        Raises:
            rclpy.qos_overriding_options.InvalidQosOverridesError, RuntimeError: a QoS override
                makes no sense.
        """
        self._slop_s = parameters.sync_slop
        self._queue_size = parameters.sync_queue_size
        self._begin_run()
        self._monitor.await_inputs(True)
        # The calibration first: the executor serves what is ready in the order of subscription.
        self._listen(CameraInfo, TOPICS["camera_info"], self._camera_info_received, "camera_info")
        for name, topic in IMAGE_TOPICS.items():
            self._listen(Image, topic, partial(self._image, name), name)
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._subscriptions.append(
            self._node.create_subscription(
                LabelInfo, LABEL_INFO_TOPIC, self._label_info_received, latched
            )
        )

    def unsubscribe(self) -> None:
        """Stops listening; frames that are still under way belong to a past run."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions.clear()
        self._monitor.await_inputs(False)
        self._camera_info = None
        self.run += 1

    def _listen(
        self, message_type: type, topic: str, callback: Callable[[Any], None], name: str
    ) -> None:
        # A profile of its own: overrides are written into it.
        sensor_data = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
        events = SubscriptionEventCallbacks(
            incompatible_qos=lambda event: self._incompatible(name, event.last_policy_kind)
        )
        self._subscriptions.append(
            self._node.create_subscription(
                message_type,
                topic,
                callback,
                sensor_data,
                event_callbacks=events,
                qos_overriding_options=QoSOverridingOptions.with_default_policies(),
            )
        )

    def _incompatible(self, name: str, kind: QoSPolicyKind) -> None:
        policy = qos_policy_name_from_kind(kind)
        with self._monitor.lock:
            record = self._monitor.inputs[name]
            record.incompatible_qos = policy
        self._node.get_logger().warning(
            f"a publisher of {record.topic} offers an incompatible {policy}: nothing comes from it"
        )

    def _image(self, name: str, message: Image) -> None:
        size = f"{message.encoding} {message.width} x {message.height}"
        stamp = self._note(name, message, size)
        newest = self._newest.get(name, stamp)
        if newest - stamp > _JUMP_S * 1e9:
            self._node.get_logger().warning(
                f"time jumped back by {(newest - stamp) / 1e9:.1f} s: starting afresh"
            )
            with self._monitor.lock:
                self._monitor.work.time_jumps += 1
            self._begin_run()
            self._on_jump()
        self._newest[name] = max(stamp, self._newest.get(name, stamp))
        self._entrances[name].signalMessage(message)

    def _camera_info_received(self, message: CameraInfo) -> None:
        stamp = self._note("camera_info", message, f"{message.width} x {message.height}")
        before, self._camera_info = self._camera_info, message
        if self._images is None:
            return
        # A new calibration may come a bit later than its images: they are handed on once more.
        is_new = before is None or _calibration(before) != _calibration(message)
        if is_new and (before is None or stamp <= self._last_frame):
            self._hand_on(*self._images)

    def _label_info_received(self, message: LabelInfo) -> None:
        self.label_names = {entry.class_id: entry.class_name for entry in message.class_map}

    def _note(self, name: str, message: Image | CameraInfo, description: str) -> int:
        """Records a message; its stamp in nanoseconds."""
        stamp = Time.from_msg(message.header.stamp).nanoseconds
        delay = (self._node.get_clock().now().nanoseconds - stamp) / 1e9
        self._monitor.received(name, stamp / 1e9, delay, message.header.frame_id, description)
        return stamp

    def _begin_run(self) -> None:
        """Forgets all images.

        message_filters cannot be emptied, and would wait for partners of the old run for ever: new
        filters take their place.
        """
        self.run += 1
        self._newest.clear()
        self._last_frame = -1
        self._images = None
        self._entrances = {name: SimpleFilter() for name in IMAGE_TOPICS}
        entrances = list(self._entrances.values())
        synchronizer = (
            ApproximateTimeSynchronizer(entrances, self._queue_size, self._slop_s)
            if self._slop_s > 0  # stamps have to be less than the slop apart: at 0 none would do
            else TimeSynchronizer(entrances, self._queue_size)
        )
        synchronizer.registerCallback(self._together)

    def _together(self, rgb: Image, depth: Image, segmentation: Image) -> None:
        stamp = Time.from_msg(rgb.header.stamp).nanoseconds
        with self._monitor.lock:
            work = self._monitor.work
            work.sets += 1
            work.last_set = time.monotonic()
            if stamp < self._last_frame:
                work.out_of_order += 1
                return
        self._last_frame = stamp
        self._images = (rgb, depth, segmentation)
        self._hand_on(*self._images)

    def _hand_on(self, rgb: Image, depth: Image, segmentation: Image) -> None:
        if self._camera_info is not None:
            messages = FrameMessages(rgb, depth, segmentation, self._camera_info)
            self._on_frame(Received(messages, self.run))


def _calibration(message: CameraInfo) -> tuple[Any, ...]:
    """All of a calibration but its header."""
    numbers = (values.tobytes() for values in (message.d, message.k, message.r, message.p))
    window = (message.width, message.height, message.roi, message.binning_x, message.binning_y)
    return (*numbers, *window)
