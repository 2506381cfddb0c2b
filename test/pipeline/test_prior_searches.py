"""Searches in the background: their order, bound, errors and end."""

from __future__ import annotations

import logging
import threading
import time

import pytest
import torch

from crisp_ros.pipeline.prior_searches import BackgroundSearches

PATIENCE_S = 20.0


@pytest.fixture
def searches():
    made = BackgroundSearches(most_waiting=2)
    yield made
    made.stop()


class Blocked:
    """A search that goes on until it is released, or withdrawn."""

    def __init__(self, answer: object = None) -> None:
        self.answer = answer
        self.begun, self.released = threading.Event(), threading.Event()

    def __call__(self, check):
        self.begun.set()
        while not self.released.wait(0.005):
            check()
        return self.answer


def wait_for(condition) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, "the condition did not become true in time"
        time.sleep(0.002)


def threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("prior search")]


def test_one_runs_and_others_wait_in_their_order(searches) -> None:
    first, second, order = Blocked(1), Blocked(2), []
    submitted = [searches.submit(search, "an object") for search in (first, second)]
    submitted.append(searches.submit(lambda check: order.append(second.begun.is_set()), "last"))
    assert first.begun.wait(PATIENCE_S)
    assert (searches.status.running, searches.status.waiting) == (1, 2)
    assert not second.begun.is_set() and not submitted[0].is_done
    first.released.set()
    second.released.set()
    wait_for(lambda: all(search.is_done for search in submitted))
    assert [search.result() for search in submitted] == [1, 2, None] and order == [True]
    status = searches.status
    assert (status.running, status.waiting, status.ended, status.failed) == (0, 0, 3, 0)
    assert status.last_s > 0.0


def test_no_more_may_wait_than_there_is_room_for(searches) -> None:
    blocked = Blocked()
    searches.submit(blocked, "an object")
    assert blocked.begun.wait(PATIENCE_S)
    for _ in range(2):
        assert searches.has_room
        searches.submit(Blocked(), "another")
    assert not searches.has_room
    with pytest.raises(RuntimeError, match="2 searches wait"):
        searches.submit(Blocked(), "one too many")


def test_an_error_is_logged_with_the_name_and_counted(searches, caplog) -> None:
    def fail(check):
        raise ValueError("no such shape")

    with caplog.at_level(logging.ERROR):
        failed = searches.submit(fail, "object 7")
        after = searches.submit(lambda check: "found", "object 8")
        wait_for(lambda: after.is_done)
    assert failed.result() is None and after.result() == "found"
    (record,) = caplog.records
    assert "object 7" in record.getMessage() and "no such shape" in str(record.exc_info[1])
    assert searches.status.failed == 1 and searches.status.ended == 1
    assert searches.status.error == "object 7: ValueError: no such shape"


def test_a_withdrawn_search_ends_and_is_no_failure(searches, caplog) -> None:
    running, waiting = Blocked(), Blocked()
    first, second = (searches.submit(search, "an object") for search in (running, waiting))
    assert running.begun.wait(PATIENCE_S)
    second.withdraw()
    assert second.is_done and second.result() is None
    first.withdraw()
    wait_for(lambda: first.is_done)
    assert first.result() is None and not waiting.begun.is_set() and not caplog.records
    assert searches.status.failed == 0 and searches.status.error == ""


def test_stopping_ends_the_thread_until_the_next_search(searches) -> None:
    before, running = threads(), Blocked()
    submitted = [searches.submit(search, "an object") for search in (running, Blocked())]
    assert running.begun.wait(PATIENCE_S) and len(threads()) == len(before) + 1
    searches.stop()
    assert threads() == before and all(search.is_done for search in submitted)
    again = searches.submit(lambda check: "found", "an object")
    wait_for(lambda: again.is_done)
    assert again.result() == "found"


def test_a_search_has_one_cpu_thread_of_its_own(searches) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        counted = searches.submit(lambda check: torch.get_num_threads(), "an object")
        wait_for(lambda: counted.is_done)
        assert counted.result() == 1 and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
