"""CUDA graphs of functions of tensors: one launch in place of thousands.

A graph repeats the launches that were recorded, on the same memory. Therefore a captured function
must do the same for whatever values its tensors have, must not wait for the GPU, and must not copy
constants from the host. Batches are padded to a few sizes, so that a few graphs serve all frames.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from contextvars import ContextVar
from typing import Any, TypeVar

import torch
from torch import Tensor

from crisp_ros.geometry.fixed_shapes import has_fixed_shapes

Result = TypeVar("Result", bound=tuple)

_log = logging.getLogger(__name__)

_MOST_GRAPHS = 256  # the least recently used one is dropped
_inside: ContextVar[bool] = ContextVar("inside a captured function", default=False)
_lock = threading.RLock()
_graphs: OrderedDict[Hashable, _Graph] = OrderedDict()
_pools: dict[torch.cuda.Stream, tuple[int, int]] = {}  # memory that the graphs of a stream share


def is_captured() -> bool:
    """Return whether the code that asks is being recorded, or replayed, as part of a graph."""
    return _inside.get()


def run_captured(
    function: Callable[..., Result],
    constants: tuple[Any, ...],
    *tensors: tuple | Tensor,
    shared: tuple[Tensor, ...] = (),
) -> Result:
    """Return function(*constants, *shared, *tensors), by a CUDA graph where that is possible.

    Where batches keep their shapes the function gets a padded batch, whose further rows hold
    anything finite. Elsewhere, within another captured function, and where a constant forbids it,
    the function is simply called.

    Args:
        function: of each row of its tensors on its own, at module level.
        constants: hashable settings, and objects with an attribute `capture_key`: what they compute
            depends on that object alone, or it is None and nothing may be captured.
        tensors: (B, ...), and named tuples of such tensors.
        shared: tensors of all rows, such as an image.
    """
    leaves = [leaf for part in tensors for leaf in _leaves(part)]
    keys = [_capture_key(constant) for constant in constants]
    batch = len(leaves[0])
    if is_captured() or batch == 0 or None in keys or not has_fixed_shapes(leaves[0]):
        return function(*constants, *shared, *tensors)
    rows = 1 << (batch - 1).bit_length()
    layout = tuple((leaf.shape[1:], leaf.dtype) for leaf in leaves)
    layout += tuple((part.shape, part.dtype) for part in shared)
    device = leaves[0].device
    stream = torch.cuda.current_stream(device) if device.type == "cuda" else None
    key = (function, tuple(keys), rows, layout, device, stream)
    with _lock:
        graph = _graphs.get(key)
        if graph is None:
            graph = _graphs[key] = _Graph(
                function, constants, shared, [_padded(part, rows) for part in tensors]
            )
            if len(_graphs) > _MOST_GRAPHS:
                _graphs.popitem(last=False)
        _graphs.move_to_end(key)
        return graph.run(shared, leaves, batch)


def release_graphs() -> None:
    """Drop all graphs with their memory, and what they hold of models."""
    with _lock:
        _graphs.clear()
        _pools.clear()


class _Graph:
    """A function on static memory, recorded at its first run."""

    def __init__(
        self,
        function: Callable[..., Result],
        constants: tuple[Any, ...],
        shared: tuple[Tensor, ...],
        tensors: list[tuple | Tensor],
    ) -> None:
        self._shared, self._inputs = [part.clone() for part in shared], tensors
        self._buffers = [leaf for part in tensors for leaf in _leaves(part)]
        self._function, self._constants = function, constants
        self._recorded: torch.cuda.CUDAGraph | None = None
        self._outputs: tuple = ()
        self._refused = False

    def run(self, shared: tuple[Tensor, ...], leaves: list[Tensor], batch: int) -> tuple:
        """The function of tensors (B, ...); B is at most the rows of the graph."""
        for static, part in zip(self._shared, shared, strict=True):
            static.copy_(part)
        for static, leaf in zip(self._buffers, leaves, strict=True):
            static[:batch].copy_(leaf)
        if self._recorded is not None:
            self._recorded.replay()
        elif leaves[0].is_cuda and not self._refused:
            self._record()
        else:
            self._outputs = self._call()
        return _mapped(self._outputs, lambda output: output[:batch].clone())

    def _call(self) -> tuple:
        token = _inside.set(True)
        try:
            return self._function(*self._constants, *self._shared, *self._inputs)
        finally:
            _inside.reset(token)

    def _record(self) -> None:
        """Record the function, after a run that makes what is made once, and run it."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            self._call()
        torch.cuda.current_stream().wait_stream(stream)
        recorded = torch.cuda.CUDAGraph()
        try:
            # Other threads, such as a tracker's, may go on meanwhile.
            with torch.cuda.graph(recorded, _pool(), capture_error_mode="thread_local"):
                self._outputs = self._call()
        except RuntimeError as error:
            self._refused = True
            _log.warning("%s runs without a CUDA graph: %s", self._function.__name__, error)
            self._outputs = self._call()
            return
        self._recorded = recorded
        recorded.replay()


def _pool() -> tuple[int, int]:
    """The memory of the current stream's graphs.

    They run one after another, and their results are copied before the next one runs.
    """
    stream = torch.cuda.current_stream()
    if stream not in _pools:
        _pools[stream] = torch.cuda.graph_pool_handle()
    return _pools[stream]


def _capture_key(constant: Any) -> Hashable | None:
    """Dependency of a graph: an identity for objects that state it, otherwise the value."""
    if not isinstance(constant, Hashable) or hasattr(constant, "capture_key"):
        owner = getattr(constant, "capture_key", None)
        return None if owner is None else id(owner)
    return constant


def _padded(part: tuple | Tensor, rows: int) -> tuple | Tensor:
    """Memory for a part with so many rows, all of them like its last one."""
    return _mapped(part, lambda leaf: leaf[-1:].expand(rows, *leaf.shape[1:]).clone())


def _leaves(part: tuple | Tensor) -> list[Tensor]:
    if isinstance(part, Tensor):
        return [part]
    return [leaf for member in part for leaf in _leaves(member)]


def _mapped(part: tuple | Tensor, function: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(part, Tensor):
        return function(part)
    members = [_mapped(member, function) for member in part]
    return tuple(members) if type(part) is tuple else type(part)(*members)
