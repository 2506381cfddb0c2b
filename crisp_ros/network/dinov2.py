"""The DINOv2 ViT-S/14 backbone: patch and class tokens of four of its twelve blocks."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from crisp_ros.network.features import BackboneFeatures

_LEVELS = (2, 5, 8, 11)  # the paper's layers 3, 6, 9, 12
_TRAINED_GRID = 37  # patches a side at the 518 px DINOv2 was trained with
_GRID_OFFSET = 0.1  # part of the published weights' interpolation; it shifts the sample positions


class DinoV2(nn.Module):
    """Vision transformer of 384 channels, 12 blocks and 6 heads on patches of 14 x 14 px.

    Parameter names follow the published weights.
    """

    patch = 14
    channels = 384
    heads = 6
    level_channels = (384,) * len(_LEVELS)
    pooled_features = 384 * (len(_LEVELS) + 1)

    def __init__(self) -> None:
        super().__init__()
        c = self.channels
        self.cls_token = nn.Parameter(torch.zeros(1, 1, c))
        self.pos_embed = nn.Parameter(torch.empty(1, 1 + _TRAINED_GRID**2, c))
        # Only DINOv2's own training uses it; it is kept because the published weights hold it.
        self.mask_token = nn.Parameter(torch.zeros(1, c))
        self.patch_embed = _PatchEmbedding(c, self.patch)
        self.blocks = nn.ModuleList(_Block(c, self.heads) for _ in range(12))
        self.norm = nn.LayerNorm(c, eps=1e-6)  # in the published weights; its output is not used
        nn.init.trunc_normal_(self.pos_embed, std=0.02)

    def forward(self, images: Tensor) -> BackboneFeatures:
        """Tokens of blocks 3, 6, 9 and 12 before the final normalisation.

        Args:
            images: (B, 3, H, W), normalised; H and W multiples of 14.

        Returns:
            Patch tokens as maps (B, 384, H/14, W/14); pooled is the four class tokens followed by
            the mean patch token of the last block, (B, 1920).

        Raises:
            ValueError: H or W is not a multiple of 14.
        """
        height, width = images.shape[-2:]
        if height % self.patch or width % self.patch:
            raise ValueError(
                f"the DINOv2 backbone needs crops whose sides are multiples of {self.patch} px, "
                f"got {width} x {height} px: change crop_size"
            )
        grid = (height // self.patch, width // self.patch)
        tokens = self.patch_embed(images)
        tokens = torch.cat([self.cls_token.expand(len(tokens), -1, -1), tokens], dim=1)
        tokens = tokens + self._position_embedding(grid)
        levels, class_tokens = [], []
        for i, block in enumerate(self.blocks):
            tokens = block(tokens)
            if i in _LEVELS:
                class_tokens.append(tokens[:, 0])
                levels.append(tokens[:, 1:].transpose(1, 2).unflatten(2, grid))
        pooled = torch.cat([*class_tokens, tokens[:, 1:].mean(dim=1)], dim=1)
        return BackboneFeatures(tuple(levels), tuple(class_tokens), pooled)

    def _position_embedding(self, grid: tuple[int, int]) -> Tensor:
        """Position embedding (1, 1 + rows * columns, 384) resized to a patch grid."""
        if grid == (_TRAINED_GRID, _TRAINED_GRID):
            return self.pos_embed
        trained = self.pos_embed[:, 1:].float().transpose(1, 2)
        resized = functional.interpolate(
            trained.unflatten(2, (_TRAINED_GRID, _TRAINED_GRID)),
            scale_factor=tuple((side + _GRID_OFFSET) / _TRAINED_GRID for side in grid),
            mode="bicubic",
        )
        patches = resized.flatten(2).transpose(1, 2).to(self.pos_embed.dtype)
        return torch.cat([self.pos_embed[:, :1], patches], dim=1)


class _PatchEmbedding(nn.Module):
    """Linear projection of non-overlapping patches to tokens (B, patches, channels)."""

    def __init__(self, channels: int, patch: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, channels, kernel_size=patch, stride=patch)

    def forward(self, images: Tensor) -> Tensor:
        return self.proj(images).flatten(2).transpose(1, 2)


class _Block(nn.Module):
    """Pre-norm transformer block with scaled residual branches."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels, eps=1e-6)
        self.attn = _Attention(channels, heads)
        self.ls1 = _LayerScale(channels)
        self.norm2 = nn.LayerNorm(channels, eps=1e-6)
        self.mlp = _Mlp(channels, 4 * channels)
        self.ls2 = _LayerScale(channels)

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.ls1(self.attn(self.norm1(tokens)))
        return tokens + self.ls2(self.mlp(self.norm2(tokens)))


class _Attention(nn.Module):
    """Multi-head self-attention with one projection for queries, keys and values."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)

    def forward(self, tokens: Tensor) -> Tensor:
        qkv = self.qkv(tokens).unflatten(-1, (3, self.heads, -1))  # (B, N, 3, heads, channels)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        return self.proj(mixed.transpose(1, 2).flatten(2))


class _LayerScale(nn.Module):
    """A learnt factor a channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(channels))

    def forward(self, tokens: Tensor) -> Tensor:
        return tokens * self.gamma


class _Mlp(nn.Module):
    """Two linear layers with an exact GELU between them."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, hidden)
        self.fc2 = nn.Linear(hidden, channels)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.fc2(functional.gelu(self.fc1(tokens)))
