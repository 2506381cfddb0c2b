"""A finished model without parts of its input."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import pytest
import torch
from adaptation_samples import shipped_model
from tiny_bop import write_tiny_bop
from tiny_model import write_tiny_model

from crisp_ros.cli.main import main
from crisp_ros.evaluation.bop_evaluation import BopEvaluationSettings
from crisp_ros.network.checkpoint import load_model
from crisp_ros.network.model import COLOUR_CHANNELS
from crisp_ros.studies import inputs_ablation
from crisp_ros.studies.inputs_ablation import AS_IT_IS, NO_COLOURS, NO_DEPTH, InputsAblation


def test_each_variant_lacks_one_part() -> None:
    model = shipped_model()
    variants = {v.name: v for v in InputsAblation(model).variants()}
    assert list(variants)[:3] == [AS_IT_IS, NO_COLOURS, NO_DEPTH]
    assert variants[AS_IT_IS].settings.orientation is not None
    assert variants[NO_COLOURS].settings.orientation is None
    assert variants[NO_COLOURS].model is model
    sides = [v.model.network.crop_size for v in variants.values()]
    assert sides == [96, 96, 96, 64, 128]


def test_hidden_geometry_changes_no_answer_shown_one_does() -> None:
    """The model itself still sees depth afterwards."""
    model = shipped_model()
    variants = {v.name: v.model.network for v in InputsAblation(model).variants()}
    crops = torch.rand(2, model.network.input_channels, 96, 96, generator=torch.manual_seed(0))
    crops[:, COLOUR_CHANNELS] = 1.0
    other = crops.clone()
    other[:, COLOUR_CHANNELS + 1 :] *= 0.5
    with torch.no_grad():
        hidden = [variants[NO_DEPTH](c).pnc for c in (crops, other)]
        shown = [variants[AS_IT_IS](c).pnc for c in (crops, other)]
    assert torch.equal(*hidden)
    assert not torch.allclose(*shown, atol=1e-4)


def test_the_command_measures_all_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = functools.partial(BopEvaluationSettings, model_points=50, chamfer_samples=50)
    monkeypatch.setattr(inputs_ablation, "BopEvaluationSettings", few)
    folder = write_tiny_bop(tmp_path / "tiny")
    checkpoint = write_tiny_model(tmp_path)
    report = tmp_path / "inputs.json"
    options = ["--checkpoint", str(checkpoint), "--colour-model", str(checkpoint)]
    assert main(["ablate", "inputs", "--bop", str(folder), *options, "--json", str(report)]) == 0
    found = json.loads(report.read_text())
    rows = found["data_sets"][str(folder)]
    side = load_model(checkpoint).network.crop_size
    assert list(rows)[:3] == [AS_IT_IS, NO_COLOURS, "a model of colour alone"]
    assert len(rows) == 5 and all(f"instead of {side}" in name for name in list(rows)[3:])
    assert {row["instances"] for row in rows.values()} == {7}
    assert rows["a model of colour alone"] == rows[AS_IT_IS]
    assert found["model_version"] == found["colour_model_version"]
