"""Constants that a device gets once: an upload in every call would wait, and breaks CUDA graphs."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor


def constant(values: tuple[float, ...], like: Tensor) -> Tensor:
    """Return numbers as a tensor (N,) of the dtype and device of another; not to be changed."""
    return _made(values, like.dtype, like.device)


@cache
def _made(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    # Not under inference mode, whose tensors autograd refuses later.
    with torch.inference_mode(False):
        return torch.tensor(values, dtype=dtype).to(device)
