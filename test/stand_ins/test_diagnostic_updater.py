"""diagnostic_updater: what arrives on /diagnostics."""

import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from diagnostic_updater import (
    DiagnosticStatusWrapper,
    DiagnosticTask,
    FunctionDiagnosticTask,
    Updater,
)
from rclpy.node import Node
from ros_graph import spin_until

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR


def too_hot(status: DiagnosticStatusWrapper) -> DiagnosticStatusWrapper:
    status.summary(WARN, "hot")
    status.add("temperature", "70")
    return status


class Silent(DiagnosticTask):
    """A task that sets nothing."""


@pytest.fixture
def received(node: Node) -> list[DiagnosticStatus]:
    statuses: list[DiagnosticStatus] = []

    def receive(array: DiagnosticArray) -> None:
        assert array.header.stamp.sec > 0
        statuses.extend(array.status)

    node.create_subscription(DiagnosticArray, "/diagnostics", receive, 10)
    return statuses


def test_tasks_report_on_a_timer(node: Node, received: list[DiagnosticStatus]) -> None:
    updater = Updater(node, period=0.05)
    updater.setHardwareID("camera 1")
    updater.add("temperature", too_hot)
    updater.add(Silent("nothing"))
    updater.add(FunctionDiagnosticTask("again", too_hot))
    assert spin_until(
        node, lambda: len({s.name for s in received if s.message != "Node starting up"}) == 3
    )
    by_name = {status.name: status for status in received}
    hot = by_name["test: temperature"]
    assert (hot.level, hot.message, hot.hardware_id) == (WARN, "hot", "camera 1")
    assert [(value.key, value.value) for value in hot.values] == [("temperature", "70")]
    assert by_name["test: again"].level == WARN
    assert by_name["test: nothing"].level == ERROR
    assert node.has_parameter("diagnostic_updater.period")


def test_a_new_task_announces_itself(node: Node, received: list[DiagnosticStatus]) -> None:
    updater = Updater(node, period=100.0)
    assert spin_until(node, lambda: node.count_subscribers("/diagnostics") == 1)

    def announced() -> bool:
        updater.removeByName("temperature")
        updater.add("temperature", too_hot)
        return bool(received)

    assert spin_until(node, announced)
    assert (received[0].level, received[0].message) == (OK, "Node starting up")


def test_removed_tasks_are_silent(node: Node, received: list[DiagnosticStatus]) -> None:
    updater = Updater(node, period=100.0)
    updater.add("gone", too_hot)
    updater.add("here", too_hot)
    assert updater.removeByName("gone")
    assert not updater.removeByName("gone")
    received.clear()

    def reported() -> bool:
        updater.force_update()
        return any(status.message == "hot" for status in received)

    assert spin_until(node, reported)
    assert "test: gone" not in {status.name for status in received if status.message == "hot"}


def test_a_broadcast_speaks_for_all_tasks(node: Node, received: list[DiagnosticStatus]) -> None:
    updater = Updater(node, period=100.0)
    updater.add("one", too_hot)
    updater.add("two", too_hot)

    def arrived() -> bool:
        updater.broadcast(ERROR, "shutting down")
        return len({s.name for s in received if s.message == "shutting down"}) == 2

    assert spin_until(node, arrived)


@pytest.mark.parametrize(
    ("mine", "other", "merged"),
    [
        ((OK, "fine"), (ERROR, "broken"), (ERROR, "broken")),
        ((ERROR, "broken"), (OK, "fine"), (ERROR, "broken")),
        ((WARN, "hot"), (ERROR, "broken"), (ERROR, "hot; broken")),
        ((OK, "fine"), (OK, "good"), (OK, "fine; good")),
    ],
)
def test_merged_summaries(
    mine: tuple[bytes, str], other: tuple[bytes, str], merged: tuple[bytes, str]
) -> None:
    status = DiagnosticStatusWrapper()
    status.summary(*mine)
    status.mergeSummary(*other)
    assert (status.level, status.message) == merged
    status.summary(*mine)
    status.mergeSummary(DiagnosticStatus(level=other[0], message=other[1]))
    assert (status.level, status.message) == merged
