"""Supervised training of PNC head, shape head and backbone on stored crops; resumable."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from crisp_ros.network.model import CrispNetwork
from crisp_ros.synthesis.crop_set import CROP_MARGIN, NO_OBJECT, PNC_UNIT_M, CropSet

from .augment import AugmentSettings, TrainingBatch, augmented
from .losses import pnc_loss


@dataclass(frozen=True)
class TrainingSettings:
    """One stage of training.

    The shape head regresses the codes that the decoder was fitted with: the code loss is the mean
    squared difference over the library's variance, so that 1 means "no better than the mean".
    Frozen layers (prefixes of parameter names) keep what they learned from photographs.
    """

    steps: int
    batch: int = 32
    crop_px: int = 96
    learning_rate: float = 4e-4
    weight_decay: float = 1e-5
    warmup: int = 200
    final_rate: float = 0.02  # of learning_rate, at the end of a cosine
    pnc_weight: float = 1.0
    pnc_zeta_m: float = 0.01
    code_weight: float = 0.003
    bfloat16: bool = True
    frozen: tuple[str, ...] = ("backbone.stem.", "backbone.stages.0.")
    held_out_crops: int = 1024
    evaluate_every: int = 500
    save_every: int = 200
    augment: AugmentSettings = field(default_factory=AugmentSettings)


class SupervisedTrainer:
    """Trains a network on a crop set; every state it writes can be continued from.

    Args:
        network: changed in place.
        codes: (K, C) target shape codes, one a mesh of the crop set.
        symmetries: K arrays (S_k, 4, 4) of transforms that leave a mesh's look unchanged.
        crops: the training crops; its first `held_out_crops` are never trained on, so that
            shards can be added later.
        folder: where `state.pt` and `log.jsonl` go.
    """

    def __init__(
        self,
        network: CrispNetwork,
        codes: Tensor,
        symmetries: list[Tensor],
        crops: CropSet,
        settings: TrainingSettings,
        folder: Path,
        seed: int = 0,
    ) -> None:
        self.network = network.to(memory_format=torch.channels_last)
        self.crops, self.settings, self.folder = crops, settings, folder
        self._codes = codes
        self._code_variance = codes.var(0, unbiased=False).mean().clamp(min=1e-12)
        most = max(len(s) for s in symmetries)
        identity = torch.eye(4).expand(most, 4, 4)
        self._symmetries = torch.stack([torch.cat([s, identity[len(s) :]]) for s in symmetries])
        self._symmetric = torch.tensor([len(s) > 1 for s in symmetries])
        for name, parameter in network.named_parameters():
            if name.startswith(("decoder.", *settings.frozen)):
                parameter.requires_grad_(False)
        self._optimiser = torch.optim.AdamW(
            [p for p in network.parameters() if p.requires_grad],
            lr=settings.learning_rate,
            weight_decay=settings.weight_decay,
        )
        self._rng = np.random.default_rng(seed)
        self._generator = torch.Generator().manual_seed(seed)
        self.step = 0
        folder.mkdir(parents=True, exist_ok=True)
        if self._state_path.exists():
            self._resume()

    @property
    def _state_path(self) -> Path:
        return self.folder / "state.pt"

    def run(self, report: Callable[[dict], None] | None = None) -> None:
        """Trains to the last step, from wherever the folder's state stands."""
        started, first = time.monotonic(), self.step
        running: dict[str, float] = {}
        self.network.train()
        while self.step < self.settings.steps:
            self._set_rate()
            losses = self._train_step()
            for name, value in losses.items():
                running[name] = 0.98 * running.get(name, value) + 0.02 * value
            self.step += 1
            last = self.step == self.settings.steps
            if self.step % self.settings.evaluate_every == 0 or last:
                elapsed = time.monotonic() - started
                rate = (self.step - first) * self.settings.batch / elapsed
                entry = {"step": self.step, "images_per_s": rate, **running, **self.evaluate()}
                with (self.folder / "log.jsonl").open("a") as log:
                    log.write(json.dumps(entry) + "\n")
                if report is not None:
                    report(entry)
            if self.step % self.settings.save_every == 0 or last:
                self.save()

    def save(self) -> None:
        """Writes the state so that a kill at any moment leaves the old or the new one."""
        temporary = self._state_path.with_suffix(".tmp")
        with temporary.open("wb") as file:
            torch.save(
                {
                    "network": self.network.state_dict(),
                    "optimiser": self._optimiser.state_dict(),
                    "step": self.step,
                    "settings": json.dumps(asdict(self.settings)),
                },
                file,
            )
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, self._state_path)

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Held-out PNC error (mean absolute, mm a coordinate) and share of codes nearest theirs."""
        self.network.eval()
        indices = np.arange(self.settings.held_out_crops)
        errors, right = [], []
        for part in np.array_split(indices, max(1, len(indices) // 64)):
            batch, mesh = self.batch(part, AugmentSettings.none())
            pnc, code = self._forward(batch.crops)
            chosen = self._symmetries[mesh]
            error = torch.stack(
                [
                    _masked_error(pnc, batch, chosen[:, s])
                    for s in range(chosen.shape[1] if bool(self._symmetric[mesh].any()) else 1)
                ],
                1,
            )
            errors.append(error.amin(1))
            right.append(torch.cdist(code, self._codes).argmin(1) == mesh)
        self.network.train()
        error = torch.cat(errors)
        return {
            "held_out_pnc_mm": error.mean().item() * 1e3,
            "held_out_pnc_median_mm": error.median().item() * 1e3,
            "held_out_shape": torch.cat(right).float().mean().item(),
        }

    def _train_step(self) -> dict[str, float]:
        usable = np.arange(self.settings.held_out_crops, len(self.crops))
        chosen = np.sort(self._rng.choice(usable, self.settings.batch, replace=False))
        batch, mesh = self.batch(chosen, self.settings.augment)
        pnc, code = self._forward(batch.crops)
        symmetries = self._symmetries[mesh] if bool(self._symmetric[mesh].any()) else None
        pnc_term = pnc_loss(pnc, batch.pnc, batch.mask, self.settings.pnc_zeta_m, symmetries)
        code_term = F.mse_loss(code, self._codes[mesh]) / self._code_variance
        loss = self.settings.pnc_weight * pnc_term + self.settings.code_weight * code_term
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self._optimiser.step()
        return {"pnc_loss": pnc_term.item(), "code_loss": code_term.item()}

    def _forward(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        crops = crops.contiguous(memory_format=torch.channels_last)
        with torch.autocast(crops.device.type, torch.bfloat16, enabled=self.settings.bfloat16):
            output = self.network(crops)
        return output.pnc.float(), output.code.float()

    def batch(self, indices: np.ndarray, augment: AugmentSettings) -> tuple[TrainingBatch, Tensor]:
        """Views of stored crops and their mesh indices (B,)."""
        rgb, pnc, mesh = self.crops.batch(indices)
        metres = torch.from_numpy(pnc).permute(0, 3, 1, 2).float() * PNC_UNIT_M
        metres = metres.masked_fill(torch.from_numpy(pnc[..., 0] == NO_OBJECT)[:, None], math.nan)
        side = self.settings.crop_px
        batch = augmented(
            torch.from_numpy(rgb).permute(0, 3, 1, 2),
            metres,
            CROP_MARGIN,
            side,
            side // self.network.config.pnc_stride,
            augment,
            self._generator,
        )
        return batch, torch.from_numpy(mesh)

    def _set_rate(self) -> None:
        settings = self.settings
        if self.step < settings.warmup:
            factor = (self.step + 1) / settings.warmup
        else:
            done = (self.step - settings.warmup) / max(1, settings.steps - settings.warmup)
            low = settings.final_rate
            factor = low + (1.0 - low) * 0.5 * (1.0 + math.cos(math.pi * min(1.0, done)))
        for group in self._optimiser.param_groups:
            group["lr"] = settings.learning_rate * factor

    def _resume(self) -> None:
        state = torch.load(self._state_path, weights_only=True)
        self.network.load_state_dict(state["network"])
        self._optimiser.load_state_dict(state["optimiser"])
        self.step = state["step"]
        self._rng = np.random.default_rng(self.step)
        self._generator.manual_seed(self.step)


def _masked_error(pnc: Tensor, batch: TrainingBatch, symmetry: Tensor) -> Tensor:
    target = symmetry[:, :3, :3] @ batch.pnc.flatten(2) + symmetry[:, :3, 3:]
    error = (pnc.flatten(2) - target).abs().mean(1) * batch.mask.flatten(1)
    return error.sum(1) / batch.mask.flatten(1).sum(1).clamp(min=1)
