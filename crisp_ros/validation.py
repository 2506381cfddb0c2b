"""Ranges of settings: declared once, checked by constructors, shown by user interfaces."""

from __future__ import annotations

import dataclasses
import math
from numbers import Real
from typing import Any


@dataclasses.dataclass(frozen=True)
class Range:
    """The closed interval of the values that a number may have.

    Attributes:
        low: least value; minus infinity for no limit.
        high: greatest value; infinity for no limit.
    """

    low: float = -math.inf
    high: float = math.inf

    def __contains__(self, value: Any) -> bool:
        """Whether a value is a finite number within the range."""
        if not (isinstance(value, Real) and math.isfinite(value)):
            return False
        return self.low <= value <= self.high

    def __str__(self) -> str:
        """The range in words, to follow "expected"."""
        if math.isinf(self.low) and math.isinf(self.high):
            return "a finite number"
        if math.isinf(self.high):
            return f"at least {self.low:g}"
        if math.isinf(self.low):
            return f"at most {self.high:g}"
        return f"{self.low:g} to {self.high:g}"

    def problem(self, name: str, value: Any) -> str | None:
        """Describe why a value is refused, or return None where it is within the range."""
        return None if value in self else f"{name} is {value}: expected {self}"


def ranged(default: Any, low: float = -math.inf, high: float = math.inf) -> Any:
    """Declare a dataclass field with a default and the range that `check_ranges` enforces."""
    return dataclasses.field(default=default, metadata={"range": Range(low, high)})


def check_ranges(settings: Any) -> None:
    """Check all fields of a settings dataclass that were declared with `ranged`.

    A field that is None passes if None is its default.

    Raises:
        ValueError: a value is not a finite number within its range; names class, field and range.
    """
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if "range" not in field.metadata or (value is None and field.default is None):
            continue
        _require(field.metadata["range"], f"{type(settings).__name__}.{field.name}", value)


def at_least(settings: Any, least: float, *names: str) -> None:
    """Check that the named attributes, where they are not None, are at least `least`.

    Raises:
        ValueError: a value is not a finite number of at least `least`; names attribute and value.
    """
    for name in names:
        value = getattr(settings, name)
        if value is not None:
            _require(Range(low=least), name, value)


def _require(allowed: Range, name: str, value: Any) -> None:
    problem = allowed.problem(name, value)
    if problem is not None:
        raise ValueError(problem)
