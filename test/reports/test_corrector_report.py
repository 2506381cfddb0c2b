"""The corrector's tables and requirements, on made-up instances."""

from __future__ import annotations

import io
import json

import pytest
from corrector_examples import instance, parts, rotated
from rich.console import Console

from crisp_ros.reports.corrector_report import (
    corrector_json,
    error_tables,
    requirement_table,
    requirements,
)
from crisp_ros.studies.corrector_comparison import CorrectorParts
from crisp_ros.studies.corrector_instances import NO_CORRECTOR


def broken(found: CorrectorParts) -> list[str]:
    return [verdict.what for verdict in requirements(found) if not verdict.holds]


def test_good_figures_meet_all_requirements() -> None:
    assert broken(parts()) == []


@pytest.mark.parametrize(
    "changed, what",
    [
        (
            {"instances": [instance(h, f, 0.02) for h in ("clean", "disturbed") for f in range(4)]},
            "clean: mean e_pose",
        ),
        (
            {"instances": [*parts().instances, rotated(10, 100)]},
            "clean: changed rotations within 30 degrees",
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
def test_a_requirement_that_is_not_met_is_named(changed: dict[str, object], what: str) -> None:
    assert any(what in name for name in broken(parts(**changed)))


def test_report_and_tables_say_the_same() -> None:
    found = parts()
    text = json.dumps(corrector_json(found), allow_nan=False)
    assert json.loads(text)["table"]["clean"][0]["method"] == NO_CORRECTOR
    console = Console(width=160, record=True, file=io.StringIO())
    for table in (*error_tables(found), requirement_table(requirements(found))):
        console.print(table)
    shown = console.export_text()
    assert "100% certified" in shown and "10.00" in shown and "yes" in shown


def test_reasons_are_counted_without_their_figures() -> None:
    refused = [instance("clean", f, 0.02, certified=False) for f in range(3)]
    counted = corrector_json(parts(instances=[*parts().instances, *refused]))["refused_because"]
    assert counted["clean"] == {"q98 # mm > # mm": 3}
