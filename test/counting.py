"""Counters: the evaluations of a field, the operations of PyTorch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from crisp_ros.correction.correspondences import Shapes
from crisp_ros.correction.shape_field import ShapeField
from crisp_ros.network.decoder import SignedDistance


class CountingField:
    """Another field's signed distances.

    Attributes:
        decoder: of the other field.
        distances: number of points in each call of `sdf`.
        gradients: number of points in each call of `sdf_and_gradient`.
    """

    def __init__(self, field: ShapeField) -> None:
        self.decoder, self._field = field.decoder, field
        self.distances: list[int] = []
        self.gradients: list[int] = []

    @property
    def calls(self) -> int:
        """The number of calls of either kind."""
        return len(self.distances) + len(self.gradients)

    def sdf(self, points: Tensor, shapes: Shapes) -> Tensor:
        """See `ShapeField`."""
        self.distances.append(points.shape[:-1].numel())
        return self._field.sdf(points, shapes)

    def sdf_and_gradient(self, points: Tensor, shapes: Shapes) -> SignedDistance:
        """See `ShapeField`."""
        self.gradients.append(points.shape[:-1].numel())
        return self._field.sdf_and_gradient(points, shapes)


class CountedOperations(TorchDispatchMode):
    """PyTorch's operations in a context.

    Attributes:
        operations: number of operations that compute something; views do not.
        waits: names of the operations for whose result the host would wait on a GPU.
    """

    def __init__(self) -> None:
        super().__init__()
        self.operations = 0
        self.waits: list[str] = []

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        """Count an operation and do it."""
        name = function.name()
        masks = name.startswith("aten::index") and any(
            isinstance(index, Tensor) and index.dtype == torch.bool
            for index in (args[1] if isinstance(args[1], (list, tuple)) else ())
        )
        if masks or name.startswith(("aten::_local_scalar_dense", "aten::nonzero", "aten::unique")):
            self.waits.append(name)
        schema = function._schema
        is_view = not schema.is_mutable and any(r.alias_info for r in schema.returns)
        self.operations += not is_view
        return function(*args, **(kwargs or {}))
