"""Lengths in the settings of solvers, for objects that are much larger than household ones.

The settings are those of household objects. Where the shapes of a library are larger than any of
these, such as satellites, every length grows with them.
"""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

import torch
from torch import Tensor

HOUSEHOLD_DIAMETER_M = 0.5
"""Up to this diameter lengths are those of the settings."""

T = TypeVar("T")


def length_scale(diameters: Tensor) -> float:
    """Factor of the lengths in settings for shapes with diameters (K,), metres; at least 1."""
    known = diameters[torch.isfinite(diameters)]
    if len(known) == 0:
        return 1.0
    return max(1.0, float(known.median()) / HOUSEHOLD_DIAMETER_M)


def with_scaled_lengths(settings: T, scale: float) -> T:
    """The settings with all lengths multiplied; the same object for a scale of 1, or for None.

    Lengths are the fields of the dataclass, and of dataclasses in it, whose names end in "_m".

    Args:
        settings: a dataclass, or None.
        scale: positive.
    """
    if scale == 1.0 or settings is None:
        return settings
    changes: dict[str, Any] = {}
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if dataclasses.is_dataclass(value):
            changes[field.name] = with_scaled_lengths(value, scale)
        elif field.name.endswith("_m") and isinstance(value, tuple):
            changes[field.name] = tuple(scale * length for length in value)
        elif field.name.endswith("_m") and value is not None:
            changes[field.name] = scale * value
    return dataclasses.replace(settings, **changes)
