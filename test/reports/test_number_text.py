"""Figures as text."""

import math

from crisp_ros.reports.number_text import number, percent


def test_numbers_have_their_decimals_and_unknown_ones_a_dash() -> None:
    assert number(1.26) == "1.3" and number(2.0, 3) == "2.000"
    assert number(None) == number(math.inf) == number(math.nan, 2) == "–"


def test_shares_have_three_significant_digits() -> None:
    assert [percent(v) for v in (0.12345, 0.5, 1.0, math.nan)] == ["12.3", "50", "100", "–"]
