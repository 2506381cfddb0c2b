"""Fits the shape head alone, on features of the trained backbone that are computed once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from crisp_ros.network.model import CrispNetwork

from .supervised import SupervisedTrainer

_BATCH = 256
_LEARNING_RATE = 1e-3


def fit_shape_head(
    trainer: SupervisedTrainer,
    codes: Tensor,
    steps: int,
    seed: int = 0,
    report: Callable[[int, float], None] | None = None,
) -> None:
    """Train a network's shape head towards codes, with backbone and PNC head as they are.

    Args:
        trainer: gives the network, which is changed in place, and its augmented training crops.
        codes: (K, C) target codes, one a mesh of the crop set.
        steps: of Adam, on batches of cached features.
        report: called with (step, loss) every 100 steps; a loss of 1 is no better than the mean.
    """
    network: CrispNetwork = trainer.network
    features, meshes = pooled_features(trainer)
    variance = codes.var(0, unbiased=False).mean().clamp(min=1e-12)
    head = network.shape_head.train()
    optimiser = torch.optim.AdamW(head.parameters(), lr=_LEARNING_RATE, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    generator = torch.Generator().manual_seed(seed)
    for step in range(steps):
        chosen = torch.randint(len(features), (_BATCH,), generator=generator)
        target = codes[meshes[chosen]]
        loss = F.mse_loss(head(features[chosen].float()), target) / variance
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
        if report is not None and step % 100 == 0:
            report(step, loss.item())
    head.eval()


@torch.no_grad()
def pooled_features(trainer: SupervisedTrainer) -> tuple[Tensor, Tensor]:
    """Pooled features (n, P) of one augmented view of every training crop, and meshes (n,)."""
    trainer.network.eval()
    trained = trainer.split.trained
    features, meshes = [], []
    for indices in np.array_split(trained, max(1, len(trained) // 64)):
        batch, mesh = trainer.batch(indices, trainer.settings.augment)
        crops = batch.crops.contiguous(memory_format=torch.channels_last)
        with torch.autocast(crops.device.type, torch.bfloat16, enabled=trainer.settings.bfloat16):
            features.append(trainer.network.features(crops).pooled.half())
        meshes.append(mesh)
    return torch.cat(features), torch.cat(meshes)
