"""Subscriptions to the inputs of the node; matching images are delivered as one frame."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.node import Node
from rclpy.qos import (
    QoSPolicyKind,
    QoSProfile,
    ReliabilityPolicy,
    qos_policy_name_from_kind,
)
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.subscription import Subscription
from sensor_msgs.msg import CameraInfo
from vision_msgs.msg import Detection2DArray, LabelInfo

from crisp_ros.data.camera_calibration import CalibrationBuffer, calibration_key
from crisp_ros.data.image_encodings import KINDS, ImageError, check, description
from crisp_ros.data.rgbd_messages import read_camera_images
from crisp_ros.node.inputs.frame_conversion import FrameMessages
from crisp_ros.node.inputs.input_topics import (
    IMAGE_TOPICS,
    LABEL_INFO_TOPIC,
    InputTopic,
    input_topics,
    type_name,
)
from crisp_ros.node.inputs.segmentation_messages import LABELS
from crisp_ros.node.inputs.synchronizer import ImageSynchronizer, stamp_ns, stamp_text
from crisp_ros.node.monitor import DropReason, ExpectedInput, Monitor
from crisp_ros.node.parameters.node_parameters import Parameters
from crisp_ros.node.qos import has_latched_publisher, latched

_POLICIES = (
    QoSPolicyKind.HISTORY,
    QoSPolicyKind.DEPTH,
    QoSPolicyKind.RELIABILITY,
    QoSPolicyKind.DURABILITY,
)
_JUMP_S = 1.0  # a stamp older than the newest by more is a restarted recording, not a late image
_LEAP_S = 10.0  # a stamp ahead of the newest by more is wrong, or follows a long pause


class ReceivedFrame(NamedTuple):
    """The messages of one frame.

    Attributes:
        messages: of all inputs.
        epoch: number of backward jumps of time, and of subscriptions, before it.
    """

    messages: FrameMessages
    epoch: int


class InputSubscriptions:
    """Subscriptions of the node; calls `on_frame` with the messages of each frame.

    Images are matched whose stamps are less than `sync_slop` apart. The calibration is the one with
    the stamp of the colour image, otherwise the latest. An image whose stamp is far from the
    earlier ones is used once another image confirms that time; a single one is an outlier and
    dropped. When stamps jump back, all queues are emptied and `on_jump` is called.

    With `handed_over`, another node of the process subscribes to the camera, and its messages come
    by `receive`.

    Attributes:
        label_names: class names by label or category, from label_info.
        read_images: converts colour, depth and calibration.
        epoch: counts backward jumps of time and changes of the subscriptions.
    """

    def __init__(
        self,
        node: Node,
        monitor: Monitor,
        on_frame: Callable[[ReceivedFrame], None],
        on_jump: Callable[[], None],
        handed_over: bool = False,
    ) -> None:
        """Prepare the queues; `subscribe` subscribes."""
        self._node = node
        self._handed_over = handed_over
        self._monitor = monitor
        self._on_frame = on_frame
        self._on_jump = on_jump
        self._subscriptions: list[Subscription] = []
        self._synchronizer = self._new_synchronizer(Parameters())
        self._newest: dict[str, int] = {}
        self._unconfirmed: dict[str, Any] = {}  # an input's latest message with a suspect stamp
        self._last_frame = -1
        self._calibrations = CalibrationBuffer()
        self._used: CameraInfo | None = None  # for the last frame
        self._latched_stamp: int | None = None  # of a calibration that may arrive once more
        self._latched_topics: set[str] = set()
        self._last_set: tuple[Any, Any, Any] | None = None
        self.label_names: dict[int, str] = {}
        self.read_images = read_camera_images
        self.epoch = 0

    def subscribe(self, parameters: Parameters) -> None:
        """Subscribe to all inputs.

        Raises:
            rclpy.qos_overriding_options.InvalidQosOverridesError, RuntimeError: invalid QoS
                override.
            ValueError: the labels of a node of this process are expected in another format.
        """
        if self._handed_over and parameters.segmentation_format != LABELS:
            raise ValueError(
                f"segmentation_format is {parameters.segmentation_format}, but the segmenter of "
                f"this process makes {LABELS}"
            )
        self._begin_epoch()
        self._synchronizer = self._new_synchronizer(parameters)
        topics = input_topics(self._node, parameters)
        self._monitor.expect_inputs(
            {name: ExpectedInput(t.name, type_name(t.message_type)) for name, t in topics.items()}
        )
        if not self._handed_over:
            self._subscribe_to_camera(topics)
        self._subscribe_to_labels()

    def receive(self, name: str, message: Any) -> None:
        """Take a message from a node of this process, in the executor's thread."""
        if not self.is_subscribed:
            return
        if name == "camera_info":
            self._camera_info_received(message)
        else:
            self._image_received(name, message)

    def _subscribe_to_camera(self, topics: dict[str, InputTopic]) -> None:
        # The calibration first: the executor serves what is ready in the order of subscription.
        info = topics.pop("camera_info")
        latched = partial(self._subscribe_to_latched, *info, self._latched_info_received)
        self._subscribe_to("camera_info", info, self._camera_info_received, latched)
        for name, topic in topics.items():
            self._subscribe_to(name, topic, partial(self._image_received, name))

    def _subscribe_to_labels(self) -> None:
        topic = self._node.resolve_topic_name(LABEL_INFO_TOPIC)
        latched = partial(self._subscribe_to_latched, LabelInfo, topic, self._label_info_received)
        self._subscriptions.append(
            self._node.create_subscription(
                LabelInfo,
                topic,
                self._label_info_received,
                QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT),
                event_callbacks=SubscriptionEventCallbacks(matched=lambda event: latched()),
                qos_overriding_options=QoSOverridingOptions(_POLICIES),
            )
        )

    def _subscribe_to_latched(
        self, message_type: type, topic: str, callback: Callable[[Any], None]
    ) -> None:
        """Subscribe to what publishers keep for late subscribers, if there is such a publisher.

        Not without one: the processes of other publishers would warn of an incompatible QoS.
        """
        if topic in self._latched_topics or not has_latched_publisher(self._node, topic):
            return
        self._latched_topics.add(topic)
        self._subscriptions.append(
            self._node.create_subscription(
                message_type,
                topic,
                callback,
                latched(depth=1),
                # Another publisher that keeps nothing is no fault: by default rclpy would warn.
                event_callbacks=SubscriptionEventCallbacks(incompatible_qos=lambda event: None),
            )
        )

    def unsubscribe(self) -> None:
        """Unsubscribe; frames that are still being processed belong to an earlier epoch."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions.clear()
        self._latched_topics.clear()
        self._monitor.expect_inputs(None)
        self._begin_epoch()
        self._calibrations.clear()
        self._used = None

    @property
    def is_subscribed(self) -> bool:
        """Whether there are subscriptions."""
        return bool(self._subscriptions)

    def _subscribe_to(
        self,
        name: str,
        topic: InputTopic,
        callback: Callable[[Any], None],
        on_publisher: Callable[[], None] = lambda: None,
    ) -> None:
        # A new profile each time: overrides are written into it.
        sensor_data = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
        events = SubscriptionEventCallbacks(
            incompatible_qos=lambda event: self._qos_incompatible(name, event.last_policy_kind),
            message_lost=lambda event: self._monitor.record_lost(name, event.total_count),
            matched=lambda event: on_publisher(),
        )
        self._subscriptions.append(
            self._node.create_subscription(
                *topic,
                callback,
                sensor_data,
                event_callbacks=events,
                qos_overriding_options=QoSOverridingOptions(_POLICIES),
            )
        )

    def _qos_incompatible(self, name: str, kind: QoSPolicyKind) -> None:
        policy = qos_policy_name_from_kind(kind)
        with self._monitor.lock:
            record = self._monitor.inputs[name]
            record.incompatible_qos = policy
        self._node.get_logger().warning(
            f"a publisher of {record.topic} offers an incompatible {policy}: "
            "its messages are not received"
        )

    def _image_received(self, name: str, message: Any) -> None:
        stamp = self._record(name, message)
        if stamp is None:
            return
        try:
            if not isinstance(message, Detection2DArray):
                check(message, KINDS[name])
        except ImageError as error:
            # Before it is queued: there it could displace a valid one.
            self._refuse(name, str(error))
            return
        newest = self._newest.get(name, stamp)
        leap = stamp - max(self._newest.values(), default=stamp)
        if newest - stamp > _JUMP_S * 1e9 or leap > _LEAP_S * 1e9:
            self._suspect_received(name, message)
            return
        with self._monitor.lock:
            self._monitor.inputs[name].out_of_order += stamp < newest
        self._drop_unconfirmed(name)
        self._accept(name, message)

    def _refuse(self, name: str, reason: str) -> None:
        self._monitor.record_unreadable(name, reason)
        self._node.get_logger().warning(f"{name}: {reason}", throttle_duration_sec=5.0)

    def _accept(self, name: str, message: Any) -> None:
        stamp = stamp_ns(message)
        self._newest[name] = max(stamp, self._newest.get(name, stamp))
        self._synchronizer.add(name, message)

    def _suspect_received(self, name: str, message: Any) -> None:
        """Hold a message until another message confirms that time has jumped."""
        stamp = stamp_ns(message)
        confirmed = {
            other: held
            for other, held in self._unconfirmed.items()
            if abs(stamp_ns(held) - stamp) <= _LEAP_S * 1e9
        }
        if not confirmed:
            self._drop_unconfirmed(name)
            self._unconfirmed[name] = message
            return
        for other in confirmed:
            del self._unconfirmed[other]
        back_ns = self._newest.get(name, stamp) - stamp
        if back_ns > 0:
            with self._monitor.lock:
                self._monitor.work.time_jumps += 1
            self._node.get_logger().warning(
                f"time jumped back by {back_ns / 1e9:.1f} s: tracking restarts"
            )
            self._begin_epoch()
            self._on_jump()
        for other, held in confirmed.items():
            self._accept(other, held)
        self._accept(name, message)

    def _drop_unconfirmed(self, name: str) -> None:
        """Drop the held message of an input, if there is one, as an outlier."""
        if (message := self._unconfirmed.pop(name, None)) is not None:
            self._monitor.record_outlier_stamp(name)
            self._log_drop(name, stamp_ns(message), "outlier stamp")

    def _unmatched(self, name: str, stamp: int) -> None:
        self._monitor.record_unmatched(name)
        self._log_drop(name, stamp, "unmatched")

    def _log_drop(self, name: str, stamp: int, reason: str) -> None:
        self._node.get_logger().debug(f"{name} {stamp_text(stamp)} dropped: {reason}")

    def _latched_info_received(self, message: CameraInfo) -> None:
        """Take a calibration that was sent once, unless the other subscription has it already."""
        if not self._calibrations.has(stamp_ns(message)):
            self._latched_stamp = stamp_ns(message)
            self._take_camera_info(message)

    def _camera_info_received(self, message: CameraInfo) -> None:
        latched, self._latched_stamp = self._latched_stamp, None
        if stamp_ns(message) == latched:
            return  # the same message by the other subscription
        self._take_camera_info(message)

    def _take_camera_info(self, message: CameraInfo) -> None:
        stamp = self._record("camera_info", message)
        if stamp is None:
            return
        self._calibrations.add(stamp, message)
        if self._last_set is None:
            return
        # A new calibration may arrive shortly after its images: they are delivered again.
        first, other = self._used is None, self._calibration()
        if first or (
            stamp <= self._last_frame and calibration_key(other) != calibration_key(self._used)
        ):
            self._monitor.record_redelivery()
            self._deliver()

    def _calibration(self) -> CameraInfo:
        """Calibration of the last frame."""
        return self._calibrations.of(self._last_frame)

    def _label_info_received(self, message: LabelInfo) -> None:
        self.label_names = {entry.class_id: entry.class_name for entry in message.class_map}

    def _record(self, name: str, message: Any) -> int | None:
        """Record a message; return its stamp in nanoseconds, None if that is invalid."""
        if isinstance(message, CameraInfo):
            encoding, size = message.distortion_model, f"{message.width} x {message.height}"
        elif isinstance(message, Detection2DArray):
            encoding, size = "boxes", str(len(message.detections))
        else:
            encoding, size = description(message)
        stamp = stamp_ns(message)
        delay = (self._node.get_clock().now().nanoseconds - stamp) / 1e9
        frame_id = message.header.frame_id
        self._monitor.record_message(name, stamp / 1e9, delay, frame_id, encoding, size)
        if stamp < 0:
            self._refuse(name, f"its stamp is negative: {stamp / 1e9:.3f} s")
            return None
        return stamp

    def _begin_epoch(self) -> None:
        """Drop all queued images."""
        self.epoch += 1
        for name, stamp in self._synchronizer.clear():
            self._monitor.record_discarded(name)
            self._log_drop(name, stamp, "discarded")
        for name in tuple(self._unconfirmed):
            self._drop_unconfirmed(name)
        self._newest.clear()
        self._last_frame = -1
        self._last_set = None

    def _new_synchronizer(self, parameters: Parameters) -> ImageSynchronizer:
        return ImageSynchronizer(
            tuple(IMAGE_TOPICS),
            parameters.sync_slop,
            parameters.sync_queue_size,
            self._set_matched,
            self._unmatched,
        )

    def _set_matched(self, rgb: Any, depth: Any, segmentation: Any) -> None:
        stamp, *others = map(stamp_ns, (rgb, depth, segmentation))
        if others != [stamp, stamp]:
            other_stamps = " and ".join(map(stamp_text, others))
            self._node.get_logger().debug(f"frame {stamp_text(stamp)} with {other_stamps}")
        self._monitor.record_set()
        if stamp < self._last_frame:
            self.drop_frame(stamp, DropReason.OUT_OF_ORDER)
            return
        self._last_frame = stamp
        self._last_set = (rgb, depth, segmentation)
        if not self._calibrations:
            self.drop_frame(stamp, DropReason.UNCALIBRATED)
        else:
            self._deliver()

    def _deliver(self) -> None:
        self._used = self._calibration()
        self._on_frame(ReceivedFrame(FrameMessages(*self._last_set, self._used), self.epoch))

    def drop_frame(self, stamp: int, reason: DropReason) -> None:
        """Record a frame that is not estimated, by the stamp of its colour image, nanoseconds."""
        self._monitor.record_drop(reason)
        self._log_drop("frame", stamp, reason.value)
