"""The worker: the latest item is processed, errors do not end it, it stops cleanly."""

from __future__ import annotations

import threading
import time

import pytest

from crisp_ros.node.latest_item_worker import LatestItemWorker

PATIENCE_S = 10.0


class Bench:
    """A worker whose processing waits for `go`, so that a test decides what arrives meanwhile."""

    def __init__(self) -> None:
        self.done: list[object] = []
        self.errors: list[Exception] = []
        self.begun = threading.Semaphore(0)
        self.go = threading.Semaphore(0)
        self.finished = threading.Semaphore(0)
        self.worker = LatestItemWorker(self._process, self._failed, "test")

    def _process(self, item: object) -> None:
        self.begun.release()
        assert self.go.acquire(timeout=PATIENCE_S)
        if isinstance(item, Exception):
            raise item
        self.done.append(item)
        self.finished.release()

    def _failed(self, error: Exception) -> None:
        self.errors.append(error)
        self.finished.release()

    def work_off(self, count: int) -> None:
        for _ in range(count):
            self.go.release()
            assert self.finished.acquire(timeout=PATIENCE_S)


@pytest.fixture
def bench():
    bench = Bench()
    bench.worker.start()
    yield bench
    for _ in range(10):
        bench.go.release()
    bench.worker.stop()


def test_of_items_that_arrive_meanwhile_the_latest_is_processed(bench: Bench) -> None:
    bench.worker.submit(1)
    assert bench.begun.acquire(timeout=PATIENCE_S)
    assert [bench.worker.submit(item) for item in (2, 3, 4)] == [None, 2, 3]
    bench.work_off(2)
    assert bench.done == [1, 4]


def test_the_pending_item_is_returned_by_stop(bench: Bench) -> None:
    bench.worker.submit(1)
    assert bench.begun.acquire(timeout=PATIENCE_S)
    bench.worker.submit(2)
    bench.go.release()
    assert bench.worker.stop() in (2, None) and bench.worker.stop() is None
    assert bench.worker.submit(3) == 3  # nobody is there to process it


def test_submit_does_not_block(bench: Bench) -> None:
    bench.worker.submit(1)
    assert bench.begun.acquire(timeout=PATIENCE_S)
    bench.worker.submit(2)  # returns though 1 is not done
    assert bench.done == []


def test_errors_are_reported_and_the_next_item_is_processed(bench: Bench) -> None:
    bench.worker.submit(RuntimeError("bad frame"))
    bench.work_off(1)
    bench.worker.submit(5)
    bench.work_off(1)
    assert [str(error) for error in bench.errors] == ["bad frame"]
    assert bench.done == [5]


def test_tasks_run_in_order_before_the_next_item(bench: Bench) -> None:
    bench.worker.submit(1)
    assert bench.begun.acquire(timeout=PATIENCE_S)
    bench.worker.submit(2)
    bench.worker.call(lambda: bench.done.append("a"))
    bench.worker.call(lambda: bench.done.append("b"))
    bench.work_off(2)
    assert bench.done == [1, "a", "b", 2]


def test_stop_finishes_only_the_current_item(bench: Bench) -> None:
    bench.worker.submit(1)
    assert bench.begun.acquire(timeout=PATIENCE_S)
    bench.worker.submit(2)
    stopping = threading.Thread(target=bench.worker.stop)
    stopping.start()
    while not bench.worker._stopping:
        time.sleep(0.001)
    bench.work_off(1)
    stopping.join(PATIENCE_S)
    assert not stopping.is_alive() and bench.done == [1]
    bench.worker.submit(3)  # ignored
    bench.worker.start()
    bench.worker.submit(4)
    bench.work_off(1)
    assert bench.done == [1, 4]


def test_each_start_runs_on_start_in_the_thread() -> None:
    seen: list[object] = []
    errors: list[Exception] = []
    done = threading.Event()

    def begin() -> None:
        seen.append(threading.current_thread().name)
        raise RuntimeError("bad beginning")

    def process(item: object) -> None:
        seen.append(item)
        done.set()

    worker = LatestItemWorker(process, errors.append, "test", begin)
    for item in (1, 2):
        worker.start()
        worker.submit(item)
        assert done.wait(PATIENCE_S)
        worker.stop()
        done.clear()
    assert seen == ["test", 1, "test", 2]
    assert [str(error) for error in errors] == ["bad beginning"] * 2


def test_starting_twice_is_refused(bench: Bench) -> None:
    with pytest.raises(RuntimeError, match="already running"):
        bench.worker.start()
