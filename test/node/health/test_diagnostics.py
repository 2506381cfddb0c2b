"""Causes that diagnostics name for faulty graphs and clocks."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from node.fakes import estimate, tracked
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.time import Time
from ros_graph import isolated_node, spin_until
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import String

from crisp_ros.node.health.diagnostics import Diagnostics, agreement, silence
from crisp_ros.node.health.input_diagnosis import (
    clock_summary,
    input_summary,
    synchronisation_summary,
)
from crisp_ros.node.monitor import (
    DropReason,
    ExpectedInput,
    Fit,
    InputRecord,
    Monitor,
    WorkRecord,
)
from crisp_ros.node.node_state import NodeState
from crisp_ros.node.parameters.node_parameters import Parameters
from crisp_ros.observation.observe import Rejected
from crisp_ros.pipeline import FrameEstimate

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR
TOPIC = "/rgb/image_rect_color"
NOW = 100.0


@pytest.fixture
def node() -> Iterator[Node]:
    with isolated_node() as node:
        yield node


def silent() -> InputRecord:
    return InputRecord(TOPIC, "sensor_msgs/msg/Image", expected_since=NOW - 10)


def cause(node: Node, record: InputRecord) -> str:
    level, text = input_summary(node, "rgb", record, 2.0, NOW)
    assert level == ERROR and text.startswith("nothing for 10 s: ")
    return text


def test_a_topic_without_publisher_is_named(node: Node) -> None:
    assert "no publisher on /rgb/image_rect_color: wrong name, remapping" in cause(node, silent())
    node.create_publisher(Image, "/camera/color/image_raw", 1)
    found = cause(node, silent())
    assert (
        "wrong name or remapping? sensor_msgs/msg/Image comes on /camera/color/image_raw" in found
    )


def test_images_of_another_transport_are_found(node: Node) -> None:
    node.create_publisher(CompressedImage, f"{TOPIC}/compressed", 1)
    assert f"but on {TOPIC}/compressed: set image_transport to compressed" in cause(node, silent())
    record = silent()
    record.topic, record.type_name = f"{TOPIC}/compressed", "sensor_msgs/msg/CompressedImage"
    with isolated_node() as other:
        other.create_publisher(Image, TOPIC, 1)
        assert f"but on {TOPIC}: set image_transport to raw" in cause(other, record)


def test_a_wrong_type_and_a_silent_publisher_are_named(node: Node) -> None:
    publisher = node.create_publisher(String, TOPIC, 1)
    found = cause(node, silent())
    assert f"publishers on {TOPIC} send std_msgs/msg/String, not sensor_msgs/msg/Image" in found
    node.destroy_publisher(publisher)
    node.create_publisher(Image, TOPIC, 1)
    found = cause(node, silent())
    assert f"1 publisher(s) on {TOPIC}, but no message has arrived: none was sent since" in found
    assert "lost between the processes: start the publisher with FASTRTPS_DEFAULT_PROF" in found


def test_lost_and_ended_messages_are_no_guess(node: Node) -> None:
    node.create_publisher(Image, TOPIC, 1)
    lost, ended = silent(), silent()
    lost.lost, ended.count = 7, 7
    assert "but 7 messages were lost between the processes: start" in cause(node, lost)
    assert "but no message arrives any more" in cause(node, ended)


def test_latched_images_name_the_override(node: Node) -> None:
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    node.create_publisher(Image, TOPIC, latched)
    override = f"qos_overrides.{TOPIC}.subscription.durability set to transient_local"
    assert override in cause(node, silent())


def test_small_messages_are_not_said_to_be_lost(node: Node) -> None:
    node.create_publisher(CameraInfo, "/info", 1)
    record = InputRecord("/info", "sensor_msgs/msg/CameraInfo", expected_since=NOW - 10)
    text = cause(node, record)
    assert "no message has arrived since this node subscribed" in text and "lost" not in text


def test_a_calibration_that_is_rare_or_sent_once_is_no_fault(node: Node) -> None:
    record = InputRecord("/info", "sensor_msgs/msg/CameraInfo", expected_since=NOW - 60)
    record.arrivals.append(NOW - 50)
    record.encoding, record.size = "plumb_bob", "640 x 480"
    level, text = input_summary(node, "camera_info", record, 2.0, NOW)
    assert level == OK and text == "plumb_bob 640 x 480, in use since it arrived 50 s ago"
    record.warning = "no distortion model"
    assert input_summary(node, "camera_info", record, 2.0, NOW) == (WARN, "no distortion model")
    record.fault = "K[0] = 0"
    assert input_summary(node, "camera_info", record, 2.0, NOW) == (ERROR, "K[0] = 0")
    assert input_summary(node, "depth", record, 2.0, NOW)[1].startswith("nothing for 50 s")


def test_an_incompatible_policy_is_named_at_once(node: Node) -> None:
    record = InputRecord(TOPIC, expected_since=NOW - 0.1, incompatible_qos="DURABILITY")
    level, text = input_summary(node, "rgb", record, 2.0, NOW)
    assert level == ERROR and "incompatible DURABILITY (see qos_overrides" in text


def images(offset: float = 0.0, rate: float = 30.0) -> dict[str, InputRecord]:
    records = {}
    for name in ("rgb", "depth", "segmentation"):
        record = InputRecord(f"/{name}", expected_since=NOW - 20, stamp=50.0)
        record.arrivals.extend(np.arange(NOW - 4, NOW, 1 / rate).tolist())
        records[name] = record
    records["depth"].stamp += offset
    return records


def test_stamps_that_are_apart_are_named() -> None:
    level, text = synchronisation_summary(images(0.4), [], 0.05, 2.0, NOW)
    assert level == ERROR
    assert "none match: the stamps of rgb and depth are 0.400 s apart" in text


def test_an_input_that_cannot_be_used_is_named_instead() -> None:
    records = images()
    records["rgb"].fault, records["rgb"].unreadable = "colour encoding 'x' is not supported", 9
    level, text = synchronisation_summary(records, [], 0.05, 2.0, NOW)
    assert level == ERROR and "rgb cannot be used: see the status of input rgb" in text
    assert "apart" not in text


def test_equal_stamps_are_not_said_to_be_apart() -> None:
    level, text = synchronisation_summary(images(), [], 0.05, 2.0, NOW)
    assert level == ERROR and "the latest stamps of all inputs are equal" in text


def test_a_low_share_of_matched_images_is_a_warning() -> None:
    rare = np.arange(NOW - 4, NOW, 1 / 3).tolist()
    level, text = synchronisation_summary(images(), rare, 0.05, 2.0, NOW)
    assert level == WARN and "only 3.0 of 30.0 rgb" in text and "sync_queue_size" in text
    often = np.arange(NOW - 4, NOW, 1 / 30).tolist()
    assert synchronisation_summary(images(), often, 0.05, 2.0, NOW)[0] == OK


def test_stamps_are_not_compared_while_an_input_is_missing() -> None:
    records = images(0.4)
    records["depth"].arrivals.clear()
    assert synchronisation_summary(records, [], 0.05, 2.0, NOW)[0] == OK


def test_clocks_that_differ_are_named(node: Node) -> None:
    assert clock_summary(node, None) == (OK, "system time")
    assert clock_summary(node, 0.05)[0] == OK
    assert "2.5 s after their stamp" in clock_summary(node, 2.5)[1]
    assert "0.50 s ahead of this machine's clock: synchronise" in clock_summary(node, -0.5)[1]
    level, text = clock_summary(node, 5e8)
    assert level == WARN and "clock is not this machine's, or it plays a recording" in text
    node.create_publisher(Clock, "/clock", 1)
    assert "set use_sim_time" in clock_summary(node, 5e8)[1]


def test_diagnostics_report_a_missing_clock() -> None:
    override = Parameter("use_sim_time", value=True)
    with isolated_node() as listener:
        node = Node("crisp", context=listener.context, parameter_overrides=[override])
        monitor = Monitor({name: f"/{name}" for name in images()} | {"camera_info": "/info"})
        Diagnostics(node, monitor, Parameters, NodeState(label="active"))
        found: list[str] = []

        def heard(message: DiagnosticArray) -> None:
            found.extend(s.message for s in message.status if s.name == "crisp: clock")

        node.create_subscription(DiagnosticArray, "/diagnostics", heard, 10)
        assert spin_until(node, lambda: any("nothing arrives on /clock" in text for text in found))
        publisher = node.create_publisher(Clock, "/clock", 1)
        assert spin_until(node, lambda: publisher.get_subscription_count() > 0)
        publisher.publish(Clock(clock=Time(seconds=1000.0).to_msg()))
        found.clear()
        assert spin_until(node, lambda: "simulated time" in found)
        assert clock_summary(node, 5e8)[1].endswith("set it for their publisher")
        node.destroy_node()


def record_frame(monitor: Monitor, rejected: int = 0) -> None:
    monitor.record_accepted({})
    others = tuple(Rejected(label, "mask of 5 px") for label in range(1, rejected + 1))
    found = estimate(1, np.eye(4))
    monitor.record_estimate(
        FrameEstimate((found,), others, {}, "1"), ("mug_1",), {"network": 5.0}, 0.1
    )
    monitor.record_tracks((tracked("mug_1", found),))


class Reported:
    """Diagnostics of a monitor in a chosen lifecycle state."""

    def __init__(self, node: Node) -> None:
        self.monitor = Monitor({name: f"/{name}" for name in (*images(), "camera_info")})
        self.state = NodeState()
        self._statuses: dict[str, DiagnosticStatus] = {}
        self._diagnostics = Diagnostics(node, self.monitor, Parameters, self.state)
        node.create_subscription(DiagnosticArray, "/diagnostics", self._heard, 10)
        self._node = node

    def _heard(self, message: DiagnosticArray) -> None:
        self._statuses.update({s.name.split(": ")[1]: s for s in message.status})

    def expect_inputs(self) -> None:
        topics = {name: ExpectedInput(f"/{name}", "") for name in self.monitor.inputs}
        self.monitor.expect_inputs(topics)

    def of_frames(self) -> list[DiagnosticStatus]:
        self._diagnostics.update()
        self._statuses.clear()
        names = ("estimates", "tracks", "depth scale and registration", "timing", "stream")
        assert spin_until(self._node, lambda: self._statuses.keys() >= {*names})
        return [self._statuses[name] for name in names]


def test_an_inactive_node_reports_no_frame(node: Node) -> None:
    reported = Reported(node)
    for state in ("unconfigured", "inactive", "finalized"):
        reported.state.label = state
        record_frame(reported.monitor)  # one that was in progress when the node stopped
        assert {s.message for s in reported.of_frames()} == {f"the node is {state}"}
    reported.state.label, reported.state.is_enabled = "inactive", False
    assert "the node is inactive; disabled by ~/enable" in reported.of_frames()[-1].message
    reported.state.label, reported.state.is_enabled = "active", True
    reported.expect_inputs()
    assert {s.message for s in reported.of_frames()[:4]} == {"no frame yet"}
    record_frame(reported.monitor)
    found = [s.message for s in reported.of_frames()]
    assert found[:2] == ["1 objects, all certified", "1 tracks, 1 seen, 1 certified now"]
    assert "from stamp to publication" in found[3] and "as they arrive" in found[4]


def test_silence_after_the_latest_frame_is_reported(node: Node) -> None:
    reported = Reported(node)
    reported.state.label = "active"
    reported.expect_inputs()
    record_frame(reported.monitor)
    reported.monitor.work.last_end -= 8.0
    found = reported.of_frames()
    assert all(s.message.startswith("no frame for 8 s: see the ") for s in found[:4])
    assert [s.level for s in found[:4]] == [ERROR, ERROR, OK, OK]
    reported.state.is_enabled = False
    found = reported.of_frames()
    assert {s.message for s in found[:4]} == {"no frame for 8 s: disabled by ~/enable"}
    assert {s.level for s in found} == {OK}


def test_silence_ends_with_the_start_of_a_frame() -> None:
    slow = WorkRecord(last_end=NOW - 5.0, started=NOW - 4.5)
    assert silence(slow, True, 2.0, NOW) == (WARN, "a frame has been in progress for 4 s")
    late = WorkRecord(last_end=NOW - 5.0, started=NOW - 0.5)
    assert silence(late, True, 2.0, NOW)[0] == ERROR
    quick = WorkRecord(last_end=NOW - 1.0, started=NOW - 0.5, last_error="frame failed")
    assert silence(quick, True, 2.0, NOW) is None


def test_a_failed_frame_ends_silence_a_dropped_one_does_not(node: Node) -> None:
    reported = Reported(node)
    reported.state.label = "active"
    reported.expect_inputs()
    work = reported.monitor.work
    work.last_end -= 8.0
    reported.monitor.record_accepted({})
    reported.monitor.record_drop(DropReason.NO_TRANSFORM)
    assert work.started is None and silence(work, True, 2.0, time.monotonic())[0] == ERROR
    reported.monitor.record_accepted({})
    reported.monitor.record_drop(DropReason.SUPERSEDED)  # another, meanwhile
    assert work.started is not None
    reported.monitor.record_failure("frame failed: no memory")
    assert reported.of_frames()[0].message == "frame failed: no memory"


def test_many_rejected_labels_are_counted_and_some_listed(node: Node) -> None:
    reported = Reported(node)
    reported.state.label = "active"
    reported.expect_inputs()
    record_frame(reported.monitor, rejected=1000)
    found = reported.of_frames()[0]
    assert found.level == WARN and "1000 labels without estimate" in found.message
    assert len(found.values) == 50 and len(found.message) < 300


def test_rates_and_delays_are_those_of_the_latest_messages() -> None:
    monitor = Monitor({"rgb": TOPIC})
    monitor.expect_inputs({"rgb": ExpectedInput(TOPIC, "sensor_msgs/msg/Image")})
    for delay in (5.0, *[0.02] * 40):
        monitor.record_message("rgb", 1.0, delay, "camera", "rgb8", "640 x 480")
    record = monitor.inputs["rgb"]
    assert record.delay == 0.02 and record.count == 41
    assert record.rate(time.monotonic() + 60) == 0.0


def frames(fails: bool, ratio: float, objects: int = 3) -> list[tuple[Fit, ...]]:
    return [(Fit(fails, ratio),) * objects] * 20


def test_a_fault_of_all_objects_is_attributed_to_depth() -> None:
    assert agreement(frames(False, 1.0))[0] == OK
    assert agreement(frames(True, 1.0, objects=1))[0] == OK  # one object has no others
    assert agreement(frames(True, 1.0)[:5])[0] == OK
    mixed = [(Fit(True, 1.0), Fit(False, 1.0))] * 20
    assert agreement(mixed)[0] == OK
    level, text, values = agreement(frames(True, 1.0))
    assert level == WARN and "registration is wrong, or the model does not know" in text
    level, text, values = agreement(frames(True, 5.0))
    assert "objects are 5 times as large by depth as by their appearance" in text
    assert values["size by depth"] == "5.00"
    assert "registration is wrong, or" in agreement(frames(True, float("nan")))[1]


def test_a_depth_scale_that_is_off_by_some_percent_is_named() -> None:
    """Certificates may hold all the same."""
    level, text, values = agreement([(Fit(False, 1.0, 1.1),) * 3] * 3)
    assert level == WARN and "scaled by 1.10: check depth unit / calibration" in text
    assert values == {"depth scale": "1.10"}
    assert agreement([(Fit(False, 1.0, 1.01),) * 3] * 20)[0] == OK


@pytest.mark.parametrize(
    ("unit_m", "ratio", "suggested"),
    [(0.001, 4.0, "0.00025"), (0.001, 10.2, "0.0001"), (1.0, 5.0, "0.2"), (0.0001, 0.1, "0.001")],
)
def test_the_first_frames_name_a_wrong_depth_unit(
    unit_m: float, ratio: float, suggested: str
) -> None:
    """Wrong sizes are reported although small objects do not fail."""
    for fails in (True, False):
        objects = tuple(Fit(fails, ratio * r) for r in (0.85, 1.0, 1.02, 1.15))
        level, text, values = agreement([objects, objects], unit_m)
        assert level == WARN and text.endswith(f"set depth_unit to {suggested}")
        assert values["suggested depth_unit"] == suggested
