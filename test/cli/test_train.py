import dataclasses
import json

import pytest
import torch
import trimesh

from crisp_ros.cli.main import main
from crisp_ros.network.checkpoint import Model, load_model, save_model
from crisp_ros.network.library import ShapeLibrary
from crisp_ros.network.model import CrispNetwork, network_config
from crisp_ros.synthesis import crop_set

pytest.importorskip("moderngl")

RECIPE = """
shards: 1
training: {steps: 2, batch: 4, held_out_crops: 8, evaluate_every: 2, save_every: 1, warmup: 1,
           bfloat16: false}
"""


@pytest.fixture(scope="module")
def meshes(tmp_path_factory):
    """Two objects, a box and a ball."""
    folder = tmp_path_factory.mktemp("meshes")
    trimesh.creation.box((0.1, 0.06, 0.04)).export(folder / "box.ply")
    trimesh.creation.icosphere(3, radius=0.04).export(folder / "globe.ply")
    return folder


@pytest.fixture(scope="module")
def initial(tmp_path_factory):
    """A small untrained model of both objects."""
    torch.manual_seed(0)
    config = dataclasses.replace(network_config("compact"), decoder_hidden=8, decoder_layers=2)
    network = CrispNetwork(config)
    half = torch.full((2, 3), 0.06)
    codes = torch.randn(2, network.decoder.code_dim)
    path = tmp_path_factory.mktemp("model") / "initial.safetensors"
    library = ShapeLibrary(("box", "globe"), codes, -half, half)
    save_model(path, Model(network, library, {"version": "1"}))
    return path


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch):
    monkeypatch.setattr(crop_set, "SHARD_CROPS", 32)


def train(meshes, folder, initial, *more):
    (folder / "recipe.yaml").write_text(RECIPE)
    return main([
        "train", "--models", str(meshes), "--recipe", str(folder / "recipe.yaml"),
        "--run", str(folder / "run"), "--from", str(initial), "--model-version", "2",
        "--output", str(folder / "model.safetensors"), "--json", str(folder / "report.json"), *more,
    ])  # fmt: skip


def test_a_model_is_trained_further_and_keeps_its_shapes(meshes, initial, tmp_path):
    assert train(meshes, tmp_path, initial) == 0
    before, after = load_model(initial), load_model(tmp_path / "model.safetensors")
    assert after.library.names == ("box", "globe")
    assert torch.equal(after.library.codes, before.library.codes)
    decoders = before.network.decoder.state_dict(), after.network.decoder.state_dict()
    assert all(torch.equal(decoders[0][name], decoders[1][name]) for name in decoders[0])
    heads = before.network.pnc_head.state_dict(), after.network.pnc_head.state_dict()
    assert not all(torch.equal(heads[0][name], heads[1][name]) for name in heads[0])
    assert after.header["version"] == "2"
    assert after.header["initial"]["version"] == "1"
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["header"]["data"]["crops"] == 32


def test_a_model_of_other_objects_is_refused(meshes, initial, tmp_path, capsys):
    (tmp_path / "other").mkdir()
    trimesh.creation.box((0.1, 0.06, 0.04)).export(tmp_path / "other" / "crate.ply")
    assert train(tmp_path / "other", tmp_path, initial) == 1
    assert "knows the objects ('box', 'globe')" in capsys.readouterr().err
