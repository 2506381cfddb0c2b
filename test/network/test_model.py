"""The assembled network: its settings, its input normalisation, what is frozen and what learns."""

import dataclasses
import json

import pytest
import torch

from crisp_ros.network import build_network
from crisp_ros.network.model import (
    CrispNetwork,
    NetworkConfig,
    network_config,
    network_names,
)


def test_the_paper_sized_network_has_the_papers_parameters() -> None:
    with torch.device("meta"):
        network = build_network("dinov2_vits14")
    counts = {
        name: sum(p.numel() for p in part.parameters()) for name, part in network.named_children()
    }
    assert counts == {
        "backbone": 22_056_576,
        "pnc_head": 13_968_147,
        "shape_head": 2_825_216,
        "decoder": 264_449,
    }
    assert network.decoder.code_dim == 2560 and network.crop_size == 420


@pytest.mark.parametrize("name", ["dinov2_vits14", "compact"])
def test_settings_survive_json(name: str) -> None:
    config = network_config(name)
    assert name in network_names() and config.design == name
    assert NetworkConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


@pytest.mark.parametrize(
    "change, message",
    [
        ({"design": "resnet18"}, "unknown network 'resnet18'"),
        ({"decoder_hidden": 0}, "decoder_hidden is 0"),
        ({"decoder_hidden": "256"}, "decoder_hidden is '256'"),
        ({"shape_hidden": [512, -1]}, r"shape_hidden\[1\] is -1"),
        ({"shape_hidden": 512}, "shape_hidden is 512"),
        ({"frozen_backbone": 1}, "frozen_backbone is 1"),
        ({"extra": 1}, r"unknown \['extra'\]"),
    ],
)
def test_wrong_settings_are_named(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NetworkConfig.from_json({**network_config("dinov2_vits14").to_json(), **change})
    short = network_config("dinov2_vits14").to_json()
    del short["crop_size"]
    with pytest.raises(ValueError, match=r"missing \['crop_size'\]"):
        NetworkConfig.from_json(short)


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match="dinov2_vits14"):
        build_network("dinov3")


def test_crops_are_normalised_inside(tiny_network: CrispNetwork) -> None:
    seen = []
    handle = tiny_network.backbone.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    imagenet = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])
    mean, std = imagenet[..., None, None].expand(2, 3, 32, 32)
    tiny_network(torch.stack([mean, mean + std]))
    handle.remove()
    torch.testing.assert_close(seen[0][0], torch.zeros(3, 32, 32))
    torch.testing.assert_close(seen[0][1], torch.ones(3, 32, 32))


def test_output_shapes_and_stride(tiny_network: CrispNetwork) -> None:
    output = tiny_network(torch.rand(2, 3, 32, 32))
    assert output.pnc.shape == (2, 3, 16, 16)
    assert output.code.shape == (2, tiny_network.decoder.code_dim)


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 4, 32, 32), (1, 3, 32, 48)])
def test_other_crops_are_refused(tiny_network: CrispNetwork, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="expected square crops"):
        tiny_network(torch.zeros(shape))


def test_features_of_a_frozen_backbone_can_be_kept(tiny_network: CrispNetwork) -> None:
    network = CrispNetwork(tiny_network.config).eval()
    crops = torch.rand(2, 3, 32, 32)
    features = network.features(crops)
    assert not features.pooled.requires_grad and not features.levels[0].requires_grad
    output = network.heads(features, 16)
    for kept, whole in zip(output, network(crops), strict=True):
        torch.testing.assert_close(kept, whole)
    (output.pnc.sum() + output.code.sum()).backward()
    assert all(p.grad is None for p in network.backbone.parameters())
    assert all(p.grad is not None for p in network.pnc_head.parameters())
    assert all(p.grad is not None for p in network.shape_head.parameters())


def test_a_frozen_backbone_stays_as_it_is_in_training_mode(tiny_network: CrispNetwork) -> None:
    network = CrispNetwork(tiny_network.config).train()
    before = {name: value.clone() for name, value in network.backbone.state_dict().items()}
    network(torch.rand(4, 3, 32, 32))
    for name, value in network.backbone.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_a_free_backbone_learns(tiny_network: CrispNetwork) -> None:
    network = CrispNetwork(dataclasses.replace(tiny_network.config, frozen_backbone=False))
    network(torch.rand(2, 3, 32, 32)).pnc.sum().backward()
    assert all(p.grad is not None for p in network.backbone.parameters())
