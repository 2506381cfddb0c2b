"""Random views of stored crops: jittered, turned, recoloured, blurred, noisy, partly hidden."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class AugmentSettings:
    """Ranges of the random changes; `none()` keeps only the crop's nominal margin."""

    margin: float = 1.2  # side of the network's crop over the object's visible box
    scale: tuple[float, float] = (0.88, 1.18)
    shift: float = 0.06
    turn_deg: float = 10.0
    colour: float = 1.0
    blur_share: float = 0.4
    sharpen_share: float = 0.3
    noise_share: float = 0.7
    hide_share: float = 0.25
    mask_share: float = 0.0  # of crops whose mask ends short of the object and has holes
    depth_noise_m: float = 0.0  # of the depth that targets are made of, standard deviation

    @staticmethod
    def none() -> AugmentSettings:
        return AugmentSettings(1.2, (1.0, 1.0), 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


class TrainingBatch(NamedTuple):
    """crops (B, 3, S, S) RGB in [0, 1]; pnc (B, 3, S', S') metres; mask (B, S', S') bool."""

    crops: Tensor
    pnc: Tensor
    mask: Tensor


class Draws:
    """Random numbers for the crops of a batch, each crop's from a stream of its own.

    So a crop's view depends on its seed alone, whichever process makes it and beside which others.

    Args:
        seeds: one a crop.
        device: where the numbers are wanted.
    """

    def __init__(self, seeds: Sequence[int], device: torch.device | str = "cpu") -> None:
        self._streams = [torch.Generator().manual_seed(int(seed)) for seed in seeds]
        self._device = device

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """(B, *shape) numbers from low to high."""
        numbers = torch.stack([torch.rand(shape, generator=g) for g in self._streams])
        return (low + (high - low) * numbers).to(self._device)

    def normal(self, *shape: int) -> Tensor:
        """(B, *shape) standard normal numbers."""
        return torch.stack([torch.randn(shape, generator=g) for g in self._streams]).to(
            self._device
        )


def augmented(
    rgb: Tensor,
    pnc: Tensor,
    stored_margin: float,
    crop_px: int,
    pnc_px: int,
    settings: AugmentSettings,
    draws: Draws,
) -> TrainingBatch:
    """A random training view of stored crops.

    Args:
        rgb: (B, 3, s, s) uint8. pnc: (B, 3, s, s) float metres, NaN outside the object.
        stored_margin: side of the stored crop over the object's visible box.
        draws: the random numbers, for B crops.
    """
    count = rgb.shape[0]
    scale = settings.margin / stored_margin * draws.uniform(*settings.scale)
    angle = math.radians(settings.turn_deg) * draws.normal()
    shift = draws.uniform(-1.0, 1.0, 2) * settings.shift
    cosine, sine = scale * torch.cos(angle), scale * torch.sin(angle)
    affine = torch.stack(
        [
            torch.stack([cosine, -sine, shift[:, 0]], 1),
            torch.stack([sine, cosine, shift[:, 1]], 1),
        ],
        1,
    )
    at = F.affine_grid(affine, [count, 3, crop_px, crop_px], align_corners=False)
    crops = F.grid_sample(rgb.float().div_(255.0), at, padding_mode="border", align_corners=False)
    at = F.affine_grid(affine, [count, 3, pnc_px, pnc_px], align_corners=False)
    target = F.grid_sample(pnc, at, mode="nearest", align_corners=False)
    outside = (at.abs() > 1.0).any(-1)
    mask = ~(target[:, 0].isnan() | outside)
    if settings.depth_noise_m > 0.0:
        target = target + settings.depth_noise_m * draws.normal(3, pnc_px, pnc_px)
    target = torch.where(mask[:, None], target, 0.0)
    mask = _worn(mask, settings.mask_share, draws)
    crops, mask = _hidden(crops, mask, settings.hide_share, draws)
    crops = _recoloured(crops, settings.colour, draws)
    crops = _focused(crops, settings, draws)
    if settings.noise_share > 0.0:
        noisy = draws.uniform(0.0, 1.0, 1, 1, 1) < settings.noise_share
        strength = draws.uniform(0.0, 0.08, 1, 1, 1) * noisy
        fine = draws.normal(3, crop_px, crop_px)
        coarse = draws.normal(3, crop_px // 2, crop_px // 2)
        coarse = F.interpolate(coarse, (crop_px, crop_px), mode="bilinear", align_corners=False)
        crops = crops + strength * (0.5 * fine + coarse)
    return TrainingBatch(crops.clamp_(0.0, 1.0), target, mask)


def _recoloured(crops: Tensor, strength: float, draws: Draws) -> Tensor:
    if strength == 0.0:
        return crops
    grey = crops.mean(1, keepdim=True)
    saturation = 1.0 + strength * draws.uniform(-0.4, 0.7, 1, 1, 1)
    crops = grey + (crops - grey) * saturation
    tint = 1.0 + strength * draws.uniform(-0.15, 0.15, 3, 1, 1)
    contrast = torch.exp(strength * draws.uniform(-0.5, 0.8, 1, 1, 1))
    brightness = strength * draws.uniform(-0.2, 0.2, 1, 1, 1)
    pivot = crops.mean((1, 2, 3), keepdim=True)
    crops = ((crops - pivot) * contrast + pivot + brightness) * tint
    gamma = torch.exp(strength * draws.uniform(-0.35, 0.35, 1, 1, 1))
    return crops.clamp(1e-4, 1.0) ** gamma


def _focused(crops: Tensor, settings: AugmentSettings, draws: Draws) -> Tensor:
    """Blurs some crops and sharpens others, as lenses and cameras' own processing do."""
    if settings.blur_share == 0.0 and settings.sharpen_share == 0.0:
        return crops
    soft = F.avg_pool2d(F.pad(crops, (1, 1, 1, 1), mode="replicate"), 3, 1)
    draw = draws.uniform(0.0, 1.0, 1, 1, 1)
    amount = draws.uniform(0.2, 1.0, 1, 1, 1)
    blur = (draw < settings.blur_share) * amount
    sharpen = (draw > 1.0 - settings.sharpen_share) * amount * 1.2
    return (crops + (soft - crops) * (blur - sharpen)).clamp(0.0, 1.0)


def _worn(mask: Tensor, share: float, draws: Draws) -> Tensor:
    """Takes the border and random patches off some masks, as segmenters do."""
    if share == 0.0:
        return mask
    side = mask.shape[-1]
    holes = F.interpolate(draws.uniform(0.0, 1.0, 1, 8, 8), (side, side), mode="nearest")[:, 0]
    inner = -F.max_pool2d(-mask[:, None].float(), 3, 1, 1)[:, 0] > 0
    chosen = draws.uniform(0.0, 1.0, 1, 1) < share
    return torch.where(chosen, inner & (holes > 0.1), mask)


def _hidden(crops: Tensor, mask: Tensor, share: float, draws: Draws) -> tuple[Tensor, Tensor]:
    """Covers a random rectangle of some crops with one colour; its pixels are not learned."""
    if share == 0.0:
        return crops, mask
    centre = draws.uniform(-1.0, 1.0, 2, 1)
    half = draws.uniform(0.1, 0.4, 2, 1)
    colour = draws.uniform(0.0, 1.0, 3, 1, 1)
    chosen = draws.uniform(0.0, 1.0, 1, 1) < share

    def covered(side: int) -> Tensor:
        position = (torch.arange(side, device=crops.device) + 0.5) * 2.0 / side - 1.0
        inside = (position - centre).abs() < half
        return chosen & inside[:, 1, :, None] & inside[:, 0, None, :]

    crops = torch.where(covered(crops.shape[-1])[:, None], colour, crops)
    return crops, mask & ~covered(mask.shape[-1])
