"""The small networks for CPUs: a shortened ResNet-50 without norm layers and a thin PNC head."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crisp_ros.network.features import BackboneFeatures
from crisp_ros.observation.crop_channels import GEOMETRY_CHANNELS

_STAGES = ((64, 256, 3), (128, 512, 4), (256, 1024, 5))  # (inner, outer, blocks); ImageNet's has 6
_PNC_SCALE_M = 0.1  # raw outputs of order one mean objects of order 10 cm


class _Bottleneck(nn.Module):
    """A ResNet bottleneck whose batch norms are folded into the convolutions' weights."""

    def __init__(self, channels: int, inner: int, outer: int, stride: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, inner, 1, stride)
        self.mix = nn.Conv2d(inner, inner, 3, padding=1)
        self.expand = nn.Conv2d(inner, outer, 1)
        self.shortcut = nn.Conv2d(channels, outer, 1, stride) if channels != outer else None

    def forward(self, x: Tensor) -> Tensor:
        skip = x if self.shortcut is None else self.shortcut(x)
        # In place: on a CPU the network spends a tenth of its time on memory for copies.
        y = self.mix(self.reduce(x).relu_()).relu_()
        return self.expand(y).add_(skip).relu_()


class ResNetTrunk(nn.Module):
    """ResNet-50 up to its third stage: feature maps at strides 2, 4, 8 and 16.

    The pooled vector is the mean of the last map, plain and weighted towards the crop's centre,
    where the object is.
    """

    channels = (64, 256, 512, 1024)
    pooled_features = 2 * channels[-1]

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, self.channels[0], 7, stride=2, padding=3)
        self.stages = _stages()

    def forward(self, images: Tensor) -> BackboneFeatures:
        """Features of normalised images (B, 3, S, S), S a multiple of 16."""
        with _float32(self, images):
            x = self.stem(images).relu_()
            levels = [x]
            x = self.stages[0](F.max_pool2d(x, 3, 2, 1))
        levels.append(x)
        for stage in self.stages[1:]:
            x = stage(x)
            levels.append(x)
        return BackboneFeatures(tuple(levels), (), _pooled(x))


class RgbdTrunk(nn.Module):
    """A `ResNetTrunk` whose second stage and later ones see mask and geometry as well.

    Two small convolutions make features of the geometry channels at strides 2 and 4, which are
    appended to the colour's. Stem and first stage see colour alone, so that they can stay as they
    were pretrained, and no gradient has to pass through them.
    """

    geometry_widths = (32, 64)
    channels = (64 + 32, 256 + 64, 512, 1024)
    pooled_features = 2 * channels[-1]

    def __init__(self) -> None:
        super().__init__()
        first, second = self.geometry_widths
        self.stem = nn.Conv2d(3, ResNetTrunk.channels[0], 7, stride=2, padding=3)
        self.geometry = nn.ModuleList(
            [
                nn.Conv2d(GEOMETRY_CHANNELS, first, 5, stride=2, padding=2),
                nn.Conv2d(first, second, 3, stride=2, padding=1),
            ]
        )
        self.stages = _stages(after_first=second)

    def forward(self, images: Tensor) -> BackboneFeatures:
        """Features of colour and geometry (B, 8, S, S), colour normalised, S a multiple of 16."""
        with _float32(self, images):
            x = self.stem(images[:, :3]).relu_()
            shape = self.geometry[0](images[:, 3:]).relu_()
            levels = [torch.cat([x, shape], dim=1)]
            x = self.stages[0](F.max_pool2d(x, 3, 2, 1))
            shape = self.geometry[1](shape).relu_()
            x = torch.cat([x, shape], dim=1)
        levels.append(x)
        for stage in self.stages[1:]:
            x = stage(x)
            levels.append(x)
        return BackboneFeatures(tuple(levels), (), _pooled(x))


class FusionHead(nn.Module):
    """Predict PNC from coarse to fine; every pixel is informed by the pooled vector."""

    def __init__(self, channels: tuple[int, ...], pooled: int, width: int) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(nn.Conv2d(c, width, 1) for c in channels)
        self.context = nn.Linear(pooled, width)
        self.refine = nn.ModuleList(_Residual(width) for _ in channels[1:])
        self.final = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, 3, 1)
        )

    def forward(self, features: BackboneFeatures, side: int) -> Tensor:
        """PNC maps (B, 3, side, side), metres."""
        x = self.laterals[-1](features.levels[-1]) + self.context(features.pooled)[:, :, None, None]
        x = self.refine[-1](x)
        for i in range(len(self.laterals) - 2, -1, -1):
            skip = self.laterals[i](features.levels[i])
            x = F.interpolate(x, skip.shape[-2:], mode="bilinear", align_corners=False) + skip
            if i > 0:
                x = self.refine[i - 1](x)
        with _float32(self, x):
            pnc = self.final(F.relu(x.float())).float() * _PNC_SCALE_M
        if pnc.shape[-1] != side:
            pnc = F.interpolate(pnc, (side, side), mode="bilinear", align_corners=False)
        return pnc


class _Residual(nn.Module):
    """Two convolutions that start as the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(F.relu(x)).relu_()).add_(x)


def _stages(after_first: int = 0) -> nn.ModuleList:
    """The trunk's stages; the second one takes this many channels more than the first one gives."""
    stages = nn.ModuleList()
    channels = ResNetTrunk.channels[0]
    for i, (inner, outer, blocks) in enumerate(_STAGES):
        stage = nn.Sequential()
        if i == 1:
            channels += after_first
        for block in range(blocks):
            stride = 2 if block == 0 and i > 0 else 1
            stage.append(_Bottleneck(channels, inner, outer, stride))
            channels = outer
        stages.append(stage)
    return stages


def _float32(module: nn.Module, like: Tensor) -> AbstractContextManager:
    """Single precision in evaluation, where all else runs in a lower one.

    The first layers' rounding errors reach all others, and the last layers' the coordinates: with
    both exact, the recording keeps all of its certificates.
    """
    if module.training:
        return nullcontext()
    return torch.autocast(like.device.type, enabled=False)


def _pooled(x: Tensor) -> Tensor:
    """Means (B, 2 C) of a map (B, C, H, W), plain and weighted towards its centre."""
    weights = _centre_weights(x.shape[-1], x)
    return torch.cat([x.mean((2, 3)), (x * weights).sum((2, 3))], dim=1)


def _centre_weights(side: int, like: Tensor) -> Tensor:
    position = torch.linspace(-1.0, 1.0, side, device=like.device, dtype=torch.float32)
    ring = torch.exp(-2.0 * (position[:, None] ** 2 + position[None, :] ** 2))
    return (ring / ring.sum()).to(like.dtype)
