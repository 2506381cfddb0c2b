"""The DPT PNC head: transformer tokens are reassembled into feature maps, fused, and decoded."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from crisp_ros.network.features import BackboneFeatures

_GROUPS = 4  # of every GroupNorm in the head (paper, appendix B)


class ResidualUnit(nn.Module):
    """x + norm(conv(relu(norm(conv(relu(x)))))) with 3 x 3 convolutions and GroupNorm."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm1 = nn.GroupNorm(_GROUPS, channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = nn.GroupNorm(_GROUPS, channels)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(self.conv1(functional.relu(x)))
        return x + self.norm2(self.conv2(functional.relu(y)))


class FusionBlock(nn.Module):
    """Add a finer level to the running map, refine it and double its resolution."""

    def __init__(self, channels: int, has_skip: bool) -> None:
        super().__init__()
        self.skip_unit = ResidualUnit(channels) if has_skip else None
        self.unit = ResidualUnit(channels)
        self.project = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor, skip: Tensor | None = None) -> Tensor:
        """Fused map (B, C, 2H, 2W) of x (B, C, H, W) and an optional skip map (B, C, any, any)."""
        if self.skip_unit is not None:
            if skip is None:
                raise ValueError("this fusion block was built with a skip input and needs one")
            x = x + self.skip_unit(_resized(skip, x.shape[-2:], align_corners=False))
        x = self.unit(x)
        # A 1 x 1 convolution commutes with interpolation; before it, it costs a quarter.
        doubled = (2 * x.shape[-2], 2 * x.shape[-1])
        return _resized(self.project(x), doubled, align_corners=True)


class DptHead(nn.Module):
    """PNC maps from the patch and class tokens of four transformer levels.

    Args:
        token_channels: channels of a token.
        level_channels: channels of the four maps after reassembly, the earliest level first.
        fusion_channels: channels of the fusion blocks, a multiple of 8.
    """

    def __init__(
        self,
        token_channels: int = 384,
        level_channels: Sequence[int] = (48, 96, 192, 384),
        fusion_channels: int = 256,
    ) -> None:
        super().__init__()
        # Relative to the patch grid the levels become four, two, one and half times as fine.
        resizes: list[nn.Module] = [
            nn.ConvTranspose2d(level_channels[0], level_channels[0], 4, stride=4),
            nn.ConvTranspose2d(level_channels[1], level_channels[1], 2, stride=2),
            nn.Identity(),
            nn.Conv2d(level_channels[3], level_channels[3], 3, stride=2, padding=1),
        ]
        self.reassemble = nn.ModuleList(
            _Reassemble(token_channels, channels, fusion_channels, resize)
            for channels, resize in zip(level_channels, resizes, strict=True)
        )
        # Deepest level first; it has nothing to be added to.
        self.fusion = nn.ModuleList(
            FusionBlock(fusion_channels, has_skip=i > 0) for i in range(len(level_channels))
        )
        self.project = nn.Conv2d(fusion_channels, fusion_channels, 3, padding=1)
        self.output = _PncOutput(fusion_channels)

    def forward(self, features: BackboneFeatures, size: int) -> Tensor:
        """PNC maps (B, 3, size, size), metres, object frame."""
        maps = [
            reassemble(level, token)
            for reassemble, level, token in zip(
                self.reassemble, features.levels, features.class_tokens, strict=True
            )
        ]
        fused = self.fusion[0](maps[-1])
        for block, skip in zip(self.fusion[1:], reversed(maps[:-1]), strict=True):
            fused = block(fused, skip)
        return self.output(self.project(fused), size)


class _Reassemble(nn.Module):
    """Merge a level's class token into its patches and resample them to the level's resolution."""

    def __init__(
        self, token_channels: int, channels: int, fusion_channels: int, resize: nn.Module
    ) -> None:
        super().__init__()
        self.readout = nn.Linear(2 * token_channels, token_channels)
        self.project = nn.Conv2d(token_channels, channels, 1, bias=False)
        self.resize = resize
        self.widen = nn.Conv2d(channels, fusion_channels, 3, padding=1, bias=False)

    def forward(self, patches: Tensor, class_token: Tensor) -> Tensor:
        """Feature map (B, fusion_channels, rows, columns) of one level."""
        # The readout of [patch, class] split in two, so that the class half runs once an image.
        of_patch, of_class = self.readout.weight.chunk(2, dim=1)
        shift = functional.linear(class_token, of_class, self.readout.bias)
        mixed = functional.conv2d(patches, of_patch[..., None, None]) + shift[..., None, None]
        return self.widen(self.resize(self.project(functional.gelu(mixed))))


class _PncOutput(nn.Module):
    """Three convolutions to the object coordinates, at the output's own resolution."""

    def __init__(self, channels: int, middle: tuple[int, int] = (128, 32)) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, middle[0], 3, padding=1)
        self.norm = nn.GroupNorm(_GROUPS, middle[0])
        self.conv2 = nn.Conv2d(middle[0], middle[1], 3, padding=1)
        self.conv3 = nn.Conv2d(middle[1], 3, 1)

    def forward(self, x: Tensor, size: int) -> Tensor:
        # The published head has no ReLU after its first convolution.
        x = self.norm(_resized(self.conv1(x), torch.Size((size, size)), align_corners=True))
        x = functional.relu(self.conv2(x))
        with torch.autocast(x.device.type, enabled=False):  # bfloat16 would round to millimetres
            return self.conv3(x.float())


def _resized(x: Tensor, size: Sequence[int], align_corners: bool) -> Tensor:
    """A map (B, C, H, W) resampled bilinearly to `size`; unchanged when it has it already."""
    if tuple(x.shape[-2:]) == tuple(size):
        return x
    return functional.interpolate(x, list(size), mode="bilinear", align_corners=align_corners)
