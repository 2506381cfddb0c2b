"""Counters: the evaluations of a field, the operations of PyTorch."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from crisp_ros.correction.correspondences import Shapes
from crisp_ros.correction.shape_field import ShapeField
from crisp_ros.geometry.cuda_graphs import is_captured
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


_WAITING = (
    "aten::_local_scalar_dense",
    "aten::equal",
    "aten::nonzero",
    "aten::unique",
    "aten::masked_select",
    "aten::repeat_interleave.Tensor",
    "aten::_linalg_eigh",
    "aten::_linalg_svd",
    "aten::linalg_inv_ex",
    "aten::_linalg_solve_ex",
    "aten::linalg_cholesky_ex",
    "aten::linalg_qr",
)
"""Operations that wait for a GPU: for the size of their result, or for LAPACK's verdict."""


_FACTORIES = ("eye", "zeros", "ones", "full", "empty", "arange", "linspace", "rand", "randn")
"""Functions that make a tensor on the host unless a device is given."""


class CountedOperations(TorchDispatchMode):
    """PyTorch's operations in a context, and for which of them the host would wait on a GPU.

    A CPU copies nothing to the host; where a program asks for a copy is counted as well.

    Attributes:
        operations: number of operations that compute something; views do not.
        captured: number of further ones within captured functions, which a CUDA graph repeats.
        waits: names of those for whose result the host would wait.
        stage: that what follows is counted for, as well.
        on_host: whether what follows computes with what was copied to the host; it is not counted.
        operations_of: number of operations by stage.
        waits_of: number of waits by stage.
    """

    def __init__(self) -> None:
        super().__init__()
        self.operations = 0
        self.captured = 0
        self.waits: list[str] = []
        self.stage = ""
        self.on_host = False
        self.operations_of: Counter[str] = Counter()
        self.waits_of: Counter[str] = Counter()
        self._transfers = _Transfers(self)

    def __enter__(self) -> CountedOperations:
        """Begin to count."""
        self._transfers.__enter__()
        super().__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        """End counting."""
        super().__exit__(*error)
        self._transfers.__exit__(*error)

    def wait(self, name: str) -> None:
        """Count a wait of the host; a captured function must not have any."""
        assert not is_captured(), f"{name} within a captured function"
        self.waits.append(name)
        self.waits_of[self.stage] += 1

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        """Count an operation and do it."""
        if self.on_host:
            return function(*args, **(kwargs or {}))
        name = function.name()
        masks = name.startswith("aten::index") and any(
            isinstance(index, Tensor) and index.dtype == torch.bool
            for index in (args[1] if isinstance(args[1], (list, tuple)) else ())
        )
        if masks or name.startswith(_WAITING):
            self.wait(name)
        if is_captured():
            self.captured += 1
            return function(*args, **(kwargs or {}))
        schema = function._schema
        is_view = not schema.is_mutable and any(r.alias_info for r in schema.returns)
        if not is_view:
            self.operations += 1
            self.operations_of[self.stage] += 1
        return function(*args, **(kwargs or {}))


class _Transfers(TorchFunctionMode):
    """Counts the copies of tensors to the host, which are no operations on a CPU."""

    def __init__(self, counted: CountedOperations) -> None:
        super().__init__()
        self._counted = counted

    def __torch_function__(
        self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        name = getattr(function, "__name__", "")
        made_on_host = name in _FACTORIES and (kwargs or {}).get("device") is None
        uploaded = name in ("tensor", "new_tensor", "from_numpy") or made_on_host
        if name in ("cpu", "tolist") or (uploaded and is_captured()):
            self._counted.wait(name)
        return function(*args, **(kwargs or {}))
