"""`crisp ablate unseen`: surfaces of unknown objects, resumed from kept results."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_bop import write_tiny_bop
from tiny_model import write_tiny_model

from crisp_ros.cli.main import main


@pytest.mark.parametrize("options", [["--instances", "2"], ["--leave-out"]])
def test_instances_are_measured_once_and_kept(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, model = write_tiny_bop(tmp_path / "data"), write_tiny_model(tmp_path)
    command = ["ablate", "unseen", "--bop", str(data), "--checkpoint", str(model), *options]
    kept, out = tmp_path / "kept", tmp_path / "out.json"
    for _ in range(2):
        assert main([*command, "--run", str(kept), "--json", str(out)]) == 0
        stamps = {path: path.stat().st_mtime_ns for path in kept.iterdir()}
    found = json.loads(out.read_text())
    assert found["instances"] == len(found["instances_list"]) >= 2
    assert stamps == {path: path.stat().st_mtime_ns for path in kept.iterdir()}
    assert "depth centroid" in capsys.readouterr().out
    assert set(found["by_name"]) == {i["name"] for i in found["instances_list"]}
