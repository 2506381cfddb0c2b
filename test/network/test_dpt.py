"""The DPT head's shortcuts against the plain order of operations, and its sizes."""

import pytest
import torch
from torch.nn import functional

from crisp_ros.network.dpt import DptHead, FusionBlock, ResidualUnit
from crisp_ros.network.features import BackboneFeatures


def _randomised(module: torch.nn.Module) -> torch.nn.Module:
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(std=0.3)
    return module


def _group_norm(x: torch.Tensor, norm: torch.nn.GroupNorm) -> torch.Tensor:
    """Normalise each quarter of the channels by its own mean and variance."""
    parts = []
    for part in x.chunk(4, dim=1):
        variance, mean = torch.var_mean(part, dim=(1, 2, 3), correction=0, keepdim=True)
        parts.append((part - mean) / (variance + 1e-5).sqrt())
    return torch.cat(parts, dim=1) * norm.weight[:, None, None] + norm.bias[:, None, None]


def test_a_residual_unit_normalises_quarters_of_the_channels() -> None:
    unit = _randomised(ResidualUnit(8))
    x = torch.randn(2, 8, 5, 5)
    y = _group_norm(unit.conv1(x.relu()), unit.norm1)
    expected = x + _group_norm(unit.conv2(y.relu()), unit.norm2)
    torch.testing.assert_close(unit(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("skip_size", [(4, 6), (5, 9)])
def test_a_fusion_block_doubles_then_projects(skip_size: tuple[int, int]) -> None:
    block = _randomised(FusionBlock(8, has_skip=True))
    x, skip = torch.randn(2, 8, 4, 6), torch.randn(2, 8, *skip_size)
    resized = functional.interpolate(skip, (4, 6), mode="bilinear", align_corners=False)
    fused = block.unit(x + block.skip_unit(resized))
    doubled = functional.interpolate(fused, (8, 12), mode="bilinear", align_corners=True)
    torch.testing.assert_close(block(x, skip), block.project(doubled), rtol=1e-4, atol=1e-4)


def test_the_deepest_fusion_block_has_no_skip() -> None:
    block = FusionBlock(8, has_skip=False)
    assert block.skip_unit is None
    assert block(torch.zeros(1, 8, 3, 3)).shape == (1, 8, 6, 6)
    with pytest.raises(ValueError, match="needs one"):
        FusionBlock(8, has_skip=True)(torch.zeros(1, 8, 3, 3))


@pytest.mark.parametrize("size", [40, 56])
def test_class_tokens_reach_every_pixel_and_the_size_is_free(size: int) -> None:
    head = _randomised(DptHead(token_channels=8, level_channels=(4, 8, 8, 16), fusion_channels=8))
    levels = tuple(torch.randn(2, 8, 4, 4) for _ in range(4))
    tokens = tuple(torch.randn(2, 8) for _ in range(4))
    pnc = head(BackboneFeatures(levels, tokens, torch.zeros(2, 1)), size)
    assert pnc.shape == (2, 3, size, size)
    for i in range(4):
        moved = tuple(t + (j == i) for j, t in enumerate(tokens))
        other = head(BackboneFeatures(levels, moved, torch.zeros(2, 1)), size)
        assert ((pnc - other).abs().amax(dim=1) > 0).float().mean() > 0.99
