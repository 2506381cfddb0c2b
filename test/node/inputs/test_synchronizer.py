"""Matching of images by stamp, also after lost images."""

from __future__ import annotations

from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sensor_msgs.msg import Image

from crisp_ros.node.inputs.synchronizer import ImageSynchronizer, stamp_ns, stamp_text

NAMES = ("rgb", "depth", "segmentation")
MS = 10**6
PERIOD_MS = 33.0


class Bench:
    """Stamps of matched sets and of unmatched images, milliseconds."""

    def __init__(self, slop_s: float = 0.05, queue_size: int = 20) -> None:
        self.sets: list[tuple[float, ...]] = []
        self.unmatched: list[tuple[str, float]] = []
        self.added = 0
        self.synchronizer = ImageSynchronizer(
            NAMES, slop_s, queue_size, self._matched, self._dropped
        )

    def _matched(self, *messages: Image) -> None:
        self.sets.append(tuple(stamp_ns(m) / MS for m in messages))

    def _dropped(self, name: str, stamp: int) -> None:
        self.unmatched.append((name, stamp / MS))

    def add(self, name: str, stamp_ms: float) -> None:
        message = Image()
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(round(stamp_ms * MS), 10**9)
        self.synchronizer.add(name, message)
        self.added += 1

    def frames(self, first: int, last: int, lost: set[tuple[int, str]], **later_ms: float) -> None:
        """Frames at 30 Hz, some inputs with later stamps, without the lost images."""
        for i in range(first, last):
            for name in NAMES:
                if (i, name) not in lost:
                    self.add(name, 1000 + PERIOD_MS * i + later_ms.get(name, 0.0))

    def unaccounted(self) -> int:
        """Count the messages that are neither matched, unmatched nor queued."""
        known = 3 * len(self.sets) + len(self.unmatched) + len(self.synchronizer.queued)
        return self.added - known

    def spreads(self) -> list[float]:
        return [round(max(s) - min(s), 3) for s in self.sets]


@pytest.mark.parametrize("lost", NAMES)
@pytest.mark.parametrize("later_ms", [0.0, 4.0, 9.0])
def test_a_lost_image_costs_one_frame_and_shifts_none(lost: str, later_ms: float) -> None:
    bench = Bench()
    bench.frames(0, 30, {(10, lost)}, depth=later_ms)
    assert len(bench.sets) == 29
    assert bench.spreads() == [later_ms] * 29
    unmatched = [name for name, _ in [*bench.unmatched, *bench.synchronizer.queued]]
    assert sorted([*unmatched, lost]) == sorted(NAMES)


def test_many_lost_images_cost_their_frames_only() -> None:
    bench = Bench()
    lost = {(i, NAMES[i % 3]) for i in range(5, 90, 4)} | {(50, "rgb"), (50, "depth")}
    bench.frames(0, 100, lost)
    broken = {i for i, _ in lost}
    assert len(bench.sets) >= 100 - len(broken) - 2  # two frames in a row may cost a third
    assert bench.spreads().count(0.0) == len(bench.sets)


def test_each_message_is_matched_unmatched_or_queued() -> None:
    bench = Bench(queue_size=3)
    bench.frames(0, 40, {(i, NAMES[i % 3]) for i in range(4, 40, 3)})
    assert bench.unaccounted() == 0


def test_streams_half_an_interval_apart_are_matched() -> None:
    bench = Bench()
    bench.frames(0, 60, set(), depth=16.4, segmentation=8.0)
    assert len(bench.sets) > 50


def test_stamps_a_third_of_an_interval_apart_are_matched() -> None:
    bench = Bench()
    bench.frames(0, 60, set(), depth=11.0, segmentation=22.0)
    assert len(bench.sets) > 50


def test_a_slow_segmentation_is_matched() -> None:
    bench = Bench()
    for i in range(60):
        bench.add("rgb", 1000 + PERIOD_MS * i)
        bench.add("depth", 1000 + PERIOD_MS * i)
        if i % 6 == 5:  # 150 ms late
            bench.add("segmentation", 1000 + PERIOD_MS * (i - 5))
    assert len(bench.sets) == 10 and set(bench.spreads()) == {0.0}


def test_without_slop_stamps_have_to_be_equal() -> None:
    bench = Bench(slop_s=0.0)
    bench.frames(0, 10, {(4, "depth")})
    bench.frames(10, 20, set(), depth=1.0)
    assert len(bench.sets) == 9 and set(bench.spreads()) == {0.0}


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(NAMES), st.integers(0, 400)), min_size=1, max_size=80))
def test_any_order_of_stamps_keeps_count_and_slop(messages: list[tuple[str, int]]) -> None:
    bench = Bench(queue_size=4)
    for name, stamp_ms in messages:
        bench.add(name, stamp_ms)
    assert bench.unaccounted() == 0
    assert all(spread < 50.0 for spread in bench.spreads())


@pytest.mark.parametrize("order", list(permutations(NAMES)))
def test_the_order_of_inputs_does_not_matter(order: tuple[str, ...]) -> None:
    bench = Bench()
    for i in range(20):
        for name in order:
            if (i, name) != (10, order[0]):
                bench.add(name, 1000 + PERIOD_MS * i)
    assert len(bench.sets) == 19 and set(bench.spreads()) == {0.0}


def test_a_stamp_is_written_with_nine_digits() -> None:
    assert stamp_text(1795563288770426251) == "1795563288.770426251"
