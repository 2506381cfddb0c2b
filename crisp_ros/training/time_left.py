"""Remaining time of a run of several stages."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

_TRUSTED_SHARE = 0.02  # of a stage, from which its own speed counts


@dataclass
class _Stage:
    """A stage under way: what was done of it when this run took it up and now, and when."""

    first_share: float
    started: float
    share: float
    now: float

    @property
    def seconds(self) -> float:
        """Wall time of what this run did of it."""
        return self.now - self.started

    @property
    def done(self) -> float:
        """Share that this run did."""
        return self.share - self.first_share


class TimeLeft:
    """Estimate the rest of a run from how fast its stages went so far.

    The stage under way goes on at its own speed. For stages that have not begun, expected costs
    are scaled by how the expected cost of all that was done compares to the time that it took.

    Args:
        expected: seconds that each stage should take, relative to one another.
        clock: seconds of wall time, which is what a user waits.
    """

    def __init__(
        self, expected: Mapping[str, float], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._expected = dict(expected)
        self._stages: dict[str, _Stage] = {}
        self._clock = clock

    def update(self, stage: str, done: int, total: int) -> float | None:
        """Seconds that the run will still take; None before anything was done.

        A stage's first call says where it stands: nothing of it was done while one watched.
        """
        share, now = done / max(total, 1), self._clock()
        if stage not in self._stages:
            self._stages[stage] = _Stage(share, now, share, now)
        known = self._stages[stage]
        known.share, known.now = share, now
        worked = sum(self._expected[name] * s.done for name, s in self._stages.items())
        spent = sum(s.seconds for s in self._stages.values())
        if worked <= 0.0 or spent <= 0.0:
            return None
        return sum(self._rest(name, spent / worked) for name in self._expected)

    def _rest(self, name: str, slowness: float) -> float:
        """Seconds of what is left of a stage; slowness: time taken over time expected, so far."""
        stage = self._stages.get(name)
        if stage is None:
            return self._expected[name] * slowness
        left = 1.0 - stage.share
        if stage.done >= _TRUSTED_SHARE:
            return left * stage.seconds / stage.done
        return left * self._expected[name] * slowness


def duration(seconds: float) -> str:
    """Text such as "40 s", "12 min" or "3 h 20 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"
