"""Figures as text: a dash for what is infinite or not known."""

from __future__ import annotations

import math

_UNKNOWN = "–"


def number(value: float | None, digits: int = 1) -> str:
    """Format a figure with a fixed number of decimals."""
    return f"{value:.{digits}f}" if value is not None and math.isfinite(value) else _UNKNOWN


def percent(share: float) -> str:
    """Format a share in percent, to three significant digits."""
    return f"{100 * share:.3g}" if math.isfinite(share) else _UNKNOWN
