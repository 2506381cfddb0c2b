"""Summaries of errors: medians, spreads, areas by threshold, and their JSON form."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from crisp_ros.evaluation.metrics import auc

ADD_S_THRESHOLDS_M = {"1cm": 0.01, "2cm": 0.02, "3cm": 0.03}
SHAPE_THRESHOLDS_M = {"3cm": 0.03, "5cm": 0.05, "10cm": 0.10}


def areas(errors: Sequence[float], thresholds: Mapping[str, float]) -> dict[str, float]:
    """Compute the area under the accuracy curve, 0 to 1, for each named threshold; see `auc`."""
    return {name: auc(errors, threshold) for name, threshold in thresholds.items()}


def known_median(values: Iterable[float]) -> float:
    """Compute the median of the values that are not NaN; NaN where there is none."""
    known = [value for value in values if not math.isnan(value)]
    return float(np.median(known)) if known else math.nan


def share(flags: Sequence[bool]) -> float:
    """Compute the share of true flags; NaN where there is none."""
    return float(np.mean(flags)) if flags else math.nan


def finite_or_none(value: float) -> float | None:
    """Replace a number that JSON does not have, infinity or NaN, by null."""
    return value if math.isfinite(value) else None


def known_or_nan(value: float | None) -> float:
    """Replace null by NaN: the inverse of `finite_or_none` for unknown values."""
    return math.nan if value is None else float(value)
