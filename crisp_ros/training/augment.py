"""Random views of stored crops: jittered, rotated, recoloured, blurred, noisy, partly hidden."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .augment_geometry import CropGeometry, GeometryAugmentSettings, geometry_view
from .draws import Draws


@dataclass(frozen=True)
class AugmentSettings:
    """Ranges of the random changes; `none()` keeps only the crop's nominal margin.

    Attributes:
        margin: side of the network's crop over the object's visible box.
        scale: range of the factor on the crop's side.
        shift: of the crop's centre, at most, over half its side.
        rotation_deg: standard deviation of the rotation in the image.
        colour: strength of the changes of colour; 0 for none.
        blur_share: of crops that are blurred.
        sharpen_share: of crops that are sharpened.
        noise_share: of crops with noise.
        hide_share: of crops with a part hidden.
        mask_share: of crops whose targets end short of the object and have holes.
        depth_noise_m: standard deviation of the depth that targets are made of.
        shade_share: of crops with uneven light, as soft shadows and lamps give.
        geometry: faults of masks and depth, for networks that see them.
    """

    margin: float = 1.2
    scale: tuple[float, float] = (0.88, 1.18)
    shift: float = 0.06
    rotation_deg: float = 10.0
    colour: float = 1.0
    blur_share: float = 0.4
    sharpen_share: float = 0.3
    noise_share: float = 0.7
    hide_share: float = 0.25
    mask_share: float = 0.0
    depth_noise_m: float = 0.0
    shade_share: float = 0.0
    geometry: GeometryAugmentSettings = field(default_factory=GeometryAugmentSettings)

    @staticmethod
    def none() -> AugmentSettings:
        """Settings that only cut out the crop's nominal margin."""
        nothing = GeometryAugmentSettings.none()
        return AugmentSettings(1.2, (1.0, 1.0), 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, geometry=nothing)


class StoredViews(NamedTuple):
    """Stored crops as tensors.

    Attributes:
        rgb: (B, 3, s, s) uint8.
        pnc: (B, 3, s, s) float metres, NaN outside the object.
        margin: side of the crop over the object's visible box.
        geometry: of crops that were stored with depth; None where a network sees colour alone.
    """

    rgb: Tensor
    pnc: Tensor
    margin: float
    geometry: CropGeometry | None = None


class TrainingBatch(NamedTuple):
    """A batch of training views.

    Attributes:
        crops: (B, 3, S, S) RGB in [0, 1], or (B, 8, S, S) with `geometry_channels` after them.
        pnc: (B, 3, S', S') metres.
        mask: (B, S', S') bool, where `pnc` is that of the object.
    """

    crops: Tensor
    pnc: Tensor
    mask: Tensor


def augmented(
    stored: StoredViews, crop_px: int, pnc_px: int, settings: AugmentSettings, draws: Draws
) -> TrainingBatch:
    """A random training view of stored crops.

    Args:
        stored: B stored crops.
        crop_px: S, side of the view.
        pnc_px: S', side of its targets.
        settings: ranges of the changes.
        draws: the random numbers, for B crops.
    """
    rgb, pnc = stored.rgb, stored.pnc
    count = rgb.shape[0]
    scale = settings.margin / stored.margin * draws.uniform(*settings.scale)
    angle = math.radians(settings.rotation_deg) * draws.normal()
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
    grid = at
    at = F.affine_grid(affine, [count, 3, pnc_px, pnc_px], align_corners=False)
    target = F.grid_sample(pnc, at, mode="nearest", align_corners=False)
    outside = (at.abs() > 1.0).any(-1)
    mask = ~(target[:, 0].isnan() | outside)
    if settings.depth_noise_m > 0.0:
        target = target + settings.depth_noise_m * draws.normal(3, pnc_px, pnc_px)
    target = torch.where(mask[:, None], target, 0.0)
    mask = _worn(mask, settings.mask_share, draws)
    covers = _Covers.drawn(settings.hide_share, draws, count, crops.device)
    crops = torch.where(covers.over(crop_px)[:, None], covers.colour, crops)
    mask = mask & ~covers.over(pnc_px)
    crops = _shaded(crops, settings.shade_share, draws)
    crops = _recoloured(crops, settings.colour, draws)
    crops = _focused(crops, settings, draws)
    if settings.noise_share > 0.0:
        noisy = draws.uniform(0.0, 1.0, 1, 1, 1) < settings.noise_share
        strength = draws.uniform(0.0, 0.08, 1, 1, 1) * noisy
        fine = draws.normal(3, crop_px, crop_px)
        coarse = draws.normal(3, crop_px // 2, crop_px // 2)
        coarse = F.interpolate(coarse, (crop_px, crop_px), mode="bilinear", align_corners=False)
        crops = crops + strength * (0.5 * fine + coarse)
    crops = crops.clamp_(0.0, 1.0)
    if stored.geometry is not None:
        covered = covers.over(crop_px)
        seen = geometry_view(stored.geometry, grid, covered, angle, settings.geometry, draws)
        crops = torch.cat([crops, seen], dim=1)
    return TrainingBatch(crops, target, mask)


def _shaded(crops: Tensor, share: float, draws: Draws) -> Tensor:
    """Brighten and darken parts of some crops, as soft shadows and near lamps do."""
    if share == 0.0:
        return crops
    field = F.interpolate(
        draws.normal(1, 4, 4), crops.shape[-2:], mode="bicubic", align_corners=False
    )
    strength = draws.uniform(0.0, 0.5, 1, 1, 1) * (draws.uniform(0.0, 1.0, 1, 1, 1) < share)
    return (crops * torch.exp(strength * field)).clamp(0.0, 1.0)


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
    """Blur some crops and sharpen others, as lenses and cameras' own processing do."""
    if settings.blur_share == 0.0 and settings.sharpen_share == 0.0:
        return crops
    soft = F.avg_pool2d(F.pad(crops, (1, 1, 1, 1), mode="replicate"), 3, 1)
    draw = draws.uniform(0.0, 1.0, 1, 1, 1)
    amount = draws.uniform(0.2, 1.0, 1, 1, 1)
    blur = (draw < settings.blur_share) * amount
    sharpen = (draw > 1.0 - settings.sharpen_share) * amount * 1.2
    return (crops + (soft - crops) * (blur - sharpen)).clamp(0.0, 1.0)


def _worn(mask: Tensor, share: float, draws: Draws) -> Tensor:
    """Take the border and random patches off some masks, as segmenters do."""
    if share == 0.0:
        return mask
    side = mask.shape[-1]
    holes = F.interpolate(draws.uniform(0.0, 1.0, 1, 8, 8), (side, side), mode="nearest")[:, 0]
    inner = -F.max_pool2d(-mask[:, None].float(), 3, 1, 1)[:, 0] > 0
    chosen = draws.uniform(0.0, 1.0, 1, 1) < share
    return torch.where(chosen, inner & (holes > 0.1), mask)


class _Covers(NamedTuple):
    """Rectangles of one colour that hide parts of some crops.

    Attributes:
        chosen: (B, 1, 1) bool, whose crops have one.
        centre: (B, 2, 1), x and y; the crop's edges are at -1 and 1.
        half: (B, 2, 1), half its sides.
        colour: (B, 3, 1, 1).
    """

    chosen: Tensor
    centre: Tensor
    half: Tensor
    colour: Tensor

    @classmethod
    def drawn(cls, share: float, draws: Draws, count: int, device: torch.device) -> _Covers:
        if share == 0.0:
            nothing = torch.zeros(count, 1, 1, dtype=torch.bool, device=device)
            zeros = torch.zeros(count, 3, 1, device=device)
            return cls(nothing, zeros[:, :2], zeros[:, :2], zeros[..., None])
        centre = draws.uniform(-1.0, 1.0, 2, 1)
        half = draws.uniform(0.1, 0.4, 2, 1)
        colour = draws.uniform(0.0, 1.0, 3, 1, 1)
        return cls(draws.uniform(0.0, 1.0, 1, 1) < share, centre, half, colour)

    def over(self, side: int) -> Tensor:
        """The covered pixels (B, side, side)."""
        position = (torch.arange(side, device=self.half.device) + 0.5) * 2.0 / side - 1.0
        inside = (position - self.centre).abs() < self.half
        return self.chosen & inside[:, 1, :, None] & inside[:, 0, None, :]
