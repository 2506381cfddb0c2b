"""Training steps of the heads: loss (13) on certified samples."""

from __future__ import annotations

import copy
import math
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from crisp_ros.adaptation.samples import PART, Batch
from crisp_ros.network.features import BackboneFeatures
from crisp_ros.network.maps import read_maps
from crisp_ros.network.model import CrispNetwork, NetworkOutput

Weights = Mapping[str, Tensor]
Result = TypeVar("Result")


@dataclass(frozen=True)
class LearnerSettings:
    """Settings of a step. The defaults are the paper's for YCBV; see also `RECIPES` and `COMPACT`.

    Attributes:
        pnc_rate: learning rate of the PNC head.
        shape_rate: learning rate of the shape head.
        weight_decay: of both heads.
        batch: number of samples per step.
        pnc_scale: factor of the PNC head's loss, the mean of ||Z - Z*||^2 over samples and points,
            square metres. The paper's sum over 1000 points corresponds to 1000.
        code_scale: factor of the shape head's loss, the mean of ||h - h*||^2 over samples.
        clamp_quantile: quantile of the batch at which squared residuals are clamped; 1 does not
            clamp. A certified can that is rotated about its axis has large residuals everywhere.
        averaging: share of the old weights in the running mean of the weights; 0 uses the latest
            weights only.
        largest_gradient: maximum norm of each head's gradient.
    """

    pnc_rate: float = 3e-4
    shape_rate: float = 4e-4
    weight_decay: float = 1e-5
    batch: int = 3
    pnc_scale: float = 1e3
    code_scale: float = 1.0
    clamp_quantile: float = 1.0
    averaging: float = 0.0
    largest_gradient: float = 1e4

    def __post_init__(self) -> None:
        shares = (self.clamp_quantile, 1.0 - self.averaging)
        if self.batch < 1 or not all(0 < share <= 1 for share in shares):
            raise ValueError(
                f"batch {self.batch}, clamp_quantile {self.clamp_quantile}, averaging "
                f"{self.averaging}: expected at least 1, a share in (0, 1] and one in [0, 1)"
            )
        numbers = (self.pnc_rate, self.shape_rate, self.pnc_scale, self.code_scale)
        if min(numbers) < 0 or self.weight_decay < 0 or self.largest_gradient <= 0:
            raise ValueError("learning rates, scales and weight decay: expected none below 0")


# For the compact network, see docs/self_training.md. Its PNC head predicts in units of 0.1 m: it
# learns too slowly at a scale of 1e3, diverges at 1e5, and gets worse at 1e4 unless the residuals
# of wrong samples are clamped.
COMPACT = LearnerSettings(
    batch=10, pnc_scale=1e4, code_scale=0.2, clamp_quantile=0.6, averaging=0.98
)


def learner_settings(design: str) -> LearnerSettings:
    """Return the settings for a network design."""
    return COMPACT if design in ("compact", "compact_rgbd") else LearnerSettings()


class Losses(NamedTuple):
    """Losses of a batch without their factors.

    Attributes:
        pnc_m2: mean of ||Z - Z*||^2, square metres.
        code: mean of ||h - h*||^2.
    """

    pnc_m2: float
    code: float


def run_all(parts: Generator[None, None, Result]) -> Result:
    """Run all parts of a computation and return its result."""
    while True:
        try:
            next(parts)
        except StopIteration as end:
            return end.value


class Learner:
    """Trains a copy of a network's heads."""

    def __init__(self, network: CrispNetwork, settings: LearnerSettings | None = None) -> None:
        """Copy the heads of a network, which is not changed."""
        self.settings = settings or LearnerSettings()
        self._side = network.crop_size // network.config.pnc_stride
        self.heads = nn.ModuleDict({"pnc_head": network.pnc_head, "shape_head": network.shape_head})
        self.heads = copy.deepcopy(self.heads).requires_grad_(True)
        self._mean = self._latest()
        decay = self.settings.weight_decay
        self._optimisers = [
            torch.optim.SGD(self.heads[name].parameters(), lr=rate, weight_decay=decay)
            for name, rate in (
                ("pnc_head", self.settings.pnc_rate),
                ("shape_head", self.settings.shape_rate),
            )
        ]

    def answer(self, features: BackboneFeatures) -> NetworkOutput:
        """Predict coordinates and codes from backbone features."""
        pnc = self.heads["pnc_head"](features, self._side)
        return NetworkOutput(pnc, self.heads["shape_head"](features.pooled))

    def step(self, batch: Batch) -> Losses:
        """Train for one step; the heads stay unchanged if a loss is not finite."""
        return run_all(self.step_in_parts(batch))

    def step_in_parts(self, batch: Batch) -> Generator[None, None, Losses]:
        """Train for one step in parts of a few samples; the heads change in the last part."""
        settings, total = self.settings, len(batch.codes)
        squares, codes = [], []
        for start in range(0, total, PART):
            part = batch.rows(start, start + PART)
            output = self.answer(part.features)
            squares.append((read_maps(output.pnc, part.grid) - part.z).square().sum(-1))
            codes.append((output.code - part.codes).square().sum(-1))
            yield
        limit = torch.inf
        if settings.clamp_quantile < 1.0:
            limit = torch.cat(squares).detach().flatten().quantile(settings.clamp_quantile)
        squares = [square.clamp_max(limit) for square in squares]
        losses = Losses(*(torch.cat(part).detach().mean().item() for part in (squares, codes)))
        if not all(map(math.isfinite, losses)):
            return losses
        self.heads.zero_grad(set_to_none=True)
        for square, code in zip(squares, codes, strict=True):
            pnc = settings.pnc_scale * square.mean(-1).sum()
            ((pnc + settings.code_scale * code.sum()) / total).backward()
            yield
        for head in self.heads.values():
            nn.utils.clip_grad_norm_(head.parameters(), settings.largest_gradient)
        for optimiser in self._optimisers:
            optimiser.step()
        with torch.no_grad():
            for name, value in self.heads.named_parameters():
                self._mean[name].lerp_(value, 1.0 - settings.averaging)
        return losses

    @property
    def weights(self) -> Weights:
        """A copy of the running mean of the heads' parameters."""
        return {name: value.clone() for name, value in self._mean.items()}

    @torch.no_grad()
    def load(self, weights: Weights) -> None:
        """Continue from other weights."""
        for name, value in self.heads.named_parameters():
            value.copy_(weights[name])
        self._mean = self._latest()

    def _latest(self) -> dict[str, Tensor]:
        return {name: value.detach().clone() for name, value in self.heads.named_parameters()}
