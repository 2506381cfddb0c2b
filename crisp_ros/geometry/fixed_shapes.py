"""Choice between fixed and compacted batches: which tensors a solver may shrink while it iterates.

On a GPU, rows that are finished cannot be left out of a batch without waiting for their number, and
a CUDA graph needs the same shapes in every frame. There all rows go on to the end, masked. A CPU
leaves the finished rows out.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from torch import Tensor

_forced: ContextVar[bool] = ContextVar("fixed shapes on every device", default=False)


def has_fixed_shapes(tensor: Tensor) -> bool:
    """Return whether batches on a tensor's device keep their shapes."""
    return tensor.is_cuda or _forced.get()


@contextmanager
def force_fixed_shapes() -> Iterator[None]:
    """Keep the shapes of batches on every device, so that a CPU takes the path of a GPU."""
    token = _forced.set(True)
    try:
        yield
    finally:
        _forced.reset(token)
