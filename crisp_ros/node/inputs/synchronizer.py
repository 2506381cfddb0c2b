"""Images of one moment find each other by their stamps."""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from message_filters import ApproximateTimeSynchronizer, SimpleFilter, TimeSynchronizer

_INTERVALS = 9  # of which the median is an input's usual one
_FEWEST_INTERVALS = 3  # before which nothing is foretold
_PATIENCE = 3  # sets in a row that are taken back: expectations may be wrong


class Partners:
    """Puts together one message of each input, with stamps less than a slop apart.

    message_filters takes the first messages that fit. Where one image of a frame is lost, its
    partners wait and fit the next frame's first image, whose own partners wait in turn: from one
    lost image on, colour and depth would stay a frame apart. So such a set is taken back while
    messages are due that lie much closer, as the usual interval of each input tells: those that
    are too old go, the others wait on.
    """

    def __init__(
        self,
        names: Sequence[str],
        slop_s: float,
        queue_size: int,
        on_set: Callable[..., None],
        on_left: Callable[[str, int], None],
    ) -> None:
        """Has no messages yet.

        Args:
            names: of the inputs.
            slop_s: stamps of a set are less than this apart, seconds; 0: equal.
            queue_size: messages of each input that wait at most; the oldest go.
            on_set: called with one message of each input, in the order of `names`.
            on_left: called with the input and the stamp, nanoseconds, of a message that goes
                without having found partners.
        """
        self._names = names
        self._slop_s, self._queue_size = slop_s, queue_size
        self._on_set, self._on_left = on_set, on_left
        self._intervals = {name: deque[int](maxlen=_INTERVALS) for name in names}
        self._begin()

    def _begin(self) -> None:
        self._waiting: dict[str, set[int]] = {name: set() for name in self._names}
        self._newest: dict[str, int] = {}
        self._again: list[tuple[str, Any]] = []
        self._taken_back = 0
        self._entrances = {name: SimpleFilter() for name in self._names}
        entrances = list(self._entrances.values())
        synchronizer = (
            ApproximateTimeSynchronizer(entrances, self._queue_size, self._slop_s)
            if self._slop_s > 0  # stamps have to be less than the slop apart: at 0 none would do
            else TimeSynchronizer(entrances, self._queue_size)
        )
        synchronizer.registerCallback(self._found)

    @property
    def waiting(self) -> list[tuple[str, int]]:
        """Input and stamp, nanoseconds, of the messages without partners so far."""
        return [(name, stamp) for name, stamps in self._waiting.items() for stamp in stamps]

    def add(self, name: str, message: Any) -> None:
        """Takes a message of an input; calls `on_set` where it completes a set."""
        stamp = stamp_ns(message)
        waiting = self._waiting[name]
        if stamp in waiting:
            self._on_left(name, stamp)  # message_filters keeps one of each stamp, the last
        waiting.add(stamp)
        while len(waiting) > self._queue_size:  # as message_filters does
            self._leave(name, min(waiting))
        newest = self._newest.get(name, stamp)
        if stamp > newest:
            self._intervals[name].append(stamp - newest)
        self._newest[name] = max(stamp, newest)
        self._entrances[name].signalMessage(message)
        # Not within the filter's callback, which holds its lock.
        while self._again:
            again, self._again = self._again, []
            for name, message in again:
                self._entrances[name].signalMessage(message)

    def forget(self) -> list[tuple[str, int]]:
        """Forgets all messages, which were `waiting`, as those of another time would never go.

        message_filters cannot be emptied: new filters take the place of the old ones.
        """
        forgotten = self.waiting
        self._entrances.clear()  # the old ones go at once, not when garbage is collected
        self._begin()
        return forgotten

    def _found(self, *messages: Any) -> None:
        stamps = dict(zip(self._names, map(stamp_ns, messages), strict=True))
        outdated = self._outdated(stamps)
        if outdated and self._taken_back < _PATIENCE:
            self._taken_back += 1
            for name in outdated:
                self._leave(name, stamps[name])
            found = zip(self._names, messages, strict=True)
            self._again = [(name, message) for name, message in found if name not in outdated]
            return
        self._taken_back = 0
        for name, stamp in stamps.items():
            self._waiting[name].discard(stamp)
        self._on_set(*messages)

    def _outdated(self, stamps: dict[str, int]) -> list[str]:
        """Inputs of a set whose next messages are due, and would make it much closer."""
        newest = max(stamps.values())
        spread = newest - min(stamps.values())
        outdated, due = [], dict(stamps)
        for name, stamp in stamps.items():
            intervals = self._intervals[name]
            if len(intervals) < _FEWEST_INTERVALS or stamp < self._newest[name]:
                continue  # unknown, or the next one came and is gone
            interval = round(statistics.median(intervals))
            if interval < 2 * (newest - stamp):
                due[name] = stamp + interval
                outdated.append(name)
        closer = max(due.values()) - min(due.values()) < spread / 2
        return outdated if closer else []

    def _leave(self, name: str, stamp: int) -> None:
        self._waiting[name].discard(stamp)
        self._on_left(name, stamp)


def stamp_ns(message: Any) -> int:
    """A message's stamp in nanoseconds; negative where it is, which rclpy's Time refuses."""
    stamp = message.header.stamp
    return stamp.sec * 10**9 + stamp.nanosec


def stamp_text(stamp: int) -> str:
    """A stamp in nanoseconds as seconds, in full."""
    return f"{stamp // 10**9}.{stamp % 10**9:09d}"
