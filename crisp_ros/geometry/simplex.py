"""The probability simplex {c : c >= 0, sum c = 1}, on which library coefficients live."""

from __future__ import annotations

import torch
from torch import Tensor


def project(v: Tensor) -> Tensor:
    """Project each row onto the simplex (Euclidean), exactly and without iteration.

    The projection is max(v - theta, 0); theta follows from the sorted row: it is the mean of the
    largest entries, less 1/count, over the longest prefix whose members all stay positive.

    Args:
        v: (..., K), K >= 1, finite.

    Returns:
        (..., K), each row non-negative with sum one.
    """
    v = v - v.amax(-1, keepdim=True)  # same projection, and no cancellation against large entries
    descending = v.sort(dim=-1, descending=True).values
    counts = torch.arange(1, v.shape[-1] + 1, dtype=v.dtype, device=v.device)
    thresholds = (descending.cumsum(-1) - 1) / counts
    support = (descending > thresholds).sum(-1, keepdim=True).clamp_min(1)
    theta = thresholds.gather(-1, support - 1)
    return (v - theta).clamp_min(0)
