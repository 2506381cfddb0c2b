"""A small class-agnostic network: foreground, offsets to object centres, borders of objects."""

from __future__ import annotations

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

INPUT_CHANNELS = 8  # colour 3, optical-frame coordinates 3, height above the support, measured
OFFSET_PX = 32.0  # pixels of the output, unit of the offsets
_WIDTHS = (32, 48, 96, 160, 192)
_DECODER = 64
_FINE = 24


class SegmenterMaps(NamedTuple):
    """Output of the network, at half the size of its input.

    Attributes:
        foreground: (B, h, w) logit that the pixel belongs to an object.
        offset: (B, 2, h, w) columns and rows to the centre of its visible part, in `OFFSET_PX`.
        border: (B, h, w) logit that another object is next to the pixel.
    """

    foreground: Tensor
    offset: Tensor
    border: Tensor


class SegmenterNetwork(nn.Module):
    """Convolutional encoder and a pyramid decoder for images whose sides are multiples of 32."""

    def __init__(self) -> None:
        super().__init__()
        inputs = (INPUT_CHANNELS, *_WIDTHS)
        blocks = (0, 1, 2, 2, 2)
        self.stages = nn.ModuleList(
            nn.Sequential(
                _convolution(inputs[i], width, stride=2), *(_Residual(width) for _ in range(count))
            )
            for i, (width, count) in enumerate(zip(_WIDTHS, blocks, strict=True))
        )
        self.laterals = nn.ModuleList(nn.Conv2d(width, _DECODER, 1) for width in _WIDTHS[1:])
        self.merges = nn.ModuleList(_convolution(_DECODER, _DECODER) for _ in _WIDTHS[2:])
        self.reduce = nn.Conv2d(_DECODER, _FINE, 1)
        self.fine = nn.Conv2d(_WIDTHS[0], _FINE, 1)
        self.last = nn.Sequential(nn.ReLU(), _convolution(_FINE, _FINE), nn.Conv2d(_FINE, 4, 1))

    def forward(self, inputs: Tensor) -> SegmenterMaps:
        """Predict maps from inputs (B, 8, H, W), see `network_input`."""
        features, x = [], inputs
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        x = self.laterals[-1](features[-1])
        coarse = zip(self.laterals[:-1], features[1:-1], self.merges, strict=True)
        for lateral, feature, merge in reversed(list(coarse)):
            x = merge(F.relu(_enlarged(x, feature) + lateral(feature)))
        x = self.fine(features[0]) + _enlarged(self.reduce(x), features[0])
        maps = self.last(x).float()
        return SegmenterMaps(maps[:, 0], maps[:, 1:3], maps[:, 3])


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _convolution(width, width),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.body(x))


def _convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


def _enlarged(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, size=like.shape[2:], mode="bilinear", align_corners=False)
