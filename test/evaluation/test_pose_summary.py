"""Summaries of pose errors against plain counts."""

import math
from dataclasses import dataclass

import pytest

from crisp_ros.evaluation.pose_summary import summarize_poses


@dataclass(frozen=True)
class Errors:
    add_s_m: float = 0.0
    add_m: float = 0.0
    rotation_error_rad: float = 0.0
    certified: bool = True
    orientation_certified: bool = True


FLIPPED = Errors(add_m=0.05, rotation_error_rad=math.pi, orientation_certified=False)
DISPLACED = Errors(add_s_m=0.025, add_m=0.03, rotation_error_rad=math.radians(10.0))
MISSED = Errors(math.inf, math.inf, math.inf, False, False)
WORST = Errors(0.0, 0.09, math.radians(31.0))


def test_counts_and_shares_of_known_errors() -> None:
    found = summarize_poses([Errors(), FLIPPED, DISPLACED, MISSED, WORST])
    assert found.instances == 5
    assert found.median_rotation_deg == pytest.approx(31.0)
    assert found.rotations_within == {"5deg": 0.2, "15deg": 0.4, "30deg": 0.4}
    assert (found.certified, found.certified_wrong_place) == (4, 1)
    assert found.certified_wrong_rotation == 2
    assert (found.orientation_certified, found.orientation_certified_wrong) == (3, 1)


def test_areas_are_exact_integrals() -> None:
    """Each error e below the threshold t contributes 1 - e / t, each other none."""
    found = summarize_poses([Errors(), FLIPPED, DISPLACED, MISSED])
    assert found.auc_add["10cm"] == pytest.approx((1 + 0.5 + 0.7) / 4)
    assert found.auc_add["2cm"] == pytest.approx(1 / 4)
    assert found.auc_add_s["2cm"] == pytest.approx(2 / 4)


def test_missed_medians_are_null_in_json() -> None:
    found = summarize_poses([MISSED, MISSED])
    assert found.to_json()["median_rotation_deg"] is None
    assert found.to_json()["certified"] == 0
