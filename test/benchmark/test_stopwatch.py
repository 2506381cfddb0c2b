"""Tasks are timed alternately, after a warm-up that does not count."""

import time

import pytest

from crisp_ros.benchmark.stopwatch import Task, device_use, timed


def task(name: str, log: list, repetitions: int = 3, inputs: int = 2, seconds: float = 0.0) -> Task:
    def run(i: int) -> tuple[str, int, int]:
        log.append((name, i))
        time.sleep(seconds)
        return name, i, len(log)

    return Task(name, run, inputs, repetitions, 5, 1000, "how")


def test_tasks_take_turns_over_their_inputs() -> None:
    log: list = []
    seen: list = []
    timings = timed([task("a", log), task("b", log, repetitions=2)], lambda *n: seen.append(n))
    assert log == [
        ("a", 0), ("b", 0),  # to warm up
        ("a", 0), ("b", 0), ("a", 1), ("b", 1), ("a", 0),
    ]  # fmt: skip
    assert [len(timings[name].milliseconds) for name in "ab"] == [3, 2]
    assert timings["a"].answers == {0: ("a", 0, 3), 1: ("a", 1, 5)}
    assert seen[0] == (1, 7) and seen[-1] == (7, 7)


def test_times_are_wall_times() -> None:
    timing = timed([task("a", [], seconds=0.02)])["a"]
    assert 20.0 <= timing.median_ms <= timing.p95_ms < 500.0
    row = timing.to_json()
    assert row["name"] == "a" and row["objects"] == 5 and row["points"] == 1000
    assert row["solver"] == "how" and row["repetitions"] == 3
    assert row["median_ms"] == pytest.approx(timing.median_ms)


def test_a_cpu_has_no_use_to_tell_but_does_the_work() -> None:
    done: list = []
    assert device_use(lambda: done.append(1), "cpu") is None
    assert done == [1]
