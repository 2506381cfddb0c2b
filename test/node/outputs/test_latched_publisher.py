"""The history of a transient-local topic keeps the latest of every object."""

from __future__ import annotations

from collections import deque
from types import SimpleNamespace

from crisp_ros.node.outputs.latched_publisher import LatchedPublisher


class History:
    """History of a late subscriber: the last `depth` messages."""

    def __init__(self, depth: int) -> None:
        self.qos_profile = SimpleNamespace(depth=depth)
        self.kept: deque[tuple[str, int]] = deque(maxlen=depth)
        self.sent = 0

    def publish(self, message: tuple[str, int]) -> None:
        self.kept.append(message)
        self.sent += 1


def test_an_object_that_rarely_changes_stays_in_the_history() -> None:
    history = History(5)
    latest = LatchedPublisher(history)
    latest.publish("quiet", ("quiet", 1))
    for version in range(30):
        latest.publish("lively", ("lively", version))
        latest.publish("other", ("other", version))
        assert ("quiet", 1) in history.kept
        assert ("lively", version) in history.kept and ("other", version) in history.kept
    assert history.sent < 90


def test_no_message_is_sent_twice_without_need() -> None:
    history = History(5)
    latest = LatchedPublisher(history)
    for version in range(20):
        latest.publish("a", ("a", version))
    assert history.sent == 20


def test_a_forgotten_message_leaves_the_history() -> None:
    history = History(4)
    latest = LatchedPublisher(history)
    latest.publish("a", ("a", 1))
    assert latest.ids == {"a"}
    latest.forget("a")
    assert not latest.ids
    latest.publish_unlatched(("a", "deleted"))
    for version in range(4):
        latest.publish("b", ("b", version))
    assert {id for id, _ in history.kept} == {"b"}


def test_more_objects_than_the_history_holds_terminate() -> None:
    history = History(3)
    latest = LatchedPublisher(history)
    for i in range(10):
        latest.publish(f"o{i}", (f"o{i}", 1))
    assert history.sent <= 10 + 10 * 3
