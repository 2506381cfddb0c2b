"""Summaries of the corrector's study, on made-up instances."""

from __future__ import annotations

import json
import math

import pytest
from corrector_examples import instance, rotated

from crisp_ros.correction.corrector_settings import CORRECTORS
from crisp_ros.studies.corrector_instances import (
    METHODS,
    MISSED,
    MULTI_VIEW,
    NO_CORRECTOR,
    SECOND_ORDER,
    SETTINGS,
    Instance,
    certified_shares,
    rows,
    symmetry_changes,
)


def test_rows_are_means_and_medians_without_the_missed() -> None:
    found = [instance("clean", f, e) for f, e in enumerate((0.001, 0.002, 0.006))]
    errors = {**found[0].errors, SECOND_ORDER: MISSED}
    lost = Instance("clean_1", 3, "can", 0.5, False, "not estimated", errors)
    row = {r.method: r for r in rows([*found, lost])}[SECOND_ORDER]
    assert (row.count, row.missed) == (4, 1)
    assert row.e_pose_mean_m == pytest.approx(0.003)
    assert row.e_pose_median_m == row.add_s_median_m == pytest.approx(0.002)
    assert row.e_shape_mean_m == pytest.approx(0.0015)
    assert row.right_shape == 1.0
    assert (row.certified, row.certified_within_2cm) == (0.75, 1.0)
    assert row.cpu_median_s == pytest.approx(0.02)


def test_wrong_certificates_and_unmeasured_times_show() -> None:
    found = [instance("clean", 0, e) for e in (0.002, 0.03)]
    found.append(instance("clean", 0, 0.004, certified=False))
    row = {r.method: r for r in rows(found)}[MULTI_VIEW]
    assert row.certified == pytest.approx(2 / 3) and row.certified_within_2cm == 0.5
    assert math.isnan(row.cpu_median_s)
    assert math.isnan({r.method: r for r in rows(found)}[NO_CORRECTOR].certified_within_2cm)


def test_methods_that_were_not_run_have_no_row() -> None:
    errors = {m: e for m, e in instance("real", 0, 0.002).errors.items() if m != MULTI_VIEW}
    alone = Instance("real", 0, "can", math.nan, True, "", errors)
    assert [row.method for row in rows([alone])] == list(METHODS[:-1])


def test_shares_are_of_certified_instances() -> None:
    found = [instance("clean", 0, e) for e in (0.002, 0.012, 0.03)]
    found.append(instance("clean", 0, 0.5, certified=False))
    shares = certified_shares(found)
    assert shares.count == 4 and shares.certified == 0.75
    assert shares.within_1cm == pytest.approx(1 / 3)
    assert shares.within_2cm == pytest.approx(2 / 3)
    assert certified_shares(found[3:]) == (1, 0.0, 0.0, 0.0)


def test_only_changed_rotations_count() -> None:
    found = [rotated(90, 10), rotated(140, 50), rotated(100, 20), rotated(3, 3), rotated(20, 120)]
    of = symmetry_changes(found)
    assert (of.count, of.near_before, of.near_after) == (4, 0.25, 0.5)
    assert math.degrees(of.rotation_before_rad) == pytest.approx(95)
    assert math.degrees(of.rotation_after_rad) == pytest.approx(35)
    assert symmetry_changes(found[3:4]) == (0, 0.0, 0.0, 0.0, 0.0)


def test_instances_survive_json() -> None:
    lost = Instance("clean_1", 0, "can", math.nan, False, "gone", {SECOND_ORDER: MISSED})
    for one in (instance("clean", 2, 0.003), lost):
        again = Instance.from_json(json.loads(json.dumps(one.to_json())))
        assert again.errors == one.errors and again.reason == one.reason
        assert again.cpu_s == one.cpu_s
        assert again.visible_share == pytest.approx(one.visible_share, nan_ok=True)


def test_algorithms_1_and_2_are_those_of_the_paper() -> None:
    assert list(SETTINGS.values()) == [CORRECTORS[k] for k in ("alg1", "alg2", "second_order")]
