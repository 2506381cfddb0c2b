"""Subscriptions to the node's inputs; messages of one moment are put together."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

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
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from vision_msgs.msg import Detection2DArray, LabelInfo

from crisp_ros.data import image_messages
from crisp_ros.node.health.monitor import Awaited, LeftOut, Monitor
from crisp_ros.node.inputs import segmentation_messages as segmentation
from crisp_ros.node.inputs.camera_info import calibration
from crisp_ros.node.inputs.frame_conversion import FrameMessages
from crisp_ros.node.inputs.synchronizer import Partners, stamp_ns, stamp_text
from crisp_ros.node.parameters.node_parameters import Parameters

IMAGE_TOPICS = {
    "rgb": "rgb/image_rect_color",
    "depth": "depth_registered/image_rect",
    "segmentation": "segmentation",
}
DETECTIONS_TOPIC = "detections"
CAMERA_INFO_TOPIC = "rgb/camera_info"
LABEL_INFO_TOPIC = "label_info"
TOPICS = {**IMAGE_TOPICS, "camera_info": CAMERA_INFO_TOPIC}

_KINDS = {"rgb": "colour", "depth": "depth", "segmentation": "segmentation"}
_CALIBRATIONS = 100  # that are kept, as many as images may wait for a slow segmentation
_JUMP_S = 1.0  # a stamp older than the newest by more is a new run of a recording, not a late image
_LEAP_S = 10.0  # a stamp ahead of the newest by more may be wrong, or there was a long pause


class Received(NamedTuple):
    """One frame's messages, and the run of time (counted by backward jumps) that they belong to."""

    messages: FrameMessages
    run: int


class Inputs:
    """The node's subscriptions; calls `on_frame` with what belongs together.

    Images wait for partners with a stamp less than `sync_slop` away. The calibration is that with
    the colour image's stamp, or else the latest that came. An image whose stamp is far from those
    before it counts once another one agrees with it; one alone is set aside. When stamps jump back,
    all that waits is forgotten and `on_jump` is called.
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
        self._partners = self._new_partners(Parameters())
        self._newest: dict[str, int] = {}
        self._doubtful: dict[str, Any] = {}  # the latest of an input whose stamp may be wrong
        self._last_frame = -1
        self._calibrations: dict[int, CameraInfo] = {}  # by stamp, in the order of their arrival
        self._used: CameraInfo | None = None  # for the last frame
        self._together: tuple[Any, Any, Any] | None = None
        self.label_names: dict[int, str] = {}
        self.run = 0

    def subscribe(self, parameters: Parameters) -> None:
        """Begins to listen.

        Raises:
            rclpy.qos_overriding_options.InvalidQosOverridesError, RuntimeError: a QoS override
                makes no sense.
        """
        self._begin_run()
        self._partners = self._new_partners(parameters)
        topics = self._topics(parameters)
        self._monitor.await_inputs(
            {name: Awaited(topic, type_name(kind)) for name, (kind, topic) in topics.items()}
        )
        # The calibration first: the executor serves what is ready in the order of subscription.
        self._listen("camera_info", *topics.pop("camera_info"), self._camera_info_received)
        for name, (message_type, topic) in topics.items():
            self._listen(name, message_type, topic, partial(self._received, name))
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._subscriptions.append(
            self._node.create_subscription(
                LabelInfo,
                LABEL_INFO_TOPIC,
                self._label_info_received,
                latched,
                qos_overriding_options=QoSOverridingOptions.with_default_policies(),
            )
        )

    def unsubscribe(self) -> None:
        """Stops listening; frames that are still under way belong to a past run."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions.clear()
        self._monitor.await_inputs(None)
        self._begin_run()
        self._calibrations.clear()
        self._used = None

    @property
    def is_listening(self) -> bool:
        """Whether it is subscribed."""
        return bool(self._subscriptions)

    def _topics(self, parameters: Parameters) -> dict[str, tuple[type, str]]:
        """Type and resolved topic of each input; image_transport adds to names after remapping."""
        transports = {
            "rgb": parameters.image_transport,
            "depth": parameters.depth_image_transport,
            "segmentation": parameters.segmentation_image_transport,
        }
        topics: dict[str, tuple[type, str]] = {}
        for name, topic in TOPICS.items():
            topic = self._node.resolve_topic_name(topic)
            transport = transports.get(name, "raw")
            if name == "camera_info":
                topics[name] = (CameraInfo, topic)
            elif transport == "raw":
                topics[name] = (Image, topic)
            else:
                topics[name] = (CompressedImage, f"{topic}/{transport}")
        if parameters.segmentation_format == segmentation.DETECTIONS:
            topic = self._node.resolve_topic_name(DETECTIONS_TOPIC)
            topics["segmentation"] = (Detection2DArray, topic)
        return topics

    def _listen(
        self, name: str, message_type: type, topic: str, callback: Callable[[Any], None]
    ) -> None:
        # A profile of its own: overrides are written into it.
        sensor_data = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
        events = SubscriptionEventCallbacks(
            incompatible_qos=lambda event: self._incompatible(name, event.last_policy_kind),
            message_lost=lambda event: self._monitor.lost(name, event.total_count),
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

    def _received(self, name: str, message: Any) -> None:
        stamp = self._note(name, message)
        if stamp is None:
            return
        try:
            if not isinstance(message, Detection2DArray):
                image_messages.check(message, _KINDS[name])
        except image_messages.ImageError as error:
            # Here already: it must not take the place of a good one.
            self._refuse(name, str(error))
            return
        newest = self._newest.get(name, stamp)
        leap = stamp - max(self._newest.values(), default=stamp)
        if newest - stamp > _JUMP_S * 1e9 or leap > _LEAP_S * 1e9:
            self._doubtful_received(name, message)
            return
        with self._monitor.lock:
            self._monitor.inputs[name].out_of_order += stamp < newest
        self._set_aside(name)
        self._take(name, message)

    def _refuse(self, name: str, reason: str) -> None:
        self._monitor.unreadable(name, reason)
        self._node.get_logger().warning(f"{name}: {reason}", throttle_duration_sec=5.0)

    def _take(self, name: str, message: Any) -> None:
        stamp = stamp_ns(message)
        self._newest[name] = max(stamp, self._newest.get(name, stamp))
        self._partners.add(name, message)

    def _doubtful_received(self, name: str, message: Any) -> None:
        """Time has jumped, or one stamp is wrong: another message of that time tells."""
        stamp = stamp_ns(message)
        agreeing = {
            other: doubtful
            for other, doubtful in self._doubtful.items()
            if abs(stamp_ns(doubtful) - stamp) <= _LEAP_S * 1e9
        }
        if not agreeing:
            self._set_aside(name)
            self._doubtful[name] = message
            return
        for other in agreeing:
            del self._doubtful[other]
        back_ns = self._newest.get(name, stamp) - stamp
        if back_ns > 0:
            with self._monitor.lock:
                self._monitor.work.time_jumps += 1
            self._node.get_logger().warning(
                f"time jumped back by {back_ns / 1e9:.1f} s: starting afresh"
            )
            self._begin_run()
            self._on_jump()
        for other, doubtful in agreeing.items():
            self._take(other, doubtful)
        self._take(name, message)

    def _set_aside(self, name: str) -> None:
        """Gives up an input's message whose stamp nothing agreed with, if there is one."""
        if (message := self._doubtful.pop(name, None)) is not None:
            self._monitor.set_aside(name)
            self._tell_left(name, stamp_ns(message), "set aside")

    def _lonely(self, name: str, stamp: int) -> None:
        self._monitor.lonely(name)
        self._tell_left(name, stamp, "without partners")

    def _tell_left(self, name: str, stamp: int, cause: str) -> None:
        self._node.get_logger().debug(f"{name} {stamp_text(stamp)} left out: {cause}")

    def _camera_info_received(self, message: CameraInfo) -> None:
        stamp = self._note("camera_info", message)
        if stamp is None:
            return
        self._calibrations.pop(stamp, None)
        self._calibrations[stamp] = message
        while len(self._calibrations) > _CALIBRATIONS:
            del self._calibrations[next(iter(self._calibrations))]
        if self._together is None:
            return
        # A new calibration may come a bit later than its images: they are handed on once more.
        first, other = self._used is None, self._calibration()
        if first or (stamp <= self._last_frame and calibration(other) != calibration(self._used)):
            self._monitor.repeated()
            self._hand_on()

    def _calibration(self) -> CameraInfo:
        """Of the last frame."""
        latest = next(reversed(self._calibrations.values()))
        return self._calibrations.get(self._last_frame, latest)

    def _label_info_received(self, message: LabelInfo) -> None:
        self.label_names = {entry.class_id: entry.class_name for entry in message.class_map}

    def _note(self, name: str, message: Any) -> int | None:
        """Records a message; its stamp in nanoseconds, or None where that makes no sense."""
        if isinstance(message, CameraInfo):
            encoding, size = message.distortion_model, f"{message.width} x {message.height}"
        elif isinstance(message, Detection2DArray):
            encoding, size = "boxes", str(len(message.detections))
        else:
            encoding, size = image_messages.description(message)
        stamp = stamp_ns(message)
        delay = (self._node.get_clock().now().nanoseconds - stamp) / 1e9
        frame_id = message.header.frame_id
        self._monitor.received(name, stamp / 1e9, delay, frame_id, encoding, size)
        if stamp < 0:
            self._refuse(name, f"its stamp is negative: {stamp / 1e9:.3f} s")
            return None
        return stamp

    def _begin_run(self) -> None:
        """Forgets all images."""
        self.run += 1
        for name, stamp in self._partners.forget():
            self._monitor.forgotten(name)
            self._tell_left(name, stamp, "forgotten")
        for name in tuple(self._doubtful):
            self._set_aside(name)
        self._newest.clear()
        self._last_frame = -1
        self._together = None

    def _new_partners(self, parameters: Parameters) -> Partners:
        return Partners(
            tuple(IMAGE_TOPICS),
            parameters.sync_slop,
            parameters.sync_queue_size,
            self._put_together,
            self._lonely,
        )

    def _put_together(self, rgb: Any, depth: Any, segmentation: Any) -> None:
        stamp, *others = map(stamp_ns, (rgb, depth, segmentation))
        if others != [stamp, stamp]:
            told = " and ".join(map(stamp_text, others))
            self._node.get_logger().debug(f"frame {stamp_text(stamp)} with {told}")
        self._monitor.put_together()
        if stamp < self._last_frame:
            self.leave_out(stamp, LeftOut.LATE)
            return
        self._last_frame = stamp
        self._together = (rgb, depth, segmentation)
        if not self._calibrations:
            self.leave_out(stamp, LeftOut.UNCALIBRATED)
        else:
            self._hand_on()

    def _hand_on(self) -> None:
        self._used = self._calibration()
        self._on_frame(Received(FrameMessages(*self._together, self._used), self.run))

    def leave_out(self, stamp: int, cause: LeftOut) -> None:
        """Notes a frame, by its colour image's stamp in nanoseconds, that is not estimated."""
        self._monitor.left_out(cause)
        self._tell_left("frame", stamp, cause.value)


def type_name(message_type: type) -> str:
    """As the graph names it, such as sensor_msgs/msg/Image."""
    return f"{message_type.__module__.split('.')[0]}/msg/{message_type.__name__}"
