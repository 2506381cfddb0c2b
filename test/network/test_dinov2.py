"""The DINOv2 backbone: position embedding against naive interpolation, levels, refused sizes."""

import math

import pytest
import torch

from crisp_ros.network.dinov2 import DinoV2


@pytest.fixture(scope="module")
def backbone() -> DinoV2:
    torch.manual_seed(0)
    return DinoV2().eval()


def _cubic_weight(distance: float) -> float:
    """Keys' kernel with a = -0.75, PyTorch's choice."""
    a, d = -0.75, abs(distance)
    if d <= 1:
        return (a + 2) * d**3 - (a + 3) * d**2 + 1
    if d < 2:
        return a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a
    return 0.0


def _interpolation(grid: int) -> torch.Tensor:
    """Matrix (grid, 37) that resamples one axis, sample positions scaled by (grid + 0.1) / 37."""
    matrix = torch.zeros(grid, 37, dtype=torch.float64)
    for i in range(grid):
        position = (i + 0.5) * 37 / (grid + 0.1) - 0.5
        for j in range(math.floor(position) - 1, math.floor(position) + 3):
            matrix[i, min(max(j, 0), 36)] += _cubic_weight(position - j)
    return matrix


@pytest.mark.parametrize("grid", [16, 30])
def test_position_embedding_is_resampled_with_published_offset(backbone: DinoV2, grid: int) -> None:
    trained = backbone.pos_embed[0, 1:].detach().double().reshape(37, 37, 384)
    rows = _interpolation(grid)
    expected = torch.einsum("ir,jc,rck->ijk", rows, rows, trained).reshape(grid**2, 384)
    resized = backbone._position_embedding((grid, grid))[0].detach()
    torch.testing.assert_close(resized[1:].double(), expected, rtol=0, atol=1e-6)
    assert torch.equal(resized[0], backbone.pos_embed[0, 0])


def test_at_the_trained_size_it_is_untouched(backbone: DinoV2) -> None:
    assert backbone._position_embedding((37, 37)) is backbone.pos_embed


def test_levels_are_maps_of_the_patches(backbone: DinoV2) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn((2, 3, 28, 42), generator=generator)
    with torch.no_grad():
        features = backbone(images)
    assert [level.shape for level in features.levels] == [(2, 384, 2, 3)] * 4
    tokens = torch.cat([*features.class_tokens, features.levels[3].mean(dim=(2, 3))], dim=1)
    torch.testing.assert_close(features.pooled, tokens)
    assert features.pooled.shape == (2, backbone.pooled_features)


def test_a_patch_keeps_its_place(backbone: DinoV2) -> None:
    """A change in one patch shows most in the token of that patch."""
    images = torch.zeros(1, 3, 42, 56)
    changed = images.clone()
    changed[..., 28:, 14:28] = 3.0  # patch row 2, column 1
    with torch.no_grad():
        change = backbone(changed).levels[0] - backbone(images).levels[0]
    assert change.norm(dim=1).flatten().argmax() == 2 * 4 + 1


@pytest.mark.parametrize("shape", [(100, 112), (112, 100)])
def test_sides_that_are_no_multiple_of_a_patch(backbone: DinoV2, shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=f"multiples of 14 px, got {shape[1]} x {shape[0]} px"):
        backbone(torch.zeros(1, 3, *shape))
