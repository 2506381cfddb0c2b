"""Ranges of settings."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from crisp_ros.validation import Range, at_least, check_ranges, ranged


@dataclasses.dataclass(frozen=True)
class Settings:
    share: float = ranged(0.5, 0.0, 1.0)
    count: int = ranged(3, 1)
    limit: float | None = ranged(None, high=2.0)
    free: float = math.nan

    def __post_init__(self) -> None:
        check_ranges(self)


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"share": 1.1}, r"^Settings\.share is 1\.1: expected 0 to 1$"),
        ({"share": math.nan}, r"^Settings\.share is nan: expected 0 to 1$"),
        ({"share": None}, r"^Settings\.share is None: expected 0 to 1$"),
        ({"share": "0.5"}, r"^Settings\.share is 0\.5: expected 0 to 1$"),
        ({"count": 0}, r"^Settings\.count is 0: expected at least 1$"),
        ({"count": math.inf}, r"^Settings\.count is inf: expected at least 1$"),
        ({"limit": 2.5}, r"^Settings\.limit is 2\.5: expected at most 2$"),
    ],
)
def test_a_value_outside_its_range_is_refused(values: dict, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Settings(**values)


def test_values_within_their_ranges_pass() -> None:
    Settings(share=0.0, count=10**9, limit=-5.0)
    Settings(share=np.float32(1.0), count=np.int64(1), limit=None)


def test_at_least_checks_the_named_attributes_only() -> None:
    at_least(Settings(), 0.5, "share", "count", "limit")
    with pytest.raises(ValueError, match=r"^share is 0\.5: expected at least 1$"):
        at_least(Settings(), 1, "count", "share")
    with pytest.raises(ValueError, match=r"^free is nan: expected at least 0$"):
        at_least(Settings(), 0, "free")


@pytest.mark.parametrize(
    ("allowed", "words"),
    [
        (Range(), "a finite number"),
        (Range(low=1), "at least 1"),
        (Range(high=0.25), "at most 0.25"),
        (Range(0, 86400), "0 to 86400"),
    ],
)
def test_a_range_says_what_it_allows(allowed: Range, words: str) -> None:
    assert str(allowed) == words
    assert allowed.problem("x", math.nan) == f"x is nan: expected {words}"
