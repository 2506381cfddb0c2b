"""Searches in a thread of their own, one after another, so that no frame waits for them.

The thread starts with the first search and ends with `stop`. A search is given a function to call
often, which raises `SearchWithdrawnError` once nobody wants the result any more.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from crisp_ros.network.cpu_threads import set_own_cpu_threads

T = TypeVar("T")

_log = logging.getLogger(__name__)

_CPU_THREADS = 1  # of a search: the other cores are the frames'


class SearchWithdrawnError(Exception):
    """The result of a search is not wanted any more."""


@dataclass(frozen=True)
class SearchStatus:
    """The searches of an estimator.

    Attributes:
        waiting: number of those that have not begun.
        running: number of those in progress, 0 or 1.
        ended: number of those that had a result.
        failed: number of those that ended with an error.
        last_s: wall time of the last one that ended, seconds; 0 before it.
        error: of the last one that failed, "" before it.
    """

    waiting: int = 0
    running: int = 0
    ended: int = 0
    failed: int = 0
    last_s: float = 0.0
    error: str = ""


class Search(Generic[T]):
    """One search; see `BackgroundSearches.submit`."""

    def __init__(self, search: Callable[[Callable[[], None]], T], name: str) -> None:
        self.name = name
        self._search = search
        self._withdrawn = threading.Event()
        self._future: Future[T] = Future()

    @property
    def is_done(self) -> bool:
        """Whether it has ended, or was withdrawn before it began."""
        return self._future.done()

    @property
    def is_waiting(self) -> bool:
        """Whether it has not begun."""
        return not (self._future.running() or self._future.done())

    def result(self) -> T | None:
        """The result of a search that is done; None where it failed or was withdrawn."""
        if self._future.cancelled() or self._future.exception() is not None:
            return None
        return self._future.result()

    def withdraw(self) -> None:
        """Do not begin it, or end it at its next step."""
        self._withdrawn.set()
        self._future.cancel()

    def run(self, on_end: Callable[[BaseException | None], None]) -> None:
        """Run it in the calling thread, unless it was withdrawn.

        Args:
            on_end: called with the error, or None, before the result can be had.
        """
        if not self._future.set_running_or_notify_cancel():
            return
        try:
            result = self._search(self._check)
        except BaseException as error:  # whatever it is, the thread goes on
            on_end(error)
            self._future.set_exception(error)
        else:
            on_end(None)
            self._future.set_result(result)

    def _check(self) -> None:
        if self._withdrawn.is_set():
            raise SearchWithdrawnError(self.name)


class BackgroundSearches:
    """Runner of searches, in the order in which they come; from any thread."""

    def __init__(self, most_waiting: int = 8) -> None:
        """Create a runner without a thread.

        Args:
            most_waiting: searches that may wait.
        """
        self._most_waiting = most_waiting
        self._lock = threading.Lock()
        self._executor: ThreadPoolExecutor | None = None
        self._searches: list[Search] = []  # that are not done
        self._status = SearchStatus()

    @property
    def status(self) -> SearchStatus:
        """Counts of what waits, runs and has ended."""
        with self._lock:
            going = [search for search in self._searches if not search.is_done]
            waiting = sum(search.is_waiting for search in going)
            return replace(self._status, waiting=waiting, running=len(going) - waiting)

    @property
    def has_room(self) -> bool:
        """Whether one more search may wait."""
        return self.status.waiting < self._most_waiting

    def submit(self, search: Callable[[Callable[[], None]], T], name: str) -> Search[T]:
        """Start a search as soon as those before it have ended.

        Args:
            search: the function, which is given another one to call often.
            name: of its object, for messages.

        Raises:
            RuntimeError: there is no room for it.
        """
        if not self.has_room:
            raise RuntimeError(f"{self._most_waiting} searches wait: ask `has_room` first")
        submitted = Search(search, name)
        with self._lock:
            self._searches = [s for s in self._searches if not s.is_done] + [submitted]
            if self._executor is None:
                self._executor = ThreadPoolExecutor(
                    1, "prior search", set_own_cpu_threads, (_CPU_THREADS,)
                )
            self._executor.submit(self._run, submitted)
        return submitted

    def stop(self) -> None:
        """Withdraw all searches and end the thread; it starts again with the next search."""
        with self._lock:
            searches, self._searches = self._searches, []
            executor, self._executor = self._executor, None
        for search in searches:
            search.withdraw()
        if executor is not None:
            executor.shutdown(wait=True, cancel_futures=True)

    def _run(self, search: Search) -> None:
        start = time.perf_counter()
        search.run(lambda error: self._record(search, error, time.perf_counter() - start))

    def _record(self, search: Search, error: BaseException | None, seconds: float) -> None:
        if isinstance(error, SearchWithdrawnError):
            return
        if error is not None:
            _log.error("the search for the shape of %s failed", search.name, exc_info=error)
        with self._lock:
            before = self._status
            if error is None:
                self._status = replace(before, ended=before.ended + 1, last_s=seconds)
            else:
                text = f"{search.name}: {type(error).__name__}: {error}"
                self._status = replace(before, failed=before.failed + 1, last_s=seconds, error=text)
