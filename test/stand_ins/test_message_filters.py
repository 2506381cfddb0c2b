"""message_filters: which messages are joined."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from message_filters import (
    ApproximateTimeSynchronizer,
    SimpleFilter,
    Subscriber,
    TimeSynchronizer,
)
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from rclpy.time import Time
from ros_graph import spin_until
from std_msgs.msg import Header, String


class Stamped:
    """The least that can be synchronised."""

    def __init__(self, milliseconds: int, source: str = "") -> None:
        self.milliseconds = milliseconds
        self.source = source
        self.header = Header(stamp=Time(nanoseconds=milliseconds * 10**6).to_msg())


class Inputs:
    """Filters to feed by hand and the sets of stamps, in milliseconds, that come out."""

    def __init__(self, count: int) -> None:
        self.filters = [SimpleFilter() for _ in range(count)]
        self.sets: list[tuple[int, ...]] = []

    def join(self, synchronizer: SimpleFilter) -> None:
        synchronizer.registerCallback(self.receive)
        self.synchronizer = synchronizer

    def receive(self, *messages: Stamped) -> None:
        assert [message.source for message in messages] == list("abc"[: len(messages)])
        self.sets.append(tuple(message.milliseconds for message in messages))

    def feed(self, source: str, milliseconds: int) -> None:
        self.filters["abc".index(source)].signalMessage(Stamped(milliseconds, source))


def test_equal_stamps_are_joined_in_any_order() -> None:
    inputs = Inputs(3)
    inputs.join(TimeSynchronizer(inputs.filters, 10))
    for source, stamp in [("c", 2), ("a", 1), ("b", 2), ("b", 1), ("a", 2), ("c", 1)]:
        inputs.feed(source, stamp)
    assert inputs.sets == [(2, 2, 2), (1, 1, 1)]


def test_exact_synchronisation_leaves_near_stamps_apart() -> None:
    inputs = Inputs(2)
    inputs.join(TimeSynchronizer(inputs.filters, 10))
    inputs.feed("a", 1)
    inputs.feed("b", 2)
    assert inputs.sets == []


@pytest.mark.parametrize(("size", "sets"), [(1, []), (2, [(1, 1)])])
def test_the_queue_keeps_the_newest(size: int, sets: list[tuple[int, int]]) -> None:
    inputs = Inputs(2)
    inputs.join(TimeSynchronizer(inputs.filters, size))
    inputs.feed("a", 1)
    inputs.feed("a", 2)
    inputs.feed("b", 1)
    assert inputs.sets == sets


def test_stamps_within_the_slop_are_joined() -> None:
    inputs = Inputs(3)
    inputs.join(ApproximateTimeSynchronizer(inputs.filters, 10, 0.05))
    inputs.feed("a", 1000)
    inputs.feed("b", 1020)
    inputs.feed("c", 1060)
    assert inputs.sets == []
    inputs.feed("c", 1040)
    assert inputs.sets == [(1000, 1020, 1040)]


def test_stamps_as_far_apart_as_the_slop_are_not() -> None:
    inputs = Inputs(2)
    inputs.join(ApproximateTimeSynchronizer(inputs.filters, 10, 0.05))
    inputs.feed("a", 1000)
    inputs.feed("b", 1050)
    assert inputs.sets == []


def test_the_nearest_message_is_chosen() -> None:
    inputs = Inputs(2)
    inputs.join(ApproximateTimeSynchronizer(inputs.filters, 10, 0.1))
    inputs.feed("a", 1000)
    inputs.feed("a", 1040)
    inputs.feed("b", 1030)
    assert inputs.sets == [(1040, 1030)]


def test_a_message_is_used_once() -> None:
    inputs = Inputs(2)
    inputs.join(ApproximateTimeSynchronizer(inputs.filters, 10, 0.1))
    inputs.feed("a", 1000)
    inputs.feed("b", 1000)
    inputs.feed("b", 1010)
    assert inputs.sets == [(1000, 1000)]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 400)), max_size=40, unique=True))
def test_sets_are_tight_and_disjoint(stream: list[tuple[str, int]]) -> None:
    inputs = Inputs(3)
    inputs.join(ApproximateTimeSynchronizer(inputs.filters, 20, 0.05))
    for source, stamp in stream:
        inputs.feed(source, stamp)
    assert all(max(stamps) - min(stamps) < 50 for stamps in inputs.sets)
    for column in zip(*inputs.sets, strict=True):
        assert len(set(column)) == len(column)


def test_a_subscriber_hands_its_messages_on(node: Node) -> None:
    subscriber = Subscriber(node, String, "words", qos_profile=qos_profile_sensor_data)
    received: list[tuple[str, int]] = []
    subscriber.registerCallback(lambda message, number: received.append((message.data, number)), 7)
    publisher = node.create_publisher(String, "words", qos_profile_sensor_data)
    assert subscriber.getTopic() == "words"
    assert spin_until(node, lambda: publisher.get_subscription_count() == 1)
    publisher.publish(String(data="hello"))
    assert spin_until(node, lambda: bool(received))
    assert received == [("hello", 7)]
