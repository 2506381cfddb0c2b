"""Fits the shape decoder and one code a shape to signed distances (an auto-decoder)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from crisp_ros.network.decoder import ShapeDecoder
from crisp_ros.validation import at_least

from .losses import SdfLossWeights, sdf_loss
from .sdf_samples import SdfSamples, draw_shuffled, keep_hardest


@dataclass(frozen=True)
class ShapeCodeSettings:
    """Settings of the fit of decoder and codes; sections of the batch follow `SdfSamples`.

    Thin walls are lost early: a bowl is first learned as a solid, and few points disagree. So half
    of each batch are the worst of `candidates` times as many points.

    Attributes:
        steps: of Adam.
        surface_points: on the surface, of each shape in a step.
        near_points: near the surface.
        volume_points: in the cube around the shape.
        candidates: see above.
        learning_rate: at the beginning.
        code_noise: standard deviation of the first codes.
        weights: of the losses.
    """

    steps: int = 5000
    surface_points: int = 128
    near_points: int = 128
    volume_points: int = 64
    candidates: int = 4
    learning_rate: float = 2e-3
    code_noise: float = 0.02
    weights: SdfLossWeights = SdfLossWeights(off_surface=0.0, eikonal_stride=5)

    def __post_init__(self) -> None:
        counts = ("steps", "surface_points", "near_points", "volume_points", "candidates")
        at_least(self, 1, *counts)
        at_least(self, 0, "learning_rate")


def neutral_codes(decoder: ShapeDecoder, count: int, noise: float, seed: int) -> Tensor:
    """Codes (count, code_dim) that leave the decoder unmodulated, up to a little noise."""
    scale_shift = torch.zeros(count, len(decoder.film_layers), 2, decoder.hidden)
    scale_shift[:, :, 0] = 1.0
    generator = torch.Generator().manual_seed(seed)
    codes = scale_shift.flatten(1)
    return codes + noise * torch.randn(codes.shape, generator=generator)


def fit_shape_codes(
    decoder: ShapeDecoder,
    codes: Tensor,
    samples: SdfSamples,
    settings: ShapeCodeSettings,
    seed: int = 0,
    train: Literal["both", "codes", "decoder"] = "both",
    report: Callable[[int, float], None] | None = None,
) -> Tensor:
    """Minimise the SDF loss over codes (K, C), the decoder, or both.

    Args:
        decoder: changed in place unless only codes are trained.
        report: called with (step, loss) every 100 steps.

    Returns:
        The fitted codes (K, C).
    """
    codes = codes.clone().requires_grad_(train != "decoder")
    parameters = [] if train == "codes" else list(decoder.parameters())
    parameters += [] if train == "decoder" else [codes]
    optimiser = torch.optim.Adam(parameters, lr=settings.learning_rate)
    rising = min(1.0, max(0.05, 2.0 / settings.steps))
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, settings.learning_rate, total_steps=settings.steps, pct_start=rising
    )
    stream = torch.Generator().manual_seed(seed)
    shapes = torch.arange(len(samples.points), device=samples.points.device)
    sizes = (settings.surface_points, settings.near_points, settings.volume_points)
    counts = tuple(size * settings.candidates for size in sizes)
    for step in range(settings.steps):
        drawn = draw_shuffled(samples, shapes, counts, stream)
        points, distances = keep_hardest(decoder, codes, drawn, settings.candidates)
        loss = sdf_loss(decoder, codes, points, distances, settings.weights)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 50.0)
        optimiser.step()
        schedule.step()
        if report is not None and step % 100 == 0:
            report(step, loss.item())
    return codes.detach()
