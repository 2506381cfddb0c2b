"""Versions of the heads, and the certified share before and after a change."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

from crisp_ros.adaptation.learner import Weights
from crisp_ros.pipeline import learned_version


class Version(NamedTuple):
    """Weights of the heads.

    Attributes:
        name: version of the model, or `learned_version` of other weights.
        weights: of the heads.
    """

    name: str
    weights: Weights


class VersionHistory:
    """The heads in use, some earlier ones and the original ones."""

    def __init__(self, original: Version, base: str = "", number: int = 0, kept: int = 3) -> None:
        """Start with the original heads.

        Args:
            original: the heads.
            base: start of the versions' names; "" for the name of the original heads.
            number: of earlier changes of the model.
            kept: number of earlier versions that can be restored one by one.
        """
        self._original = original
        self._earlier: deque[Version] = deque(maxlen=kept)
        self._base, self.number = base or original.name, number
        self.current = original

    def swap(self, weights: Weights) -> Version:
        """Replace the heads in use."""
        self._earlier.append(self.current)
        return self._renamed(weights)

    def roll_back(self) -> Version | None:
        """Restore the weights before the latest swap; None if the original ones are in use."""
        if self.current.weights is self._original.weights:
            return None
        earlier = self._earlier.pop() if self._earlier else self._original
        return self._renamed(earlier.weights)

    def _renamed(self, weights: Weights) -> Version:
        self.number += 1
        self.current = Version(learned_version(self._base, self.number, weights), weights)
        return self.current


@dataclass(frozen=True)
class WatchSettings:
    """Criteria for a fall of the certified share.

    Attributes:
        objects: maximum number of estimates before and after a swap that are compared.
        least: minimum number of estimates before and after the swap.
        fall: minimum fall of the share.
        deviations: minimum fall in standard deviations of the difference.
    """

    objects: int = 200
    least: int = 60
    fall: float = 0.05
    deviations: float = 2.5


class ShareWatch:
    """Compares the certified share of live estimates before and after the latest swap."""

    def __init__(self, settings: WatchSettings | None = None) -> None:
        self._settings = settings or WatchSettings()
        self._before: deque[bool] = deque(maxlen=self._settings.objects)
        self._after: deque[bool] = deque(maxlen=self._settings.objects)

    @property
    def share(self) -> float:
        """Certified share of the latest estimates; NaN before the first."""
        return _share(self._after or self._before)

    def add(self, certified: bool) -> None:
        """Add an estimate of the heads in use."""
        self._after.append(certified)

    def start_comparison(self) -> None:
        """Compare later estimates with those so far."""
        if len(self._after) >= self._settings.least or not self._before:
            self._before = self._after
        self._after = deque(maxlen=self._settings.objects)

    def fall(self) -> str:
        """Describe a significant fall of the share since the latest swap; "" if there is none."""
        settings, before, after = self._settings, self._before, self._after
        if min(len(before), len(after)) < settings.least:
            return ""
        high, low = _share(before), _share(after)
        both = (sum(before) + sum(after)) / (len(before) + len(after))
        deviation = math.sqrt(both * (1.0 - both) * (1.0 / len(before) + 1.0 / len(after)))
        if high - low <= max(settings.fall, settings.deviations * deviation):
            return ""
        return f"the certified share fell from {high:.2f} to {low:.2f}"


def _share(flags: deque[bool]) -> float:
    return sum(flags) / len(flags) if flags else math.nan
