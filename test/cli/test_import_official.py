"""`crisp import-official`: a model file that loads, a report, and one line for what it refuses."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from crisp_ros.cli.main import main
from crisp_ros.network import library
from crisp_ros.network.checkpoint import load_model
from crisp_ros.network.model import build_network
from crisp_ros.network.official import official_name


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """Released names, every weight a view of one zero: a file of a few kilobytes."""
    with torch.device("meta"):
        state = build_network("dinov2_vits14").state_dict()
    weights = {official_name(name): torch.zeros(1).expand(w.shape) for name, w in state.items()}
    codes = {"mug": np.ones(2560, dtype=np.float32), "can": np.zeros(2560, dtype=np.float32)}
    torch.save({"model": weights, "shape_code_library": codes}, tmp_path / "checkpoint.pth")
    return tmp_path / "checkpoint.pth"


def test_a_checkpoint_becomes_a_model_file(
    checkpoint: Path, tmp_path: Path, capsys, monkeypatch
) -> None:
    monkeypatch.setattr(library, "_HALF_SIDES_M", (0.1,))  # a decoder of zeros never closes
    monkeypatch.setattr(library, "_COARSE", 8)
    output, report = tmp_path / "model.safetensors", tmp_path / "report.json"
    arguments = ["--output", str(output), "--half", "--json", str(report)]
    assert main(["import-official", str(checkpoint), *arguments]) == 1
    assert "--shapes metric" in capsys.readouterr().err
    arguments += ["--shapes", "metric"]
    assert main(["import-official", str(checkpoint), *arguments]) == 0
    model = load_model(output)
    assert model.library is not None and model.library.names == ("can", "mug")
    written = json.loads(report.read_text())
    assert written["parameters"] == 39_114_388
    assert (written["shape_unit"], written["crop_rule"]) == ("metric", "tight")
    assert written["open_shapes"] == ["can", "mug"] == written["shapes"]
    assert written["sha256"] == model.header["sha256"]
    assert "no closed surface is decoded for can, mug" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    "given, output", [("lost.pth", "a"), ("x.pth", "x.pth"), ("x.pth", "no/a")]
)
def test_bad_input_is_one_line_and_writes_nothing(
    tmp_path: Path, capsys, given: str, output: str
) -> None:
    (tmp_path / "x.pth").write_text("not a checkpoint")
    arguments = [str(tmp_path / given), "--output", str(tmp_path / output)]
    assert main(["import-official", *arguments]) == 1
    assert re.search(r"\Acrisp import-official: .+\n\Z", capsys.readouterr().err.lstrip())
    assert (tmp_path / "x.pth").read_text() == "not a checkpoint"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.pth"]
