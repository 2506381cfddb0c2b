"""Fits the decoder to many shapes whose codes are a linear function of a few numbers each.

The code of shape k is h_k = h_0 + z_k W, with z_k (D,) under a standard normal prior. All shapes
share W, so a batch of some of them teaches the codes of all, and the codes are exactly what a
principal component analysis with D components would keep.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from crisp_ros.network.decoder import ShapeDecoder
from crisp_ros.validation import at_least

from .losses import SdfLossWeights, sdf_loss
from .saved_state import save_state
from .sdf_samples import SdfSamples, draw_shuffled, keep_hardest
from .shape_codes import neutral_codes
from .training_settings import rising_cosine

_BASIS_SCALE = 0.02  # of the first W: codes begin close to one another, as `neutral_codes`' do
_LATENT_SCALE = 0.3  # of the first z


@dataclass(frozen=True)
class ShapeLatentSettings:
    """Settings of the fit of decoder, W and latents.

    Attributes:
        dimensions: D.
        prior_dimensions: principal components of the codes that the model file's prior keeps; None
            for all D.
        steps: of Adam.
        batch: shapes in a step.
        surface_points: on the surface, of each of them.
        near_points: near the surface.
        volume_points: in the cube around the shape.
        candidates: half of the points are the worst of so many times as many; see
            `ShapeCodeSettings`.
        learning_rate: of the decoder and W, at the beginning.
        latent_rate: of the latents.
        prior: weight of the mean of z^2.
        save_every: steps between two states from which a stopped fit goes on.
        weights: of the losses.
    """

    dimensions: int = 64
    prior_dimensions: int | None = None
    steps: int = 12_000
    batch: int = 32
    surface_points: int = 96
    near_points: int = 96
    volume_points: int = 32
    candidates: int = 2
    learning_rate: float = 2e-3
    latent_rate: float = 1e-2
    prior: float = 0.02
    save_every: int = 200
    weights: SdfLossWeights = SdfLossWeights(off_surface=0.0, eikonal_stride=8)

    def __post_init__(self) -> None:
        at_least(self, 1, "dimensions", "steps", "batch", "candidates", "save_every")
        at_least(self, 1, "surface_points", "near_points", "volume_points")
        at_least(self, 0, "learning_rate", "latent_rate", "prior")
        if self.prior_dimensions is not None and not 1 <= self.prior_dimensions <= self.dimensions:
            raise ValueError(
                f"prior_dimensions is {self.prior_dimensions}: expected 1 to {self.dimensions}"
            )


def fit_shape_latents(
    decoder: ShapeDecoder,
    samples: SdfSamples,
    settings: ShapeLatentSettings,
    state: Path,
    seed: int = 0,
    on_step: Callable[[int, float], None] = lambda step, loss: None,
) -> Tensor:
    """Fit decoder, W and latents, going on from the file `state` if it is there.

    Args:
        decoder: changed in place.
        samples: of K shapes.
        settings: see `ShapeLatentSettings`.
        state: file that is written every `save_every` steps and at the end.
        seed: of the first values and batches.
        on_step: called with the number of steps done and the mean loss of late, metres.

    Returns:
        The codes (K, C), which span D dimensions: `ShapePrior.of_codes` makes a prior of them.
    """
    fit = _Fit(decoder, samples, settings, seed)
    if state.exists():
        fit.load(torch.load(state, map_location=samples.points.device, weights_only=True))
    while fit.step < settings.steps:
        fit.advance()
        if fit.step % settings.save_every == 0 or fit.step == settings.steps:
            save_state(fit.state(), state)
            on_step(fit.step, fit.error_m)
    return fit.codes(torch.arange(len(samples.points), device=samples.points.device)).detach()


class _Fit:
    """Decoder, W, latents and their optimiser."""

    def __init__(
        self, decoder: ShapeDecoder, samples: SdfSamples, settings: ShapeLatentSettings, seed: int
    ) -> None:
        self.decoder, self.samples, self.settings, self.seed = decoder, samples, settings, seed
        device, count = samples.points.device, len(samples.points)
        stream = torch.Generator().manual_seed(seed)
        shape = (settings.dimensions, decoder.code_dim)
        basis = _BASIS_SCALE * torch.randn(shape, generator=stream)
        latents = _LATENT_SCALE * torch.randn((count, settings.dimensions), generator=stream)
        self.offset = neutral_codes(decoder, 1, 0.0, seed)[0].to(device).requires_grad_()
        self.basis = basis.to(device).requires_grad_()
        self.latents = latents.to(device).requires_grad_()
        self._shared = [*decoder.parameters(), self.offset, self.basis]
        self.optimiser = torch.optim.Adam(
            [
                {"params": self._shared, "lr": settings.learning_rate},
                {"params": [self.latents], "lr": settings.latent_rate},
            ],
            betas=(0.9, 0.99),
        )
        self.step, self.error_m = 0, float("nan")

    def state(self) -> dict:
        """All that `load` needs."""
        return {
            "decoder": self.decoder.state_dict(),
            "shared": [self.offset.detach(), self.basis.detach(), self.latents.detach()],
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "error_m": self.error_m,
        }

    def load(self, state: dict) -> None:
        """Go on where `state` was taken."""
        self.decoder.load_state_dict(state["decoder"])
        with torch.no_grad():
            for mine, saved in zip(
                (self.offset, self.basis, self.latents), state["shared"], strict=True
            ):
                mine.copy_(saved)
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.error_m = state["step"], state["error_m"]

    def codes(self, shapes: Tensor) -> Tensor:
        """Codes (B, C) of shapes (B,)."""
        return self.offset + self.latents[shapes] @ self.basis

    def advance(self) -> None:
        """Take one step of Adam on a batch of shapes."""
        settings = self.settings
        share = rising_cosine(self.step, self.settings.steps)
        for group, rate in zip(
            self.optimiser.param_groups,
            (settings.learning_rate, settings.latent_rate),
            strict=True,
        ):
            group["lr"] = rate * share
        shapes = self._batch()
        codes = self.codes(shapes)
        points, distances = self._points(shapes, codes)
        loss = sdf_loss(self.decoder, codes, points, distances, settings.weights)
        loss = loss + settings.prior * self.latents[shapes].square().mean()
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_([*self._shared, self.latents], 50.0)
        self.optimiser.step()
        self.step += 1
        error = loss.item() / settings.weights.distance
        self.error_m = error if self.step == 1 else 0.98 * self.error_m + 0.02 * error

    def _batch(self) -> Tensor:
        """Shapes (B,) of this step: all of them take their places in an order drawn by epoch."""
        count, batch = len(self.samples.points), min(self.settings.batch, len(self.samples.points))
        per_epoch = count // batch
        epoch, place = divmod(self.step, per_epoch)
        order = np.random.default_rng([self.seed, epoch]).permutation(count)
        chosen = torch.from_numpy(order[place * batch : (place + 1) * batch])
        return chosen.to(self.samples.points.device)

    def _points(self, shapes: Tensor, codes: Tensor) -> SdfSamples:
        """Points of shapes and their distances, half of them the worst."""
        settings = self.settings
        stream = torch.Generator().manual_seed(self.seed * 1_000_003 + self.step)
        sizes = (settings.surface_points, settings.near_points, settings.volume_points)
        counts = tuple(size * settings.candidates for size in sizes)
        drawn = draw_shuffled(self.samples, shapes, counts, stream)
        return keep_hardest(self.decoder, codes, drawn, settings.candidates)
