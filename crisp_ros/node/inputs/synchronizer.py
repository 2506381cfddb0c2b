"""Matching of images by their stamps: one image of each input becomes a set."""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from message_filters import ApproximateTimeSynchronizer, SimpleFilter, TimeSynchronizer

_INTERVALS = 9  # of which the median is the usual interval of an input
_FEWEST_INTERVALS = 3  # before this many are known, no next message is predicted
_MAX_REJECTED_IN_ROW = 3  # sets: the predicted intervals may be wrong


class ImageSynchronizer:
    """Matches one message of each input, with stamps less than a slop apart.

    message_filters takes the first messages that fit. Where one image of a frame is lost, the
    frame's other images stay in the queues and match the first image of the next frame, whose own
    images are left over in turn: after one lost image, colour and depth would stay a frame apart.
    So a set is rejected while messages are due that would match much more closely, as predicted
    from the usual interval of each input: the outdated messages of the set are dropped, the others
    stay in the queues.
    """

    def __init__(
        self,
        names: Sequence[str],
        slop_s: float,
        queue_size: int,
        on_set: Callable[..., None],
        on_unmatched: Callable[[str, int], None],
    ) -> None:
        """Create empty queues.

        Args:
            names: of the inputs.
            slop_s: upper bound of the stamp differences within a set, seconds; 0: equal stamps.
            queue_size: messages of each input that are queued at most; the oldest are dropped.
            on_set: called with one message of each input, in the order of `names`.
            on_unmatched: called with the input and the stamp, nanoseconds, of a message that is
                dropped without a match.
        """
        self._names = names
        self._slop_s, self._queue_size = slop_s, queue_size
        self._on_set, self._on_unmatched = on_set, on_unmatched
        self._intervals = {name: deque[int](maxlen=_INTERVALS) for name in names}
        self._reset()

    def _reset(self) -> None:
        self._queued: dict[str, set[int]] = {name: set() for name in self._names}
        self._newest: dict[str, int] = {}
        self._requeued: list[tuple[str, Any]] = []
        self._rejected_in_row = 0
        self._filters = {name: SimpleFilter() for name in self._names}
        filters = list(self._filters.values())
        synchronizer = (
            ApproximateTimeSynchronizer(filters, self._queue_size, self._slop_s)
            if self._slop_s > 0  # stamps have to be less than the slop apart: 0 matches nothing
            else TimeSynchronizer(filters, self._queue_size)
        )
        synchronizer.registerCallback(self._on_candidate)

    @property
    def queued(self) -> list[tuple[str, int]]:
        """Input and stamp, nanoseconds, of the messages that have no match so far."""
        return [(name, stamp) for name, stamps in self._queued.items() for stamp in stamps]

    def add(self, name: str, message: Any) -> None:
        """Queue a message of an input; call `on_set` if it completes a set."""
        stamp = stamp_ns(message)
        queued = self._queued[name]
        if stamp in queued:
            self._on_unmatched(name, stamp)  # message_filters keeps one of each stamp, the last
        queued.add(stamp)
        while len(queued) > self._queue_size:  # as message_filters does
            self._drop(name, min(queued))
        newest = self._newest.get(name, stamp)
        if stamp > newest:
            self._intervals[name].append(stamp - newest)
        self._newest[name] = max(stamp, newest)
        self._filters[name].signalMessage(message)
        # Not within the filter's callback, which holds its lock.
        while self._requeued:
            requeued, self._requeued = self._requeued, []
            for name, message in requeued:
                self._filters[name].signalMessage(message)

    def clear(self) -> list[tuple[str, int]]:
        """Empty the queues and return what was `queued`.

        message_filters cannot be emptied: new filters replace the old ones.
        """
        dropped = self.queued
        self._filters.clear()  # frees the old ones now, not at the next garbage collection
        self._reset()
        return dropped

    def _on_candidate(self, *messages: Any) -> None:
        stamps = dict(zip(self._names, map(stamp_ns, messages), strict=True))
        outdated = self._outdated(stamps)
        if outdated and self._rejected_in_row < _MAX_REJECTED_IN_ROW:
            self._rejected_in_row += 1
            for name in outdated:
                self._drop(name, stamps[name])
            candidate = zip(self._names, messages, strict=True)
            self._requeued = [
                (name, message) for name, message in candidate if name not in outdated
            ]
            return
        self._rejected_in_row = 0
        for name, stamp in stamps.items():
            self._queued[name].discard(stamp)
        self._on_set(*messages)

    def _outdated(self, stamps: dict[str, int]) -> list[str]:
        """Inputs of a candidate set whose next messages are due and would match more closely."""
        newest = max(stamps.values())
        spread = newest - min(stamps.values())
        outdated, predicted = [], dict(stamps)
        for name, stamp in stamps.items():
            intervals = self._intervals[name]
            if len(intervals) < _FEWEST_INTERVALS or stamp < self._newest[name]:
                continue  # no prediction, or the next message came and did not match
            interval = round(statistics.median(intervals))
            if interval < 2 * (newest - stamp):
                predicted[name] = stamp + interval
                outdated.append(name)
        is_closer = max(predicted.values()) - min(predicted.values()) < spread / 2
        return outdated if is_closer else []

    def _drop(self, name: str, stamp: int) -> None:
        self._queued[name].discard(stamp)
        self._on_unmatched(name, stamp)


def stamp_ns(message: Any) -> int:
    """Get a message's stamp in nanoseconds; it may be negative, which rclpy's Time refuses."""
    stamp = message.header.stamp
    return stamp.sec * 10**9 + stamp.nanosec


def stamp_text(stamp: int) -> str:
    """Format a stamp in nanoseconds as seconds with nine digits."""
    return f"{stamp // 10**9}.{stamp % 10**9:09d}"
