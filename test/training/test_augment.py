import math

import torch

from crisp_ros.training.augment import AugmentSettings, StoredViews, augmented
from crisp_ros.training.draws import Draws


def stored(count: int = 2, side: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    """Crops whose PNC is their own position: x to the right, y down, z = 0, in a disc."""
    axis = (torch.arange(side) + 0.5) * 2 / side - 1
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    pnc = torch.stack([x, y, torch.zeros_like(x)]).expand(count, 3, side, side).clone()
    pnc = pnc.masked_fill((x**2 + y**2 > 0.5)[None, None], math.nan)
    rgb = ((torch.stack([x, y, x]) + 1) * 127.5).to(torch.uint8)
    return rgb.expand(count, 3, side, side), pnc


def run(settings: AugmentSettings, seed: int = 0):
    return augmented(StoredViews(*stored(), 1.5), 48, 24, settings, Draws([2 * seed, 2 * seed + 1]))


def test_without_changes_the_nominal_margin_is_cut_out():
    batch = run(AugmentSettings.none())
    edge = 1.2 / 1.5 * (1 - 1 / 48)
    assert torch.allclose(
        batch.crops[0, 0, 24, [0, -1]] * 2 - 1, torch.tensor([-edge, edge]), atol=0.02
    )
    assert batch.pnc[0, 0, 12, 12].item() == (batch.pnc[0, 1, 12, 12]).item()
    assert not batch.mask[0, 0, 0] and batch.mask[0, 12, 12]
    assert (batch.pnc[~batch.mask[:, None].expand_as(batch.pnc)] == 0).all()


def test_colour_and_pnc_are_moved_alike():
    settings = AugmentSettings(
        scale=(0.8, 1.1),
        shift=0.1,
        rotation_deg=30,
        colour=0,
        blur_share=0,
        sharpen_share=0,
        noise_share=0,
        hide_share=0,
    )
    batch = run(settings, seed=3)
    position = torch.nn.functional.avg_pool2d(batch.crops, 2)[:, :2] * 2 - 1
    error = (position - batch.pnc[:, :2]).abs().amax(1)[batch.mask]
    assert error.max() < 0.05
    plain = run(AugmentSettings.none())
    assert (batch.crops - plain.crops).abs().mean() > 0.02


def test_hidden_pixels_are_not_learned():
    settings = AugmentSettings(
        scale=(1, 1),
        shift=0,
        rotation_deg=0,
        colour=0,
        blur_share=0,
        sharpen_share=0,
        noise_share=0,
        hide_share=1.0,
    )
    plain, hidden = run(AugmentSettings.none()), run(settings)
    assert (hidden.mask <= plain.mask).all()
    changed = (hidden.crops - plain.crops).abs().amax(1) > 0.1
    changed = torch.nn.functional.max_pool2d(changed.float()[:, None], 2)[:, 0] > 0
    assert not (changed & hidden.mask)[..., 2:-2, 2:-2].float().mean() > 0.06
    assert hidden.mask.sum() < plain.mask.sum()


def test_a_seed_fixes_everything_and_values_stay_in_range():
    a, b, c = run(AugmentSettings(), 1), run(AugmentSettings(), 1), run(AugmentSettings(), 2)
    assert torch.equal(a.crops, b.crops) and torch.equal(a.mask, b.mask)
    assert not torch.equal(a.crops, c.crops)
    assert a.crops.min() >= 0 and a.crops.max() <= 1 and torch.isfinite(a.crops).all()
