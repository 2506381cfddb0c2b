"""Reports: files are whole or absent, tables show what was measured."""

import io
import json
import math
from pathlib import Path

import pytest
from rich.console import Console

from crisp_ros import __version__
from crisp_ros.evaluation.report import provenance, write_json


def test_a_report_is_written_whole_into_new_folders(tmp_path: Path) -> None:
    path = tmp_path / "docs/results/figures.json"
    write_json(path, {"auc": 0.5})
    assert json.loads(path.read_text()) == {"auc": 0.5}
    with pytest.raises(ValueError):
        write_json(path, {"auc": math.inf})
    assert json.loads(path.read_text()) == {"auc": 0.5}
    assert [p.name for p in path.parent.iterdir()] == ["figures.json"]


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "taken.json").mkdir()
    with pytest.raises(OSError):
        write_json(tmp_path / "taken.json", {"auc": 0.5})
    assert [p.name for p in tmp_path.iterdir()] == ["taken.json"]


def test_provenance_names_command_version_and_machine() -> None:
    stated = provenance("crisp evaluate bop DIR")
    assert (stated["command"], stated["version"]) == ("crisp evaluate bop DIR", __version__)
    assert stated["machine"]["threads"] >= 1 and stated["machine"]["device"] == "cpu"
    json.dumps(stated, allow_nan=False)


def test_tables_show_figures_and_misses() -> None:
    from crisp_ros.evaluation.bop import BopEvaluation, InstanceErrors
    from crisp_ros.evaluation.tables import instance_table, summary_table

    found = InstanceErrors(48, 1, 3, 0.02, 0.0051, 0.0062, math.radians(7.3), 0.0084, 0.0095, True)
    evaluation = BopEvaluation((found, InstanceErrors(48, 1, 4, 0.02)))
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(instance_table(evaluation, {3: "sugar box"}))
    console.print(summary_table(evaluation))
    printed = console.export_text()
    row = next(line for line in printed.splitlines() if "sugar box" in line)
    assert all(cell in row for cell in ("5.1", "6.2", "7.3", "8.4", "9.5", "yes"))
    assert "missed" in printed and "50 % certified" in printed
