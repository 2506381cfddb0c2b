"""The trainings of the ablation."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from crisp_ros.network.checkpoint import Model, load_model, save_model
from crisp_ros.network.model import CrispNetwork, build_network
from crisp_ros.studies import training_ablation
from crisp_ros.studies.training_ablation import TrainingAblation, hide_depth
from crisp_ros.studies.training_rows import BACKBONE_ROWS, BACKBONE_TRAININGS
from crisp_ros.synthesis.crop_set import CROP_PX, NO_OBJECT, CropSet, save_shard
from crisp_ros.training.recipe import Recipe
from crisp_ros.training.training_settings import TrainingSettings


def test_a_network_without_depth_sees_the_mask_alone():
    torch.manual_seed(0)
    network = build_network("compact_rgbd").eval()
    hide_depth(network)
    crops = torch.rand(1, 8, 64, 64)
    crops[:, 3] = 1
    other, unmasked = crops.clone(), crops.clone()
    other[:, 4:] = torch.randn(1, 4, 64, 64)
    unmasked[:, 3, :32] = -1
    with torch.no_grad():
        pnc = network(crops).pnc
        assert torch.equal(network(other).pnc, pnc)
        assert not torch.equal(network(unmasked).pnc, pnc)


@torch.no_grad()
def test_a_network_of_colour_has_no_depth_to_hide():
    torch.manual_seed(0)
    colour = build_network("compact").eval()
    crops = torch.rand(1, 3, 64, 64)
    before = colour(crops).pnc
    hide_depth(colour)
    assert torch.equal(colour(crops).pnc, before)


@pytest.mark.parametrize(
    "training, design, side",
    [
        ("reference", "compact_rgbd", 64),
        ("colour", "compact", 64),
        ("no depth", "compact_rgbd", 64),
        ("large crops", "compact_rgbd", 96),
        ("random backbone", "compact_rgbd", 64),
    ],
)
def test_trainings_differ_in_one_part(monkeypatch, training, design, side):
    monkeypatch.setattr(
        training_ablation, "imagenet_network", lambda config, folder: CrispNetwork(config)
    )
    recipe = Recipe(network="compact_rgbd", training=TrainingSettings(steps=1, crop_px=64))
    decoder = build_network("compact").decoder
    study = TrainingAblation(recipe, (), [], decoder, None, None, None, None, 1)
    network = study._network(training)
    assert (network.config.design, network.crop_size) == (design, side)
    assert torch.equal(network.decoder.final_layer.weight, decoder.final_layer.weight)
    assert len(network.backbone._forward_pre_hooks) == (training == "no depth")


def made_crops(folder: Path, count: int = 24) -> CropSet:
    """Crops of two flat discs, red and blue."""
    rng = np.random.default_rng(0)
    mesh = rng.integers(0, 2, count)
    y, x = np.mgrid[-1 : 1 : CROP_PX * 1j, -1 : 1 : CROP_PX * 1j]
    disc = x**2 + y**2 < 0.4
    rgb = np.full((count, CROP_PX, CROP_PX, 3), 90, np.uint8)
    rgb[:, disc] = np.array([[200, 40, 40], [40, 40, 200]], np.uint8)[mesh][:, None]
    pnc = np.full((count, CROP_PX, CROP_PX, 3), NO_OBJECT, np.int16)
    pnc[:, disc] = np.rint(1e3 * np.stack([0.05 * x, 0.05 * y, 0 * x], -1))[disc]
    save_shard(folder / "shard_0000.json", {"rgb": rgb, "pnc": pnc, "mesh": mesh}, {})
    return CropSet(folder)


def test_heads_are_trained_on_a_frozen_backbone(known, tmp_path):
    """The rows of `--backbone`: that of the file against a random one; neither is changed."""
    torch.manual_seed(7)  # not that of the recipe
    file = tmp_path / "backbone.safetensors"
    save_model(file, Model(build_network("dinov2_vits14"), None, {"version": "made"}))
    given = load_model(file).network
    settings = TrainingSettings(steps=2, batch=2, crop_px=64, held_out_crops=4)
    two = known.only("box", "sphere")
    study = TrainingAblation(
        Recipe(network="compact", training=settings),
        tuple(SimpleNamespace(name=name) for name in two.library.names),
        [torch.eye(4)[None]] * 2,
        two.decoder,
        two.library.codes,
        made_crops(tmp_path),
        None,
        tmp_path / "own",
        1,
        given,
    )
    assert [row.training for row in BACKBONE_ROWS] == list(BACKBONE_TRAININGS)
    backbones = {}
    for training in BACKBONE_TRAININGS:
        torch.manual_seed(study.recipe.seed)
        begun = study._network(training)
        model, figures = study.trained(training)
        assert all(np.isfinite(list(figures.values())))
        assert model.network.config.design == "dinov2_vits14" and model.network.crop_size == 56
        same = begun.backbone.state_dict()
        for name, value in model.network.backbone.state_dict().items():
            torch.testing.assert_close(value, same[name], rtol=2e-3, atol=1e-3)
        changed, before = model.network.pnc_head.state_dict(), begun.pnc_head.state_dict()
        assert any((changed[n] - before[n]).abs().max() > 1e-5 for n in before)
        backbones[training] = model.network.backbone
    first, second = (b.patch_embed.proj.weight for b in backbones.values())
    expected = given.backbone.patch_embed.proj.weight
    torch.testing.assert_close(first, expected, rtol=2e-3, atol=1e-3)
    assert (first - second).abs().max() > 1e-2
