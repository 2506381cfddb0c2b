"""Frames that the subscriptions deliver, and the records of the inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from rclpy.context import Context
from rclpy.event_handler import PublisherEventCallbacks
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from ros_graph import isolated_node, spin_until
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from vision_msgs.msg import Detection2DArray, LabelInfo, VisionClass

from crisp_ros.node.inputs.input_topics import TOPICS
from crisp_ros.node.inputs.subscriptions import InputSubscriptions, ReceivedFrame
from crisp_ros.node.monitor import DropReason, InputRecord, Monitor
from crisp_ros.node.parameters.node_parameters import Parameters

SECOND = 10**9
ENCODINGS = {"rgb": "mono8", "depth": "16UC1", "segmentation": "mono8"}


class Bench:
    """Subscriptions of a node, fed by hand."""

    def __init__(self, node: Node, parameters: Parameters | None = None) -> None:
        self.frames: list[ReceivedFrame] = []
        self.jumps = 0
        topics = {name: node.resolve_topic_name(topic) for name, topic in TOPICS.items()}
        self.monitor = Monitor(topics)
        self.inputs = InputSubscriptions(node, self.monitor, self.frames.append, self._jumped)
        self.inputs.subscribe(parameters or Parameters())
        self._callbacks: dict[str, Callable] = {
            s.topic_name: s.callback for s in self.inputs._subscriptions
        }

    def _jumped(self) -> None:
        self.jumps += 1

    def deliver(self, name: str, stamp_ns: int, **fields: object) -> None:
        message = CameraInfo() if name == "camera_info" else Image(width=1, height=1, step=2)
        if name != "camera_info":
            message.encoding = ENCODINGS[name]
            message.data = [0, 0]
        for field, value in fields.items():
            setattr(message, field, value)
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp_ns, SECOND)
        self._callbacks[self.monitor.inputs[name].topic](message)

    def images(self, stamp_ns: int) -> None:
        for name in ("segmentation", "rgb", "depth"):
            self.deliver(name, stamp_ns)

    def stamps(self) -> list[float]:
        stamps = (f.messages.rgb.header.stamp for f in self.frames)
        return [s.sec + s.nanosec / SECOND for s in stamps]


def images_of(bench: Bench) -> list[InputRecord]:
    """The records of colour, depth and segmentation."""
    return [bench.monitor.inputs[name] for name in ENCODINGS]


@pytest.fixture
def bench() -> Iterator[Bench]:
    with isolated_node() as node:
        bench = Bench(node)
        yield bench
        bench.inputs.unsubscribe()


def test_images_with_close_stamps_are_one_frame(bench: Bench) -> None:
    bench.deliver("camera_info", SECOND, width=640)
    bench.images(SECOND)
    bench.deliver("rgb", 2 * SECOND)
    bench.deliver("depth", 2 * SECOND + 40_000_000)  # within sync_slop
    bench.deliver("segmentation", 2 * SECOND)
    assert bench.stamps() == [1.0, 2.0]
    assert bench.frames[0].messages.camera_info.width == 640
    assert bench.monitor.work.sets == 2


def test_late_segmentation_is_matched(bench: Bench) -> None:
    bench.deliver("camera_info", SECOND)
    for i in range(10):
        bench.deliver("rgb", SECOND + i * SECOND // 10)
        bench.deliver("depth", SECOND + i * SECOND // 10)
    bench.deliver("segmentation", SECOND + 2 * SECOND // 10)
    assert bench.stamps() == [1.2]


def test_the_first_calibration_may_come_after_the_images(bench: Bench) -> None:
    bench.images(SECOND)
    assert bench.frames == []
    assert bench.monitor.work.dropped == {DropReason.UNCALIBRATED: 1}
    bench.deliver("camera_info", SECOND)
    assert bench.stamps() == [1.0]
    assert bench.monitor.work.redelivered == 1


def test_a_changed_calibration_applies_to_its_images(bench: Bench) -> None:
    bench.deliver("camera_info", SECOND, width=640)
    bench.images(SECOND)
    bench.images(2 * SECOND)
    bench.deliver("camera_info", 2 * SECOND, width=640)  # the same: nothing to do again
    assert bench.stamps() == [1.0, 2.0]
    bench.images(3 * SECOND)
    bench.deliver("camera_info", 3 * SECOND, width=320)
    assert bench.stamps() == [1.0, 2.0, 3.0, 3.0]
    assert [f.messages.camera_info.width for f in bench.frames] == [640, 640, 640, 320]
    bench.deliver("camera_info", 4 * SECOND, width=160)  # of images to come
    assert len(bench.frames) == 4


def test_a_late_frame_gets_the_calibration_of_its_time(bench: Bench) -> None:
    for second, width in ((1, 640), (2, 320), (3, 320)):
        bench.deliver("camera_info", second * SECOND, width=width)
    bench.images(SECOND)  # its segmentation took two seconds
    bench.images(2 * SECOND)
    assert [f.messages.camera_info.width for f in bench.frames] == [640, 320]


def test_frames_older_than_the_last_are_dropped_and_counted(bench: Bench) -> None:
    bench.deliver("camera_info", SECOND)
    bench.images(5 * SECOND)
    bench.images(5 * SECOND - SECOND // 2)
    assert bench.stamps() == [5.0]
    assert bench.monitor.work.dropped == {DropReason.OUT_OF_ORDER: 1} and bench.jumps == 0


def test_a_jump_back_discards_queued_images(bench: Bench) -> None:
    bench.deliver("camera_info", SECOND)
    for i in range(30):  # more than the queues hold, none with a match
        bench.deliver("rgb", (100 + i) * SECOND)
        bench.deliver("segmentation", (200 + i) * SECOND)
        bench.deliver("depth", (300 + i) * SECOND)
    epoch = bench.inputs.epoch
    bench.images(SECOND)
    assert bench.stamps() == [1.0]
    assert bench.jumps == 1 and bench.monitor.work.time_jumps == 1
    for record in images_of(bench):
        assert (record.unmatched, record.discarded, record.queued(sets=1)) == (10, 20, 0)
    assert bench.frames[0].epoch == bench.inputs.epoch != epoch


def test_a_single_old_stamp_is_an_outlier(bench: Bench) -> None:
    bench.deliver("camera_info", SECOND)
    bench.images(100 * SECOND)
    bench.deliver("rgb", 3 * SECOND)
    bench.images(101 * SECOND)
    bench.deliver("depth", 3 * SECOND)
    bench.images(102 * SECOND)
    assert bench.stamps() == [100.0, 101.0, 102.0] and bench.jumps == 0
    assert [r.out_of_order for r in images_of(bench)] == [0, 0, 0]
    assert [r.outlier_stamps for r in images_of(bench)] == [1, 1, 0]
    assert [r.queued(sets=3) for r in images_of(bench)] == [0, 0, 0]


def test_single_stamps_far_ahead_are_outliers(bench: Bench) -> None:
    bench.deliver("camera_info", SECOND)
    bench.images(100 * SECOND)
    bench.deliver("rgb", (2**31 - 1) * SECOND)
    bench.images(101 * SECOND)
    bench.deliver("depth", 10**6 * SECOND)
    bench.deliver("depth", 10**8 * SECOND)
    bench.deliver("segmentation", 3 * SECOND)
    bench.images(102 * SECOND)
    assert bench.stamps() == [100.0, 101.0, 102.0] and bench.jumps == 0
    assert [r.outlier_stamps for r in images_of(bench)] == [1, 2, 1]
    assert [r.queued(sets=3) for r in images_of(bench)] == [0, 0, 0]


def test_no_frame_is_lost_after_a_long_pause(bench: Bench) -> None:
    bench.deliver("camera_info", SECOND)
    for second in (10, 70, 130, 130.1):
        bench.images(round(second * SECOND))
    bench.deliver("rgb", 190 * SECOND)  # of one input first, twice
    bench.deliver("rgb", 191 * SECOND)
    bench.deliver("depth", 190 * SECOND)
    bench.deliver("segmentation", 190 * SECOND)
    assert bench.stamps() == [10.0, 70.0, 130.0, 130.1, 190.0] and bench.jumps == 0
    assert sum(r.out_of_order + r.outlier_stamps for r in images_of(bench)) == 0


def test_a_negative_stamp_is_refused_with_its_reason(bench: Bench) -> None:
    bench.deliver("camera_info", -SECOND)
    bench.deliver("camera_info", SECOND)
    bench.images(-SECOND // 2)
    bench.images(SECOND)
    assert bench.stamps() == [1.0]
    for record in bench.monitor.inputs.values():
        assert (record.count, record.faults, record.unreadable) == (2, 1, 1)
    assert bench.monitor.inputs["depth"].fault == "its stamp is negative: -0.500 s"
    assert [r.queued(sets=1) for r in images_of(bench)] == [0, 0, 0]


def test_a_bag_that_loops_loses_no_frame(bench: Bench) -> None:
    bench.deliver("camera_info", SECOND)
    for _ in range(3):
        for second in (10, 11, 12, 13):
            bench.images(second * SECOND)
    assert bench.stamps() == [10.0, 11.0, 12.0, 13.0] * 3
    assert bench.jumps == 2 and bench.monitor.work.time_jumps == 2
    assert sum(r.out_of_order + r.outlier_stamps for r in images_of(bench)) == 0


def test_an_unreadable_image_displaces_no_other(bench: Bench) -> None:
    bench.deliver("camera_info", SECOND)
    bench.deliver("rgb", SECOND, data=[0])
    bench.deliver("depth", SECOND, encoding="rgb8")
    bench.images(SECOND)
    assert bench.stamps() == [1.0]
    assert bench.monitor.inputs["rgb"].faults == 0  # one row may lack its padding
    assert bench.monitor.inputs["depth"].faults == 1
    assert [r.queued(sets=1) for r in images_of(bench)] == [0, 0, 0]
    bench.deliver("rgb", 2 * SECOND, data=[])
    assert "truncated: 0 bytes" in bench.monitor.inputs["rgb"].fault


def test_topics_of_transports_and_boxes_after_remapping() -> None:
    with isolated_node() as helper:
        arguments = ["--ros-args", "-r", "rgb/image_rect_color:=/camera/color", "-r", "__ns:=/arm"]
        node = Node("subscribing", context=helper.context, cli_args=arguments)
        parameters = Parameters(
            image_transport="compressed",
            depth_image_transport="compressedDepth",
            segmentation_format="detections",
        )
        bench = Bench(node, parameters)
        topics = {name: record.topic for name, record in bench.monitor.inputs.items()}
        assert topics == {
            "rgb": "/camera/color/compressed",
            "depth": "/arm/depth_registered/image_rect/compressedDepth",
            "segmentation": "/arm/detections",
            "camera_info": "/arm/rgb/camera_info",
        }
        types = {s.topic_name: s.msg_type for s in bench.inputs._subscriptions}
        assert [types[topics[name]] for name in ("rgb", "depth", "segmentation")] == [
            CompressedImage,
            CompressedImage,
            Detection2DArray,
        ]
        bench.inputs.unsubscribe()
        node.destroy_node()


def test_each_input_is_described(bench: Bench) -> None:
    header_frame = Image().header
    header_frame.frame_id = "camera"
    bench.deliver("depth", SECOND, width=640, height=480, header=header_frame)
    record = bench.monitor.inputs["depth"]
    assert (record.encoding, record.size, record.count) == ("16UC1", "640 x 480", 1)
    assert record.stamp == 1.0 and record.delay > 0
    assert record.topic == "/depth_registered/image_rect"


def test_an_incompatible_qos_policy_is_recorded() -> None:
    topic = "/rgb/image_rect_color"
    override = Parameter(f"qos_overrides.{topic}.subscription.reliability", value="reliable")
    with isolated_node() as publishing:
        context: Context = publishing.context
        best_effort = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
        publishing.create_publisher(Image, topic, best_effort)
        node = Node("subscribing", context=context, parameter_overrides=[override])
        bench = Bench(node)
        record = bench.monitor.inputs["rgb"]
        assert spin_until(node, lambda: record.incompatible_qos == "RELIABILITY")
        bench.inputs.unsubscribe()
        node.destroy_node()


def test_a_calibration_sent_once_before_the_start_is_received() -> None:
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    with isolated_node() as node:
        topic = node.resolve_topic_name(TOPICS["camera_info"])
        publisher = node.create_publisher(CameraInfo, topic, latched)
        publisher.publish(CameraInfo(width=77))
        bench = Bench(node)
        record = bench.monitor.inputs["camera_info"]
        assert spin_until(node, lambda: record.count == 1)
        later = CameraInfo(width=78)
        later.header.stamp.sec = 5
        publisher.publish(later)
        assert spin_until(node, lambda: record.count == 2)
        assert not spin_until(node, lambda: record.count > 2, 0.5)  # by both subscriptions, once
        bench.images(5 * SECOND)
        assert bench.frames[0].messages.camera_info.width == 78
        bench.inputs.unsubscribe()


@pytest.mark.parametrize(
    "durability", [DurabilityPolicy.TRANSIENT_LOCAL, DurabilityPolicy.VOLATILE]
)
def test_label_names_of_any_durability_are_received(durability: DurabilityPolicy) -> None:
    names = LabelInfo(class_map=[VisionClass(class_id=1, class_name="mug")])
    with isolated_node() as node:
        refused: list[object] = []
        events = PublisherEventCallbacks(incompatible_qos=refused.append)
        profile = QoSProfile(depth=1, durability=durability)
        publisher = node.create_publisher(LabelInfo, "label_info", profile, event_callbacks=events)
        publisher.publish(names)
        bench = Bench(node)
        assert spin_until(node, lambda: publisher.get_subscription_count() > 0)
        if durability == DurabilityPolicy.VOLATILE:
            publisher.publish(names)
        assert spin_until(node, lambda: bench.inputs.label_names == {1: "mug"})
        assert not spin_until(node, lambda: refused, 0.5)
        bench.inputs.unsubscribe()


def test_a_calibration_of_a_usual_publisher_is_received() -> None:
    with isolated_node() as node:
        bench = Bench(node)
        topic = bench.monitor.inputs["camera_info"].topic
        refused: list[object] = []
        events = PublisherEventCallbacks(incompatible_qos=refused.append)
        publisher = node.create_publisher(CameraInfo, topic, 5, event_callbacks=events)
        assert spin_until(node, lambda: publisher.get_subscription_count() > 0)
        assert not spin_until(node, lambda: refused, 0.5)  # its process would print a warning
        publisher.publish(CameraInfo(width=77))
        record = bench.monitor.inputs["camera_info"]
        assert spin_until(node, lambda: record.count == 1)
        assert not record.incompatible_qos
        bench.inputs.unsubscribe()
