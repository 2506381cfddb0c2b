"""The corrector's tables and what must hold, on instances that are made up."""

from __future__ import annotations

import dataclasses
import io
import json
import math

import pytest
from rich.console import Console

from crisp_ros.reports.corrector_report import (
    CorrectorParts,
    must_hold,
    report,
    row_table,
    verdict_table,
)
from crisp_ros.studies.corrector_study import (
    METHODS,
    MISSED,
    MULTI_VIEW,
    NO_CORRECTOR,
    SECOND_ORDER,
    TURNED,
    Errors,
    Instance,
    certified_shares,
    rows,
    turns,
)


def instance(
    scene: str, frame: int, error_m: float, certified: bool = True, before_m: float = 0.01
) -> Instance:
    """Every method errs by `error_m`, without the corrector by `before_m`."""
    errors = {m: Errors(error_m, error_m / 2, error_m, 0.1, "can") for m in METHODS}
    errors[NO_CORRECTOR] = Errors(before_m, before_m / 2, before_m, 0.2, "")
    reason = "" if certified else "q98 13 mm > 10 mm"
    return Instance(f"{scene}_1", frame, "can", 0.8, certified, reason, errors)


def parts(**changed: object) -> CorrectorParts:
    instances = [
        instance(half, frame, 0.001 * (frame + 1)) for half in ("clean", "disturbed")
        for frame in range(4)
    ]  # fmt: skip
    given = {
        "instances": instances,
        "real": [],
        "shapes": {"count": 2, "lsq": 1.0, "projected_gradient": 0.0, "corrector": 1.0},
        "z_steps": [
            {"pnc_noise_m": 0.0, "pnc_outliers": 0.0, "before_m": 1e-4, "second_order_m": 1e-4}
        ],
        "solvers": {"gradient_steps": 200, "no_worse": 1.0},
        "programs": None,
    }
    return CorrectorParts(**{**given, **changed})


def broken(found: CorrectorParts) -> list[str]:
    return [verdict.what for verdict in must_hold(found) if not verdict.holds]


def test_rows_are_means_and_medians_over_what_was_found() -> None:
    found = [instance("clean", f, e) for f, e in enumerate((0.001, 0.002, 0.006))]
    errors = {**found[0].errors, SECOND_ORDER: MISSED}
    lost = Instance("clean_1", 3, "can", 0.5, False, "not estimated", errors)
    row = {r.method: r for r in rows([*found, lost])}[SECOND_ORDER]
    assert (row.count, row.missed) == (4, 1)
    assert row.e_pose_mean_m == pytest.approx(0.003)
    assert row.e_pose_median_m == row.add_s_median_m == pytest.approx(0.002)
    assert row.e_shape_mean_m == pytest.approx(0.0015)
    assert row.right_shape == 1.0


def test_methods_that_were_not_run_have_no_row() -> None:
    errors = {m: e for m, e in instance("real", 0, 0.002).errors.items() if m != MULTI_VIEW}
    alone = Instance("real", 0, "can", math.nan, True, "", errors)
    assert [row.method for row in rows([alone])] == list(METHODS[:-1])


def test_shares_count_certified_ones_alone() -> None:
    found = [instance("clean", 0, e) for e in (0.002, 0.012, 0.03)]
    found.append(instance("clean", 0, 0.5, certified=False))
    shares = certified_shares(found)
    assert shares.count == 4 and shares.certified == 0.75
    assert shares.within_1cm == pytest.approx(1 / 3)
    assert shares.within_2cm == pytest.approx(2 / 3)
    assert certified_shares(found[3:]) == (1, 0.0, 0.0, 0.0)


def turned(before_deg: float, after_deg: float) -> Instance:
    found = instance("clean", 0, 0.002)
    before, after = (
        found.errors[TURNED]._replace(rotation_rad=math.radians(deg))
        for deg in (before_deg, after_deg)
    )
    return dataclasses.replace(found, errors={**found.errors, SECOND_ORDER: before, TURNED: after})


def test_turns_count_what_is_turned_alone() -> None:
    found = [turned(90, 10), turned(140, 50), turned(100, 20), turned(3, 3), turned(20, 120)]
    of = turns(found)
    assert (of.count, of.near_before, of.near_after) == (4, 0.25, 0.5)
    assert math.degrees(of.rotation_before_rad) == pytest.approx(95)
    assert math.degrees(of.rotation_after_rad) == pytest.approx(35)
    assert turns(found[3:4]) == (0, 0.0, 0.0, 0.0, 0.0)


def test_all_holds_where_all_is_well() -> None:
    assert broken(parts()) == []


@pytest.mark.parametrize(
    "changed, what",
    [
        (
            {"instances": [instance(h, f, 0.02) for h in ("clean", "disturbed") for f in range(4)]},
            "clean: mean e_pose",
        ),
        (
            {"instances": [*parts().instances, turned(10, 100)]},
            "clean: turned ones within 30 degrees",
        ),
        ({"solvers": {"gradient_steps": 200, "no_worse": 0.9}}, "200 gradient steps"),
        ({"shapes": {"lsq": 0.9, "corrector": 1.0}}, "LSQ finds the shape"),
        ({"shapes": {"lsq": 1.0, "corrector": 0.9}}, "pose and shape together"),
        (
            {
                "z_steps": [
                    {
                        "pnc_noise_m": 0.002,
                        "pnc_outliers": 0.2,
                        "before_m": 1e-4,
                        "second_order_m": 2e-4,
                    }
                ]
            },
            "2 mm, 20% outliers",
        ),
        (
            {
                "instances": [
                    instance(h, f, 0.001, certified=False)
                    for h in ("clean", "disturbed")
                    for f in range(4)
                ]
            },
            "clean: visible instances certified",
        ),
    ],
)
def test_what_does_not_hold_is_named(changed: dict[str, object], what: str) -> None:
    assert any(what in name for name in broken(parts(**changed)))


def test_instances_survive_json() -> None:
    lost = Instance("clean_1", 0, "can", math.nan, False, "gone", {SECOND_ORDER: MISSED})
    for one in (instance("clean", 2, 0.003), lost):
        again = Instance.from_json(json.loads(json.dumps(one.to_json())))
        assert again.errors == one.errors and again.reason == one.reason
        assert again.visible_share == pytest.approx(one.visible_share, nan_ok=True)


def test_report_and_tables_say_the_same() -> None:
    found = parts()
    text = json.dumps(report(found), allow_nan=False)
    assert json.loads(text)["table"]["clean"][0]["method"] == NO_CORRECTOR
    console = Console(width=160, record=True, file=io.StringIO())
    for table in (*row_table(found), verdict_table(must_hold(found))):
        console.print(table)
    shown = console.export_text()
    assert "100% certified" in shown and "10.00" in shown and "yes" in shown


def test_reasons_are_counted_without_their_figures() -> None:
    refused = [instance("clean", f, 0.02, certified=False) for f in range(3)]
    counted = report(parts(instances=[*parts().instances, *refused]))["refused_because"]
    assert counted["clean"] == {"q98 # mm > # mm": 3}
