"""`crisp import-backbone`: files of torch hub and of timm, and a training of the heads on one."""

from __future__ import annotations

from pathlib import Path

import pytest
import safetensors.torch
import torch
import trimesh
from released_layout import random_weights
from torch import Tensor

from crisp_ros.cli.main import main
from crisp_ros.network.backbone_import import import_backbone
from crisp_ros.network.checkpoint import CheckpointError, load_model


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    """Random weights under the names of torch hub."""
    prefix = "backbone."
    return {n.removeprefix(prefix): w for n, w in random_weights().items() if n.startswith(prefix)}


def _timm(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: weight for name, weight in weights.items() if name != "mask_token"}


@pytest.mark.parametrize("layout", ["hub", "timm", "timm.bin", "wrapped", "half"])
def test_published_layouts_give_the_same_backbone(weights, tmp_path: Path, layout: str) -> None:
    path = tmp_path / "dinov2.pth"
    if layout == "timm":
        path = tmp_path / "model.safetensors"
        safetensors.torch.save_file(_timm(weights), path)
    elif layout == "timm.bin":
        path = tmp_path / "pytorch_model.bin"
        torch.save({**_timm(weights), "head.weight": torch.zeros(3)}, path)
    elif layout == "wrapped":
        torch.save({"state_dict": {f"module.backbone.{n}": w for n, w in weights.items()}}, path)
    else:
        torch.save({n: w.half() if layout == "half" else w for n, w in weights.items()}, path)
    output = tmp_path / "backbone.safetensors"
    assert main(["import-backbone", str(path), "--output", str(output)]) == 0
    model = load_model(output)
    assert model.library is None and model.header["version"] == f"backbone-{path.stem}"
    for name, value in model.network.backbone.state_dict().items():
        if name != "mask_token":
            expected = weights[name].half().float() if layout == "half" else weights[name]
            assert torch.equal(value, expected), name


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda w: {n: v for n, v in w.items() if "blocks.11" not in n}, "missing"),
        (lambda w: {**w, "register_tokens": torch.zeros(1, 4, 384)}, "registers"),
        (lambda w: {**w, "pos_embed": torch.zeros(1, 257, 384)}, "(1, 257, 384)"),
        (lambda w: {**w, "cls_token": torch.full((1, 1, 384), float("nan"))}, "finite"),
    ],
)
def test_other_networks_are_refused(weights, tmp_path: Path, change, words: str) -> None:
    torch.save(change(weights), tmp_path / "other.pth")
    with pytest.raises(CheckpointError) as caught:
        import_backbone(tmp_path / "other.pth")
    assert words in str(caught.value)


def test_missing_and_damaged_files(tmp_path: Path) -> None:
    for name in ("a.safetensors", "a.pth"):
        with pytest.raises(CheckpointError, match="missing"):
            import_backbone(tmp_path / name)
        (tmp_path / name).write_bytes(b"not weights at all")
        with pytest.raises(CheckpointError):
            import_backbone(tmp_path / name)


RECIPE = """
network: dinov2_vits14
shards: 1
shard_crops: 24
stored_px: 96
shape_codes: {steps: 20}
training:
  steps: 10
  batch: 2
  crop_px: 56
  held_out_crops: 4
  frozen: []
  sdf: {weight: 0.1}
"""


def test_heads_are_trained_on_the_imported_backbone(weights, tmp_path: Path, monkeypatch) -> None:
    """Two commands: import, train. Ten steps change the heads and the decoder, not the backbone."""
    monkeypatch.chdir(tmp_path)
    torch.save(weights, "hub.pth")
    Path("meshes").mkdir()
    trimesh.creation.box((0.1, 0.08, 0.06)).export("meshes/box.ply")
    trimesh.creation.cylinder(0.03, 0.1).export("meshes/can.ply")
    Path("recipe.yaml").write_text(RECIPE)
    assert main(["import-backbone", "hub.pth", "--output", "backbone.safetensors"]) == 0
    options = ["--backbone", "backbone.safetensors", "--run", "run", "--output", "own.safetensors"]
    assert main(["train", "--models", "meshes", "--recipe", "recipe.yaml", *options]) == 0
    trained, given = load_model("own.safetensors"), load_model("backbone.safetensors")
    assert trained.library is not None and trained.library.names == ("box", "can")
    assert trained.network.crop_size == 56
    for name, value in trained.network.backbone.state_dict().items():
        same = given.network.backbone.state_dict()[name]
        torch.testing.assert_close(value, same, rtol=2e-3, atol=1e-3)
    assert not torch.equal(
        trained.network.pnc_head.project.weight, given.network.pnc_head.project.weight
    )
