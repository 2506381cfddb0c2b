import pytest
import torch

from crisp_ros.network.checkpoint import Model, load_model, save_model
from crisp_ros.network.model import build_network, network_sees_geometry
from crisp_ros.network.widening import widen_to_geometry


@pytest.fixture(scope="module")
def colour():
    torch.manual_seed(0)
    return build_network("compact").eval()


@torch.no_grad()
def test_a_widened_network_answers_as_before(colour):
    crops, geometry = torch.rand(2, 3, 96, 96), torch.randn(2, 5, 96, 96)
    wide = widen_to_geometry(colour).eval()
    old, new = colour(crops), wide(torch.cat([crops, geometry], dim=1))
    assert torch.allclose(new.pnc, old.pnc, atol=1e-6)
    assert torch.allclose(new.code, old.code, atol=1e-5)


def test_geometry_counts_after_a_step(colour):
    wide = widen_to_geometry(colour)
    optimiser = torch.optim.SGD(wide.parameters(), lr=1e-3)
    crops = torch.randn(2, 8, 96, 96)
    wide(crops).pnc.square().sum().backward()
    optimiser.step()
    other = crops.clone()
    other[:, 3:] = torch.randn(2, 5, 96, 96)
    with torch.no_grad():
        assert (wide(crops).pnc - wide(other).pnc).abs().max() > 1e-5


def test_a_widened_network_shares_no_memory(colour):
    wide = widen_to_geometry(colour)
    before = colour.backbone.stem.weight.clone()
    with torch.no_grad():
        wide.backbone.stem.weight.add_(1)
    assert torch.equal(colour.backbone.stem.weight, before)


def test_only_colour_networks_are_widened(colour):
    with pytest.raises(ValueError, match="compact_rgbd"):
        widen_to_geometry(widen_to_geometry(colour))


def test_crops_must_have_the_networks_channels(colour):
    wide = widen_to_geometry(colour)
    assert (colour.input_channels, wide.input_channels) == (3, 8)
    assert wide.sees_geometry and not colour.sees_geometry
    assert network_sees_geometry("compact_rgbd") and not network_sees_geometry("compact")
    for network, channels in ((colour, 8), (wide, 3)):
        with pytest.raises(ValueError, match="expected square crops"):
            network(torch.rand(1, channels, 96, 96))


def test_a_file_keeps_the_design(colour, tmp_path):
    wide = widen_to_geometry(colour).eval()
    save_model(tmp_path / "wide.safetensors", Model(wide, None, {}), torch.float32)
    again = load_model(tmp_path / "wide.safetensors").network
    crops = torch.randn(1, 8, 96, 96)
    with torch.no_grad():
        assert torch.equal(again(crops).pnc, wide(crops).pnc)
