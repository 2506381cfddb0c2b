"""Settings of the supervised training and the learning rate that they ask for."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from crisp_ros.validation import at_least

from .augment import AugmentSettings
from .losses import SdfLossWeights


@dataclass(frozen=True)
class JointSdfSettings:
    """The second term of eq. (23): the decoder learns with the heads, from codes of images.

    Attributes:
        weight: beta.
        surface_points, near_points, volume_points: drawn for each crop's shape at every step.
        weights: of eq. (21).
    """

    weight: float = 0.1
    surface_points: int = 1500
    near_points: int = 1500
    volume_points: int = 4000
    weights: SdfLossWeights = SdfLossWeights()

    def __post_init__(self) -> None:
        at_least(self, 1, "surface_points", "near_points", "volume_points")


@dataclass(frozen=True)
class TrainingSettings:
    """One stage of training.

    With `sdf` the losses are those of the paper: decoder and heads learn together, and the codes
    are what the shape head makes of the images. Without it the shape head regresses the codes that
    the decoder was fitted with: the code loss is the mean squared difference over the library's
    variance, so that 1 means "no better than the mean".

    Attributes:
        steps, epochs: how long; exactly one of them. An epoch is one pass over the crops.
        batch: crops a step, shared out among the processes.
        crop_px: side of the network's crops; 0 for the network's own.
        optimiser: adam adds the weight decay to the gradient, adamw shrinks the weights.
        warmup: steps in which the rate rises from zero.
        schedule: of the rate after that: constant; one cosine down to `final_rate`; or cosines down
            to zero that restart, the first after `restart_every` steps and each next one
            `restart_factor` times longer.
        pnc_weight: alpha. pnc_zeta_m: zeta of eq. (20).
        code_weight: of the code loss.
        clip_norm: longest gradient; None: any.
        averaging: share of the old in the running mean of the weights, which is what is measured
            and kept in the end; 0 for the latest weights.
        frozen: prefixes of the names of parameters that keep what they learned from photographs.
        held_out_crops: never trained on; evenly spaced among the crops of each object.

    Raises:
        ValueError: both or none of steps and epochs, or a number out of its range.
    """

    steps: int | None = None
    epochs: int | None = None
    batch: int = 32
    crop_px: int = 96
    optimiser: Literal["adam", "adamw"] = "adamw"
    learning_rate: float = 4e-4
    weight_decay: float = 1e-5
    warmup: int = 200
    schedule: Literal["constant", "cosine", "restarts"] = "cosine"
    final_rate: float = 0.02  # of learning_rate, at the end of a cosine
    restart_every: int = 4000
    restart_factor: float = 1.0
    pnc_weight: float = 1.0
    pnc_zeta_m: float = 0.01
    code_weight: float = 0.003
    sdf: JointSdfSettings | None = None
    clip_norm: float | None = 1.0
    averaging: float = 0.0
    bfloat16: bool = True
    frozen: tuple[str, ...] = ("backbone.stem.", "backbone.stages.0.")
    held_out_crops: int = 1024
    evaluate_every: int = 500
    save_every: int = 200
    augment: AugmentSettings = field(default_factory=AugmentSettings)

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("expected either steps or epochs")
        if self.optimiser not in ("adam", "adamw"):
            raise ValueError(f"optimiser {self.optimiser!r}: expected adam or adamw")
        if self.schedule not in ("constant", "cosine", "restarts"):
            raise ValueError(f"schedule {self.schedule!r}: expected constant, cosine or restarts")
        counts = ("steps", "epochs", "batch", "restart_every", "restart_factor", "held_out_crops")
        at_least(self, 1, *counts, "evaluate_every", "save_every")
        at_least(self, 0, "crop_px", "learning_rate", "weight_decay", "warmup", "averaging")
        if self.averaging >= 1.0:
            raise ValueError(f"averaging is {self.averaging}: expected a share below 1")

    def total_steps(self, crops: int) -> int:
        """Steps of the whole training on so many crops that are trained on."""
        if self.steps is not None:
            return self.steps
        return self.epochs * max(1, crops // self.batch)


def learning_rate(step: int, total: int, settings: TrainingSettings) -> float:
    """The learning rate of a step, 0 <= step < total."""
    if step < settings.warmup:
        return settings.learning_rate * (step + 1) / settings.warmup
    since = step - settings.warmup
    if settings.schedule == "constant":
        return settings.learning_rate
    if settings.schedule == "cosine":
        done = min(1.0, since / max(1, total - settings.warmup))
        low = settings.final_rate
        return settings.learning_rate * (low + (1.0 - low) * _half_cosine(done))
    length = float(settings.restart_every)
    while since >= length:
        since -= length
        length *= settings.restart_factor
    return settings.learning_rate * _half_cosine(since / length)


def rising_cosine(step: int, total: int, warmup: int = 100) -> float:
    """Share of the learning rate at a step: a short rise, then half a cosine down to nothing."""
    return min(1.0, (step + 1) / warmup) * _half_cosine(step / total)


def _half_cosine(done: float) -> float:
    return 0.5 * (1.0 + math.cos(math.pi * done))
