import json

import numpy as np
import pytest
import torch

from crisp_ros.network.model import CrispNetwork, NetworkConfig
from crisp_ros.synthesis.crop_set import CROP_PX, NO_OBJECT, PNC_UNIT_M, SHARD_CROPS, CropSet
from crisp_ros.training.augment import AugmentSettings
from crisp_ros.training.settings import TrainingSettings
from crisp_ros.training.shape_head_fit import fit_shape_head
from crisp_ros.training.supervised import SupervisedTrainer

CONFIG = NetworkConfig("compact", 32, 2, 16, (32,), 8, 2, False)


@pytest.fixture(scope="module")
def crops(tmp_path_factory):
    """Two kinds of flat discs, red and blue, whose PNC is a plane of their own."""
    folder = tmp_path_factory.mktemp("crops")
    rng = np.random.default_rng(0)
    axis = (np.arange(CROP_PX) + 0.5) * 2 / CROP_PX - 1
    y, x = np.meshgrid(axis, axis, indexing="ij")
    disc = x**2 + y**2 < 0.4
    mesh = rng.integers(0, 2, SHARD_CROPS)
    planes = [np.stack([0.05 * x, 0.05 * y, 0 * x], -1), np.stack([-0.05 * x, 0 * x, 0.05 * y], -1)]
    stored = [
        np.where(disc[..., None], np.rint(p / PNC_UNIT_M), NO_OBJECT).astype(np.int16)
        for p in planes
    ]
    colours = np.array([[200, 40, 40], [40, 40, 200]], np.uint8)
    rgb = np.full((SHARD_CROPS, CROP_PX, CROP_PX, 3), 90, np.uint8)
    rgb[:, disc] = colours[mesh][:, None]
    shard = folder / "shard_0000.json"
    np.save(shard.with_suffix(".rgb.npy"), rgb)
    np.save(shard.with_suffix(".pnc.npy"), np.stack([stored[m] for m in mesh]))
    np.save(shard.with_suffix(".mesh.npy"), mesh)
    shard.write_text("{}")
    return CropSet(folder)


def trainer(crops, folder, **changes) -> SupervisedTrainer:
    torch.manual_seed(0)
    network = CrispNetwork(CONFIG)
    codes = torch.stack(
        [torch.ones(network.decoder.code_dim), -torch.ones(network.decoder.code_dim)]
    )
    settings = TrainingSettings(
        **{
            "steps": 6,
            "batch": 8,
            "crop_px": 32,
            "held_out_crops": 32,
            "evaluate_every": 6,
            "save_every": 2,
            "warmup": 1,
            "bfloat16": False,
            "learning_rate": 1e-3,
            "code_weight": 0.1,
            **changes,
        }
    )
    return SupervisedTrainer(
        network, codes, [torch.eye(4)[None]] * 2, crops, settings, folder, seed=0
    )


def test_training_learns_both_pnc_and_shape(crops, tmp_path):
    quick = AugmentSettings.none()
    run = trainer(crops, tmp_path, steps=60, evaluate_every=60, augment=quick, frozen=())
    before = run.evaluate()
    run.run()
    after = run.evaluate()
    assert after["held_out_pnc_mm"] < 0.6 * before["held_out_pnc_mm"]
    assert after["held_out_shape"] > 0.95
    logged = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert logged[-1]["step"] == 60 and logged[-1]["held_out_pnc_mm"] == after["held_out_pnc_mm"]


def test_a_stopped_run_goes_on_from_its_last_state(crops, tmp_path):
    first = trainer(crops, tmp_path, steps=4)
    first.run()
    weights = {k: v.clone() for k, v in first.network.state_dict().items()}
    second = trainer(crops, tmp_path, steps=6)
    assert second.step == 4
    assert all(torch.equal(v, weights[k]) for k, v in second.network.state_dict().items())
    second.run()
    assert second.step == 6
    assert not (tmp_path / "state.tmp").exists()


def test_frozen_layers_and_the_decoder_do_not_move(crops, tmp_path):
    run = trainer(crops, tmp_path)
    before = {k: v.clone() for k, v in run.network.state_dict().items()}
    run.run()
    moved = {k for k, v in run.network.state_dict().items() if not torch.equal(v, before[k])}
    assert not [
        k for k in moved if k.startswith(("decoder.", "backbone.stem.", "backbone.stages.0."))
    ]
    assert [k for k in moved if k.startswith("backbone.stages.2.")]
    assert [k for k in moved if k.startswith("pnc_head.")]


def test_the_shape_head_can_be_fitted_to_new_codes_alone(crops, tmp_path):
    run = trainer(crops, tmp_path, steps=1, augment=AugmentSettings.none())
    run.run()
    before = {k: v.clone() for k, v in run.network.state_dict().items()}
    dim = run.network.decoder.code_dim
    codes = torch.stack([torch.linspace(-1, 1, dim), torch.linspace(1, -1, dim)])
    losses = []
    fit_shape_head(run, codes, 120, report=lambda step, loss: losses.append(loss))
    assert losses[-1] < 0.2 * losses[0]
    rgb = run.batch(np.arange(32), AugmentSettings.none())
    with torch.no_grad():
        predicted = run.network(rgb[0].crops).code
    assert (torch.cdist(predicted, codes).argmin(1) == rgb[1]).float().mean() > 0.95
    moved = {k for k, v in run.network.state_dict().items() if not torch.equal(v, before[k])}
    assert all(k.startswith("shape_head.") for k in moved)
