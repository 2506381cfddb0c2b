"""Settings with ranges, which a user interface can show and a constructor checks."""

from __future__ import annotations

import dataclasses
import math
from typing import Any


def ranged(default: float, low: float, high: float) -> Any:
    """A dataclass field with a default and the least and greatest value allowed."""
    return dataclasses.field(default=default, metadata={"low": low, "high": high})


def check_ranges(settings: Any) -> None:
    """Checks the ranged fields of a settings dataclass.

    Raises:
        ValueError: a value is not a number within its range.
    """
    for field in dataclasses.fields(settings):
        if "low" not in field.metadata:
            continue
        value = getattr(settings, field.name)
        low, high = field.metadata["low"], field.metadata["high"]
        if not (math.isfinite(value) and low <= value <= high):
            raise ValueError(
                f"{type(settings).__name__}.{field.name} is {value}: expected {low:g} to {high:g}"
            )
