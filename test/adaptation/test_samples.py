import pytest
import torch

from crisp_ros.adaptation.samples import FeatureCache, Sample
from crisp_ros.network.model import build_network
from crisp_ros.observation.crop_channels import quantise_crops

CPU = torch.device("cpu")


def sample(crop: torch.Tensor) -> Sample:
    nothing = torch.zeros(8, 3)
    return Sample("a", True, crop, nothing[:, :2], nothing, torch.eye(4), torch.zeros(5))


@pytest.mark.parametrize(("design", "channels"), [("compact", 3), ("compact_rgbd", 8)])
@torch.no_grad()
def test_features_are_those_of_the_crop_that_was_seen(design, channels):
    torch.manual_seed(0)
    network = build_network(design).eval()
    crops = torch.rand(2, channels, 96, 96)
    crops[:, 3::4] = crops[:, 3::4].sub(0.5).sign()
    kept = FeatureCache(network, CPU).batch([sample(crop) for crop in quantise_crops(crops)])
    expected = network.features(crops)
    error = (kept.features.pooled - expected.pooled).abs().max()
    assert error < 0.01 * expected.pooled.abs().max()
    if channels == 8:
        blind = crops.clone()
        blind[:, 3:] = 0
        assert (network.features(blind).pooled - expected.pooled).abs().max() > 5 * error
