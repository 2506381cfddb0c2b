"""Named tuples of tensors that share their first dimension, the object: rows and point subsets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from crisp_ros.geometry.cuda_graphs import is_captured
from crisp_ros.geometry.fixed_shapes import has_fixed_shapes

Batch = TypeVar("Batch", bound=tuple)


def take_rows(batch: Batch, which: Tensor | slice) -> Batch:
    """Some rows of every tensor of a batch, nested batches included.

    Args:
        batch: a named tuple of tensors (B, ...) and of other batches.
        which: indices or a mask (B,), or a slice.
    """
    if isinstance(which, Tensor) and which.dtype == torch.bool:
        which = which.nonzero().squeeze(-1)  # once, where each tensor would look for the rows
    return type(batch)(
        *(take_rows(part, which) if isinstance(part, tuple) else part[which] for part in batch)
    )


def batch_of(one: Batch) -> Batch:
    """Tensors (...) of one object as a batch (1, ...) of it."""
    return type(one)(*(part[None] for part in one))


def concatenate(batches: Sequence[Batch]) -> Batch:
    """Join batches of the same kind along the first dimension."""
    if len(batches) == 1:
        return batches[0]
    return type(batches[0])(
        *(
            concatenate(parts) if isinstance(parts[0], tuple) else torch.cat(parts)
            for parts in zip(*batches, strict=True)
        )
    )


def select_rows(mask: Tensor, yes: Batch, no: Batch) -> Batch:
    """The rows of `yes` where `mask` (B,) holds, else those of `no`."""

    def select(a: Tensor | tuple, b: Tensor | tuple) -> Tensor | tuple:
        if isinstance(a, tuple):
            return select_rows(mask, a, b)
        return a.where(mask.view(-1, *[1] * (b.ndim - 1)), b)

    return type(no)(*(select(a, b) for a, b in zip(yes, no, strict=True)))


def replace_rows(batch: Batch, rows: Tensor, new: Batch) -> Batch:
    """A copy of a batch in which the rows of these indices (M,) are those of `new`."""

    def replace(old: Tensor | tuple, part: Tensor | tuple) -> Tensor | tuple:
        if isinstance(old, tuple):
            return replace_rows(old, rows, part)
        return old.index_copy(0, rows, part)

    return type(batch)(*(replace(a, b) for a, b in zip(batch, new, strict=True)))


def update_rows(
    mask: Tensor,
    old: Batch,
    function: Callable[..., Batch],
    *inputs: tuple | Tensor,
    looks: bool = True,
) -> Batch:
    """A copy of `old` with function(*inputs) in the rows where `mask` holds.

    Where batches keep their shapes the function gets all rows, and within a captured function it is
    called whatever the mask.

    Args:
        mask: (B,) bool.
        old: a batch of B rows.
        function: of each row of its arguments on its own.
        inputs: tensors (B, ...) and batches of B rows.
        looks: where batches keep their shapes, whether the host waits for the mask, and calls the
            function only if it holds somewhere; otherwise it is called without a wait.
    """
    if has_fixed_shapes(mask):
        if looks and not is_captured() and not bool(mask.any()):
            return old
        return select_rows(mask, function(*inputs), old)
    rows = mask.nonzero().squeeze(-1)
    if len(rows) == 0:
        return old
    some = (take_rows(i, rows) if isinstance(i, tuple) else i[rows] for i in inputs)
    return replace_rows(old, rows, function(*some))


def stack(batches: Sequence[Batch]) -> Batch:
    """Batches of B rows side by side: tensors (B, M, ...) of M batches of tensors (B, ...)."""
    return type(batches[0])(*(torch.stack(parts, dim=1) for parts in zip(*batches, strict=True)))


def subsample(batch: Batch, valid: Tensor, count: int) -> Batch:
    """At most `count` points of each object, evenly spaced among its valid ones.

    Args:
        batch: a named tuple of tensors (B, N, ...).
        valid: (B, N) bool.
        count: of points.
    """
    if valid.shape[1] <= count:
        return batch
    chosen = evenly_spaced(valid, count)
    rows = torch.arange(len(chosen), device=chosen.device)[:, None]
    return type(batch)(*(part[rows, chosen] for part in batch))


def evenly_spaced(valid: Tensor, count: int) -> Tensor:
    """Indices (B, count), evenly spaced among each object's valid points.

    An object with fewer valid points gives some of them twice; one with none gives index 0.

    Args:
        valid: (B, N) bool.
        count: of indices.
    """
    order = (~valid).to(torch.int8).argsort(dim=-1, stable=True)
    total = valid.sum(-1, keepdim=True)
    steps = torch.arange(count, device=valid.device)
    return order.gather(-1, (steps * total).div(count, rounding_mode="floor"))
