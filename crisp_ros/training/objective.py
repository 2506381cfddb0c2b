"""Objective of a training step, as one module so that processes share its gradients."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crisp_ros.network.model import CrispNetwork

from .augment import TrainingBatch
from .losses import pnc_loss, sdf_loss
from .sdf_samples import SdfSamples
from .training_settings import TrainingSettings


class Losses(NamedTuple):
    """Losses of a batch.

    Attributes:
        total: what is minimised.
        pnc: eq. (20).
        shape: eq. (21), or the code loss.
    """

    total: Tensor
    pnc: Tensor
    shape: Tensor


class Objective(nn.Module):
    """alpha L_PNC + beta L_SDF (eq. 23), or alpha L_PNC and a regression of known codes.

    Every loss is a mean over the crops of a batch, so that the mean over equal parts of a batch is
    the loss of the whole.

    Args:
        network: what learns.
        settings: see `TrainingSettings`.
        codes: (K, C) target codes; None where the decoder learns with the heads.
        symmetries: (K, S, 4, 4) that leave a mesh's look unchanged, the identity repeated to fill.
    """

    def __init__(
        self,
        network: CrispNetwork,
        settings: TrainingSettings,
        codes: Tensor | None,
        symmetries: Tensor,
    ) -> None:
        super().__init__()
        self.network = network
        self._settings = settings
        self._codes = codes
        if codes is not None:
            self._code_variance = codes.var(0, unbiased=False).mean().clamp(min=1e-12)
        self._symmetries = symmetries
        eye = torch.eye(4, device=symmetries.device)
        self._symmetric = (symmetries - eye).abs().amax((1, 2, 3)) > 1e-6

    def forward(self, batch: TrainingBatch, mesh: Tensor, samples: SdfSamples | None) -> Losses:
        """Losses of crops of meshes (B,), with points (B, N, 3) around each crop's mesh, if any."""
        settings = self._settings
        pnc, code = predicted(self.network, batch.crops, settings.bfloat16)
        symmetries = self._symmetries[mesh] if bool(self._symmetric[mesh].any()) else None
        pnc_term = pnc_loss(pnc, batch.pnc, batch.mask, settings.pnc_zeta_m, symmetries)
        if settings.sdf is None:
            shape_term = F.mse_loss(code, self._codes[mesh]) / self._code_variance
            weight = settings.code_weight
        else:
            shape_term = sdf_loss(self.network.decoder, code, *samples, settings.sdf.weights)
            weight = settings.sdf.weight
        total = settings.pnc_weight * pnc_term + weight * shape_term
        return Losses(total, pnc_term, shape_term)


def predicted(network: CrispNetwork, crops: Tensor, bfloat16: bool) -> tuple[Tensor, Tensor]:
    """PNC maps and codes of crops, computed in bfloat16 where asked for, as float32."""
    crops = crops.contiguous(memory_format=torch.channels_last)
    with torch.autocast(crops.device.type, torch.bfloat16, enabled=bfloat16):
        output = network(crops)
    return output.pnc.float(), output.code.float()
