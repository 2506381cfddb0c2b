"""Texts about objects on a device that are written when they are read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Values = Sequence[Sequence[Any]]


def to_host(tensors: Sequence[Tensor]) -> list[NDArray[Any]]:
    """Copy tensors (B, ...) to the host in one transfer, each in its own type.

    Integers must be below 2^53.
    """
    if len(tensors) == 0:
        return []
    flat = [tensor.reshape(len(tensor), tensor.shape[1:].numel()).double() for tensor in tensors]
    packed = torch.cat(flat, dim=1).cpu().numpy()
    bounds = np.cumsum([part.shape[1] for part in flat])[:-1]
    return [
        part.reshape(tuple(tensor.shape)).astype(str(tensor.dtype).removeprefix("torch."))
        for part, tensor in zip(np.split(packed, bounds, axis=1), tensors, strict=True)
    ]


class Reasons(Sequence[str]):
    """Reasons of B objects, made from numbers on the device when the first one is read.

    Attributes:
        tensors: (B,) each, of which the reasons are made.
    """

    def __init__(
        self, tensors: Sequence[Tensor], write: Callable[[Values], Sequence[str]], count: int
    ) -> None:
        """Create reasons that are not yet written.

        Args:
            tensors: (B,) each.
            write: the B reasons, from the values of each of the tensors.
            count: B.
        """
        self.tensors = tuple(tensors)
        self._write, self._count = write, count
        self._written: tuple[str, ...] | None = None

    @classmethod
    def of(cls, reasons: Sequence[str]) -> Reasons:
        """The same reasons, also where they are written already."""
        if isinstance(reasons, Reasons):
            return reasons
        return cls((), lambda _: reasons, len(reasons))

    @classmethod
    def combined(
        cls, parts: Sequence[Sequence[str]], write: Callable[[Sequence[Sequence[str]]], list[str]]
    ) -> Reasons:
        """Reasons of the same B objects that are written from other reasons of them."""
        lazy = [cls.of(part) for part in parts]
        counts = [len(part.tensors) for part in lazy]

        def write_all(values: Values) -> list[str]:
            given, place = [], 0
            for part, count in zip(lazy, counts, strict=True):
                given.append(part.written(values[place : place + count]))
                place += count
            return write(given)

        tensors = [tensor for part in lazy for tensor in part.tensors]
        return cls(tensors, write_all, len(lazy[0]))

    def written(self, values: Values | None = None) -> tuple[str, ...]:
        """The texts.

        Args:
            values: of `tensors`, if they are at hand on the host.
        """
        if self._written is None:
            if values is None:
                values = [part.tolist() for part in to_host(self.tensors)]
            self._written = tuple(self._write(values))
        return self._written

    @overload
    def __getitem__(self, which: int) -> str: ...
    @overload
    def __getitem__(self, which: slice) -> tuple[str, ...]: ...
    def __getitem__(self, which: int | slice) -> str | tuple[str, ...]:
        return self.written()[which]

    def __len__(self) -> int:
        return self._count

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return self.written() == tuple(other)

    def __repr__(self) -> str:
        return repr(self.written())

    __hash__ = None
