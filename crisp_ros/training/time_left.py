"""How long a run of several stages will still take."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping


class TimeLeft:
    """Estimates the rest of a run from what its stages should cost and how fast it went so far.

    Args:
        expected: seconds that each stage should take, relative to one another.
        clock: seconds.
    """

    def __init__(
        self, expected: Mapping[str, float], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._expected = dict(expected)
        self._done: dict[str, float] = {}
        self._worked = 0.0
        self._clock, self._started = clock, clock()

    def update(self, stage: str, done: int, total: int) -> float | None:
        """Seconds that the run will still take; None before anything was done.

        A stage's first call says where it stands: nothing of it was done while one watched.
        """
        share = done / max(total, 1)
        if stage in self._done:
            self._worked += self._expected[stage] * (share - self._done[stage])
        self._done[stage] = share
        if self._worked <= 0.0:
            return None
        rest = sum(
            cost * (1.0 - self._done.get(name, 0.0)) for name, cost in self._expected.items()
        )
        return rest * (self._clock() - self._started) / self._worked


def duration(seconds: float) -> str:
    """Text such as "40 s", "12 min" or "3 h 20 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"
