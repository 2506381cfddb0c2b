"""The trainings of the ablation."""

import pytest
import torch

from crisp_ros.network.model import CrispNetwork, build_network
from crisp_ros.studies import training_ablation
from crisp_ros.studies.training_ablation import TrainingAblation, hide_depth
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
