"""Summaries of errors, against values computed by hand."""

import math

import pytest

from crisp_ros.evaluation.summary_statistics import (
    areas,
    finite_or_none,
    known_median,
    known_or_nan,
    share,
)


def test_areas_are_named_by_their_thresholds() -> None:
    found = areas([0.0, 0.01, math.inf], {"1cm": 0.01, "2cm": 0.02})
    assert found == pytest.approx({"1cm": 1 / 3, "2cm": (1 + 0.5) / 3})


def test_medians_and_shares_leave_out_what_is_unknown() -> None:
    assert known_median([math.nan, 3.0, 1.0, 2.0]) == 2.0
    assert math.isnan(known_median([math.nan])) and math.isnan(share([]))
    assert share([True, False, True, True]) == 0.75


def test_json_has_null_for_what_is_not_finite() -> None:
    assert [finite_or_none(v) for v in (1.5, math.inf, math.nan)] == [1.5, None, None]
    assert known_or_nan(2) == 2.0 and math.isnan(known_or_nan(None))
