"""Ranges of settings."""

from __future__ import annotations

from typing import Any


def at_least(settings: Any, least: float, *names: str) -> None:
    """Refuses settings of which a field of these names is set, and to less than `least`.

    Raises:
        ValueError: which field, and what it is.
    """
    for name in names:
        value = getattr(settings, name)
        if value is not None and value < least:
            raise ValueError(f"{name} is {value}: expected at least {least}")
