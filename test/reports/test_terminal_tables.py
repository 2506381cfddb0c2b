"""Tables in a terminal show what was measured."""

import io
import math
from dataclasses import replace

from rich.console import Console

from crisp_ros.evaluation.bop_evaluation import BopEvaluation, InstanceErrors
from crisp_ros.reports.terminal_tables import instance_table, pose_table, summary_table


def test_a_wrong_scale_of_depth_is_named() -> None:
    instances = tuple(
        InstanceErrors(48, image, obj_id, 0.02, depth_scale=1.08)
        for image in (1, 2)
        for obj_id in (3, 4, 5)
    )
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(summary_table(BopEvaluation(instances)))
    assert "scaled by 1.08" in " ".join(console.export_text().split())
    console.print(summary_table(BopEvaluation(instances[:3])))
    assert "scaled" not in console.export_text()


def test_tables_show_figures_and_misses() -> None:
    found = InstanceErrors(48, 1, 3, 0.02, 0.0051, 0.0062, math.radians(7.3), 0.0084, 0.0095, True)
    sure = replace(found, obj_id=5, orientation_certified=True)
    evaluation = BopEvaluation((found, InstanceErrors(48, 1, 4, 0.02), sure))
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(instance_table(evaluation, {3: "sugar box"}))
    console.print(summary_table(evaluation))
    console.print(pose_table(evaluation, {3: "sugar box"}))
    printed = console.export_text()
    row = next(line for line in printed.splitlines() if "sugar box" in line)
    assert all(cell in row for cell in ("5.1", "6.2", "7.3", "8.4", "9.5", "place"))
    assert "missed" in printed and "67 % certified" in printed
    assert any("yes" in line for line in printed.splitlines() if " 5 " in line)
    total = next(line for line in printed.splitlines() if " all " in line)
    assert total.split()[:2] == ["all", "3"] and total.split()[-5:] == ["2", "0", "0", "1", "0"]
