"""A network of a few thousand weights, so that tests of everything around it stay fast."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from crisp_ros.network import model
from crisp_ros.network.features import BackboneFeatures


class _TinyBackbone(nn.Module):
    pooled_features = 16

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 4, stride=4)
        self.norm = nn.BatchNorm2d(16)

    def forward(self, images: Tensor) -> BackboneFeatures:
        level = self.norm(self.conv(images))
        return BackboneFeatures((level,), (), level.mean(dim=(2, 3)))


class _TinyHead(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.widen = nn.Conv2d(16, channels, 3, padding=1)
        self.narrow = nn.Conv2d(channels, 3, 1)

    def forward(self, features: BackboneFeatures, size: int) -> Tensor:
        return functional.interpolate(self.narrow(self.widen(features.levels[0])), (size, size))


@pytest.fixture(scope="session")
def tiny_network() -> Iterator[model.CrispNetwork]:
    """A network of the design "tiny", which exists while the fixture does."""
    design = model._Design(
        {
            "crop_size": 32,
            "pnc_stride": 2,
            "fusion_channels": 8,
            "shape_hidden": (24,),
            "decoder_hidden": 32,
            "decoder_layers": 2,
            "frozen_backbone": True,
        },
        lambda config: model._Parts(_TinyBackbone(), _TinyHead(config.fusion_channels)),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(model._DESIGNS, "tiny", design)
        torch.manual_seed(0)
        yield model.build_network("tiny")
