"""Causes that diagnostics name, of graphs and clocks in which something is wrong."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.time import Time
from ros_graph import isolated_node, spin_until
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import String

from crisp_ros.node.diagnostics import Diagnostics, agreement
from crisp_ros.node.input_diagnosis import (
    clock_summary,
    input_summary,
    synchronisation_summary,
)
from crisp_ros.node.monitor import Awaited, Fit, InputRecord, Monitor
from crisp_ros.node.parameters import Parameters

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
        Diagnostics(node, monitor, Parameters, lambda: "active")
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
