import json

import numpy as np
import pytest
import torch

from crisp_ros.network.model import CrispNetwork, NetworkConfig
from crisp_ros.synthesis.crop_set import SHARD_CROPS, CropSet
from crisp_ros.training.augment import AugmentSettings
from crisp_ros.training.recipe import RecipeError
from crisp_ros.training.sdf_samples import SdfSamples
from crisp_ros.training.shape_head_fit import fit_shape_head
from crisp_ros.training.shape_stage import mean_crop_codes
from crisp_ros.training.supervised import ShapeTargets, SupervisedTrainer, crop_split
from crisp_ros.training.training_settings import JointSdfSettings, TrainingSettings

CONFIG = NetworkConfig("compact", 32, 2, 16, (32,), 8, 2, False)


@pytest.fixture(scope="module")
def crops(crops_folder):
    return CropSet(crops_folder)


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
        network, ShapeTargets([torch.eye(4)[None]] * 2, codes), crops, settings, folder
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


def test_a_run_that_was_stopped_ends_as_one_that_was_not(crops, tmp_path):
    whole = trainer(crops, tmp_path / "whole", steps=5, schedule="constant")
    whole.run()
    trainer(crops, tmp_path / "stopped", steps=3, schedule="constant").run()
    rest = trainer(crops, tmp_path / "stopped", steps=5, schedule="constant")
    assert rest.step == 3
    rest.run()
    for name, value in rest.network.state_dict().items():
        assert torch.equal(value, whole.network.state_dict()[name]), name


def test_a_state_of_another_training_is_refused(crops, tmp_path):
    trainer(crops, tmp_path, steps=2).save()
    trainer(crops, tmp_path, steps=3, save_every=1, evaluate_every=1)
    for changes, name in (
        ({"steps": 1}, "settings.steps"),
        ({"steps": None, "epochs": 1}, "settings.epochs, settings.steps"),
        ({"batch": 4, "learning_rate": 1.0}, "settings.batch, settings.learning_rate"),
        ({"augment": AugmentSettings.none()}, "settings.augment.blur_share, "),
    ):
        with pytest.raises(RecipeError, match=f"another training, which differs in {name}"):
            trainer(crops, tmp_path, **{"steps": 2, **changes})


def test_an_epoch_has_every_crop_once_in_its_own_order(crops, tmp_path):
    run = trainer(crops, tmp_path, steps=None, epochs=2, batch=32)
    a_pass = (SHARD_CROPS - 32) // 32
    assert run.steps == 2 * a_pass
    seen = []
    for step in range(run.steps):
        run.step = step
        seen.append(run._chosen())
    first, second = np.concatenate(seen[:a_pass]), np.concatenate(seen[a_pass:])
    assert len(np.unique(first)) == len(first) == 32 * a_pass
    assert len(run.split.held_out) == 32 and not np.isin(first, run.split.held_out).any()
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("count", [6, 64, 1024])
def test_held_out_crops_are_shared_among_meshes_in_any_order(count):
    in_order = np.repeat(np.arange(4), (800, 800, 800, 400))
    shuffled = np.random.default_rng(0).permutation(in_order)
    for mesh in (in_order, shuffled):
        held_out, trained = crop_split(mesh, TrainingSettings(steps=1, held_out_crops=count))
        assert np.array_equal(np.union1d(held_out, trained), np.arange(len(mesh)))
        assert len(held_out) == count and not np.isin(held_out, trained).any()
        shares = np.bincount(mesh[held_out], minlength=4)
        assert np.abs(shares - count * np.array([2, 2, 2, 1]) / 7).max() <= 1
    gaps = np.diff(crop_split(in_order, TrainingSettings(steps=1, held_out_crops=count)).held_out)
    assert gaps.max() - gaps.min() <= 2


def test_every_mesh_is_trained_on_however_few_crops_show_it():
    mesh = np.array([3, 0, 0, 0, 1, 2, 2])
    held_out, trained = crop_split(mesh, TrainingSettings(steps=1, batch=4, held_out_crops=3))
    assert set(mesh[trained]) == {0, 1, 2, 3} and set(mesh[held_out]) == {0, 2}
    with pytest.raises(RecipeError, match="7 crops of 4 meshes: too few to hold out 4"):
        crop_split(mesh, TrainingSettings(steps=1, batch=1, held_out_crops=4))


def test_decoder_and_heads_learn_together(crops, tmp_path):
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(2, 300, 3, generator=generator)
    radii = torch.tensor([[0.03], [0.07]])
    reach = 0.1 * torch.rand(2, 300, generator=generator)
    reach[:, :200] = radii + 0.005 * torch.randn(2, 200, generator=generator)
    points = torch.nn.functional.normalize(directions, dim=-1) * reach[..., None]
    samples = SdfSamples(points, reach - radii)
    settings = TrainingSettings(
        steps=40,
        batch=8,
        crop_px=32,
        optimiser="adam",
        learning_rate=2e-3,
        warmup=0,
        schedule="constant",
        pnc_weight=50.0,
        pnc_zeta_m=0.1,
        sdf=JointSdfSettings(1.0, 32, 32, 32),
        clip_norm=None,
        bfloat16=False,
        frozen=(),
        held_out_crops=32,
        evaluate_every=40,
        augment=AugmentSettings.none(),
    )
    torch.manual_seed(0)
    network = CrispNetwork(CONFIG)
    run = SupervisedTrainer(
        network,
        ShapeTargets([torch.eye(4)[None]] * 2, samples=samples),
        crops,
        settings,
        tmp_path,
    )
    before = run.evaluate()
    start = {name: value.clone() for name, value in network.state_dict().items()}
    run.run()
    after = run.evaluate()
    assert after["held_out_sdf_mm"] < 0.7 * before["held_out_sdf_mm"]
    assert after["held_out_pnc_mm"] < before["held_out_pnc_mm"]
    for name in ("decoder.final_layer.weight", "shape_head.layers.3.weight"):
        assert not torch.equal(network.state_dict()[name], start[name])
    codes = mean_crop_codes(run, 3)
    assert list(codes) == [0, 1] and codes[0].shape == (network.decoder.code_dim,)


@pytest.mark.parametrize(
    "changes, complaint",
    [
        ({"batch": 4096}, "too few to hold out 32"),
        ({"held_out_crops": 0}, "held_out_crops is 0"),
        ({"evaluate_every": 0}, "evaluate_every is 0"),
        ({"save_every": 0}, "save_every is 0"),
        ({"sdf": JointSdfSettings()}, "target codes, or samples"),
        ({"epochs": 3}, "either steps or epochs"),
        ({"schedule": "linear"}, "constant, cosine or restarts"),
        ({"optimiser": "sgd"}, "adam or adamw"),
        ({"batch": 0}, "batch is 0"),
    ],
)
def test_settings_that_do_not_fit_are_refused(crops, tmp_path, changes, complaint):
    with pytest.raises(ValueError, match=complaint):
        trainer(crops, tmp_path, **changes)


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


def test_a_run_ends_with_the_mean_of_its_weights(crops, tmp_path):
    latest = trainer(crops, tmp_path / "latest", steps=5)
    latest.run()
    mean = trainer(crops, tmp_path / "mean", steps=5, averaging=0.9)
    mean.run()
    name = "pnc_head.final.2.weight"
    weights = [run.network.state_dict()[name] for run in (latest, mean)]
    assert not torch.equal(*weights)
    # What is stored are the latest weights, from which a longer run goes on.
    assert torch.equal(torch.load(tmp_path / "mean" / "state.pt")["network"][name], weights[0])
    trainer(crops, tmp_path / "stopped", steps=3, averaging=0.9, schedule="constant").run()
    rest = trainer(crops, tmp_path / "stopped", steps=5, averaging=0.9, schedule="constant")
    rest.run()
    whole = trainer(crops, tmp_path / "whole", steps=5, averaging=0.9, schedule="constant")
    whole.run()
    assert torch.equal(rest.network.state_dict()[name], whole.network.state_dict()[name])
