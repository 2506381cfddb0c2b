"""Causes that diagnostics name, of graphs and clocks in which something is wrong."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from node.fakes import estimate, tracked
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.time import Time
from ros_graph import isolated_node, spin_until
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import String

from crisp_ros.node.health.diagnostics import Diagnostics, agreement, silence
from crisp_ros.node.health.input_diagnosis import (
    clock_summary,
    input_summary,
    synchronisation_summary,
)
from crisp_ros.node.health.monitor import Awaited, Fit, InputRecord, LeftOut, Monitor, WorkRecord
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
    return InputRecord(TOPIC, "sensor_msgs/msg/Image", first_wanted=NOW - 10)


def cause(node: Node, record: InputRecord) -> str:
    level, text = input_summary(node, "rgb", record, 2.0, NOW)
    assert level == ERROR and text.startswith("nothing for 10 s: ")
    return text


def test_a_topic_without_publisher_is_named_with_where_its_type_comes(node: Node) -> None:
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


def test_a_wrong_type_and_a_silent_publisher_are_told_apart(node: Node) -> None:
    publisher = node.create_publisher(String, TOPIC, 1)
    found = cause(node, silent())
    assert f"publishers on {TOPIC} send std_msgs/msg/String, not sensor_msgs/msg/Image" in found
    node.destroy_publisher(publisher)
    node.create_publisher(Image, TOPIC, 1)
    assert f"1 publisher(s) on {TOPIC} send nothing" in cause(node, silent())


def test_an_incompatible_policy_is_named_at_once(node: Node) -> None:
    record = InputRecord(TOPIC, first_wanted=NOW - 0.1, incompatible_qos="DURABILITY")
    level, text = input_summary(node, "rgb", record, 2.0, NOW)
    assert level == ERROR and "incompatible DURABILITY (see qos_overrides" in text


def images(offset: float = 0.0, rate: float = 30.0) -> dict[str, InputRecord]:
    records = {}
    for name in ("rgb", "depth", "segmentation"):
        record = InputRecord(f"/{name}", first_wanted=NOW - 20, stamp=50.0)
        record.arrivals.extend(np.arange(NOW - 4, NOW, 1 / rate).tolist())
        records[name] = record
    records["depth"].stamp += offset
    return records


def test_stamps_that_are_apart_are_named() -> None:
    level, text = synchronisation_summary(images(0.4), [], 0.05, 2.0, NOW)
    assert level == ERROR
    assert "none belong together: the stamps of rgb and depth are 0.400 s apart" in text


def test_images_of_which_only_some_find_partners_are_told() -> None:
    rare = np.arange(NOW - 4, NOW, 1 / 3).tolist()
    level, text = synchronisation_summary(images(), rare, 0.05, 2.0, NOW)
    assert level == WARN and "only 3.0 of 30.0" in text and "sync_queue_size" in text
    often = np.arange(NOW - 4, NOW, 1 / 30).tolist()
    assert synchronisation_summary(images(), often, 0.05, 2.0, NOW)[0] == OK


def test_while_an_input_is_missing_the_others_are_not_blamed() -> None:
    records = images(0.4)
    records["depth"].arrivals.clear()
    assert synchronisation_summary(records, [], 0.05, 2.0, NOW)[0] == OK


def test_clocks_that_differ_are_told(node: Node) -> None:
    assert clock_summary(node, None) == (OK, "system time")
    assert clock_summary(node, 0.05)[0] == OK
    assert "2.5 s after their stamp" in clock_summary(node, 2.5)[1]
    assert "0.50 s ahead of this machine's clock: synchronise" in clock_summary(node, -0.5)[1]
    level, text = clock_summary(node, 5e8)
    assert level == WARN and "clock is not this machine's, or it plays a recording" in text
    node.create_publisher(Clock, "/clock", 1)
    assert "set use_sim_time" in clock_summary(node, 5e8)[1]


def test_without_clock_messages_diagnostics_still_say_so() -> None:
    override = Parameter("use_sim_time", value=True)
    with isolated_node() as listener:
        node = Node("crisp", context=listener.context, parameter_overrides=[override])
        monitor = Monitor({name: f"/{name}" for name in images()} | {"camera_info": "/info"})
        Diagnostics(node, monitor, Parameters, lambda: "active", lambda: True)
        found: list[str] = []

        def heard(message: DiagnosticArray) -> None:
            found.extend(s.message for s in message.status if s.name == "crisp: clock")

        node.create_subscription(DiagnosticArray, "/diagnostics", heard, 10)
        assert spin_until(node, lambda: any("nothing comes on /clock" in text for text in found))
        publisher = node.create_publisher(Clock, "/clock", 1)
        assert spin_until(node, lambda: publisher.get_subscription_count() > 0)
        publisher.publish(Clock(clock=Time(seconds=1000.0).to_msg()))
        found.clear()
        assert spin_until(node, lambda: "simulated time" in found)
        assert clock_summary(node, 5e8)[1].endswith("set it for their publisher")
        node.destroy_node()


def estimated(monitor: Monitor, rejected: int = 0) -> None:
    monitor.accepted({})
    others = tuple(Rejected(label, "mask of 5 px") for label in range(1, rejected + 1))
    found = estimate(1, np.eye(4))
    monitor.estimated(FrameEstimate((found,), others, {}, "1"), ("mug_1",), {"network": 5.0}, 0.1)
    monitor.tracked((tracked("mug_1", found),))


class Reported:
    """What diagnostics say of a monitor, in a lifecycle state that a test chooses."""

    def __init__(self, node: Node) -> None:
        self.monitor = Monitor({name: f"/{name}" for name in (*images(), "camera_info")})
        self.state, self.enabled = "unconfigured", True
        self._statuses: dict[str, DiagnosticStatus] = {}
        self._diagnostics = Diagnostics(
            node, self.monitor, Parameters, lambda: self.state, lambda: self.enabled
        )
        node.create_subscription(DiagnosticArray, "/diagnostics", self._heard, 10)
        self._node = node

    def _heard(self, message: DiagnosticArray) -> None:
        self._statuses.update({s.name.split(": ")[1]: s for s in message.status})

    def await_inputs(self) -> None:
        topics = {name: Awaited(f"/{name}", "") for name in self.monitor.inputs}
        self.monitor.await_inputs(topics)

    def of_frames(self) -> list[DiagnosticStatus]:
        self._diagnostics.update()
        self._statuses.clear()
        names = ("estimates", "tracks", "depth scale and registration", "timing", "stream")
        assert spin_until(self._node, lambda: self._statuses.keys() >= {*names})
        return [self._statuses[name] for name in names]


def test_a_node_that_is_not_active_tells_of_no_frame(node: Node) -> None:
    reported = Reported(node)
    for state in ("unconfigured", "inactive", "finalized"):
        reported.state = state
        estimated(reported.monitor)  # one that was in work when the node stopped
        assert {s.message for s in reported.of_frames()} == {f"the node is {state}"}
    reported.state, reported.enabled = "inactive", False
    assert "the node is inactive; switched off" in reported.of_frames()[-1].message
    reported.state, reported.enabled = "active", True
    reported.await_inputs()
    assert {s.message for s in reported.of_frames()[:4]} == {"no frame yet"}
    estimated(reported.monitor)
    told = [s.message for s in reported.of_frames()]
    assert told[:2] == ["1 objects, all certified", "1 tracks, 1 seen, 1 certified now"]
    assert "from stamp to publication" in told[3] and "as they come" in told[4]


def test_after_the_latest_frame_there_is_silence(node: Node) -> None:
    reported = Reported(node)
    reported.state = "active"
    reported.await_inputs()
    estimated(reported.monitor)
    reported.monitor.work.ended -= 8.0
    told = reported.of_frames()
    assert all(s.message.startswith("no frame for 8 s: inputs, ") for s in told[:4])
    assert [s.level for s in told[:4]] == [ERROR, ERROR, OK, OK]
    reported.enabled = False
    told = reported.of_frames()
    assert {s.message for s in told[:4]} == {"no frame for 8 s: switched off by ~/enable"}
    assert {s.level for s in told} == {OK}


def test_silence_is_counted_up_to_the_beginning_of_the_frame_in_work() -> None:
    slow = WorkRecord(ended=NOW - 5.0, begun=NOW - 4.5)
    assert silence(slow, True, 2.0, NOW) == (WARN, "a frame is in work for 4 s")
    late = WorkRecord(ended=NOW - 5.0, begun=NOW - 0.5)
    assert silence(late, True, 2.0, NOW)[0] == ERROR
    quick = WorkRecord(ended=NOW - 1.0, begun=NOW - 0.5, last_error="frame failed")
    assert silence(quick, True, 2.0, NOW) is None


def test_a_frame_that_fails_is_a_sign_of_life_and_one_without_place_is_not(node: Node) -> None:
    reported = Reported(node)
    reported.state = "active"
    reported.await_inputs()
    work = reported.monitor.work
    work.ended -= 8.0
    reported.monitor.accepted({})
    reported.monitor.left_out(LeftOut.PLACELESS)
    assert work.begun is None and silence(work, True, 2.0, time.monotonic())[0] == ERROR
    reported.monitor.accepted({})
    reported.monitor.left_out(LeftOut.DROPPED)  # another, meanwhile
    assert work.begun is not None
    reported.monitor.failed("frame failed: no memory")
    assert reported.of_frames()[0].message == "frame failed: no memory"


def test_of_many_labels_without_estimate_some_are_listed_and_all_are_counted(node: Node) -> None:
    reported = Reported(node)
    reported.state = "active"
    reported.await_inputs()
    estimated(reported.monitor, rejected=1000)
    told = reported.of_frames()[0]
    assert told.level == WARN and "1000 labels without estimate" in told.message
    assert len(told.values) == 50 and len(told.message) < 300


def test_rates_and_delays_are_those_of_the_latest_messages() -> None:
    monitor = Monitor({"rgb": TOPIC})
    monitor.await_inputs({"rgb": Awaited(TOPIC, "sensor_msgs/msg/Image")})
    for delay in (5.0, *[0.02] * 40):
        monitor.received("rgb", 1.0, delay, "camera", "rgb8", "640 x 480")
    record = monitor.inputs["rgb"]
    assert record.delay == 0.02 and record.count == 41
    assert record.rate(time.monotonic() + 60) == 0.0


def frames(fails: bool, ratio: float, objects: int = 3) -> list[tuple[Fit, ...]]:
    return [(Fit(fails, ratio),) * objects] * 20


def test_a_fault_that_all_objects_share_is_the_depths() -> None:
    assert agreement(frames(False, 1.0))[0] == OK
    assert agreement(frames(True, 1.0, objects=1))[0] == OK  # one object has no others
    assert agreement(frames(True, 1.0)[:5])[0] == OK
    mixed = [(Fit(True, 1.0), Fit(False, 1.0))] * 20
    assert agreement(mixed)[0] == OK
    level, text, values = agreement(frames(True, 1.0))
    assert level == WARN and "registration is off, or the model does not know" in text
    level, text, values = agreement(frames(True, 5.0))
    assert "the depth makes objects 5 times as large as they look: its scale is off" in text
    assert values["size by depth"] == "5.00"
    assert "registration is off, or" in agreement(frames(True, float("nan")))[1]
