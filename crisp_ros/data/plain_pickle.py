"""Pickles that hold nothing but plain values and arrays, read without running anything in them.

NOCS publishes annotations and detections as pickles, and a pickle may name any function to call.
Here a pickle may name only the few functions with which NumPy packs arrays, and what it gets for
them are the stand-ins below, which check what they are given before NumPy sees it.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crisp_ros.data.files import DatasetError

_MOST_BYTES = 512 * 1024**2
_MOST_OPCODES = 50_000  # a file of the data set has a few hundred; bounds nesting and memory too
_KINDS = "biuf"


class _RefusedError(Exception):
    """Refused content of a pickle."""


def read_plain_pickle(path: Path) -> Any:
    """Read a pickle of None, bools, numbers, strings, bytes, lists, tuples, dicts and arrays.

    Arrays are of bools, integers or floats; NumPy scalars become arrays of no dimension.

    Raises:
        DatasetError: missing, damaged, or with anything else in it, which is never run.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise DatasetError(f"{path}: larger than {_MOST_BYTES} bytes, not an annotation")
        data = path.read_bytes()
    except OSError as error:
        raise DatasetError(f"{path}: not readable ({error.strerror})") from error
    try:
        _scan(data)
        return _plain(_Unpickler(io.BytesIO(data), encoding="latin1").load(), {})
    except _RefusedError as error:
        raise DatasetError(f"{path}: refused, as the pickle holds {error}") from error
    except Exception as error:  # a damaged pickle fails in any way
        raise DatasetError(
            f"{path}: not a readable pickle ({type(error).__name__}: {error})"
        ) from error


def _scan(data: bytes) -> None:
    """Look over the opcodes: a place in the memo is memory, and each nesting is a stack frame."""
    count = 0
    for opcode, argument, _ in pickletools.genops(data):
        count += 1
        if count > _MOST_OPCODES:
            raise _RefusedError(f"more than {_MOST_OPCODES} operations")
        if "PUT" in opcode.name and int(argument) > count:
            raise _RefusedError("a memo index beyond its length")


class _DType:
    """The value of np.dtype(text, ...) with the state that follows."""

    def __init__(self, text: Any, *_: Any) -> None:
        if isinstance(text, bytes):
            text = text.decode("latin1")
        self.dtype = np.dtype(text) if isinstance(text, str) else np.dtype(object)
        if self.dtype.kind not in _KINDS:
            raise _RefusedError(f"an array of {self.dtype}, not of numbers")

    def __setstate__(self, state: Any) -> None:
        # (version, byte order, subarray, names, fields, ...): simple types have none of the latter.
        if not isinstance(state, tuple) or len(state) < 5 or state[2:5] != (None, None, None):
            raise _RefusedError("an array of structures")
        if state[1] not in ("<", ">", "|", "=", b"<", b">", b"|", b"="):
            raise _RefusedError("an array of an unknown byte order")
        order = state[1].decode() if isinstance(state[1], bytes) else state[1]
        self.dtype = self.dtype.newbyteorder(order)


class _Array:
    """The value of NumPy's empty array with the state that follows."""

    values: NDArray[Any] | None = None

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            raise _RefusedError("an array of an unknown form")
        _, shape, dtype, fortran, data = state
        self.values = _array(data, dtype, shape, "F" if fortran else "C")


def _array(data: Any, dtype: Any, shape: Any, order: str = "C") -> NDArray[Any]:
    if isinstance(data, str):
        data = data.encode("latin1")  # as Python 2 wrote it
    if isinstance(data, bytearray):
        data = bytes(data)
    if not isinstance(dtype, _DType) or not isinstance(data, bytes) or order not in ("C", "F"):
        raise _RefusedError("an array of an unknown form")
    fits = (
        isinstance(shape, tuple)
        and len(shape) <= 8
        and all(type(n) is int and n >= 0 for n in shape)
        and math.prod(shape) * dtype.dtype.itemsize == len(data)
    )
    if not fits:
        raise _RefusedError("an array whose data does not fill its shape")
    return np.frombuffer(data, dtype.dtype).reshape(shape, order=order).copy()


def _reconstruct(kind: Any, shape: Any, code: Any) -> _Array:
    if getattr(kind, "function", None) is not _ndarray or shape != (0,) or code not in (b"b", "b"):
        raise _RefusedError("an array of an unknown form")
    return _Array()


def _scalar(dtype: Any, data: Any = b"") -> NDArray[Any]:
    return _array(data, dtype, ())


def _latin1(text: Any, encoding: Any = "latin1") -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise _RefusedError("a text in a strange encoding")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    return b""  # so old protocols write empty bytes


def _ndarray(*_: Any) -> None:
    raise _RefusedError("an array of an unknown form")


class _Function:
    """Gives a pickle a function to call, but not the function itself, which it could change."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def __call__(self, *arguments: Any) -> Any:
        return self.function(*arguments)

    def __setstate__(self, _: Any) -> None:
        raise _RefusedError("a change to a function")


_NAMES: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "ndarray"): _ndarray,
    ("numpy", "dtype"): _DType,
    ("_codecs", "encode"): _latin1,
    ("__builtin__", "bytes"): _no_bytes,
    ("builtins", "bytes"): _no_bytes,
    ("collections", "OrderedDict"): OrderedDict,
    **{
        (f"numpy.{core}.{module}", name): function
        for core in ("core", "_core")
        for module, name, function in (
            ("multiarray", "_reconstruct", _reconstruct),
            ("multiarray", "scalar", _scalar),
            ("numeric", "_frombuffer", _array),
        )
    },
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _NAMES:
            raise _RefusedError(f"{module}.{name}")
        return _Function(_NAMES[module, name])

    def persistent_load(self, pid: Any) -> Any:
        raise _RefusedError("a reference to something outside it")


def _plain(value: Any, done: dict[int, Any]) -> Any:
    """The value with its arrays in place of their stand-ins.

    What occurs at several places is done once, or few bytes could unfold into endless lists.
    """
    if value is None or isinstance(value, (bool, int, float, str, bytes, np.ndarray)):
        return value
    if id(value) not in done:
        done[id(value)] = _container(value, done)
    return done[id(value)]


def _container(value: Any, done: dict[int, Any]) -> Any:
    if isinstance(value, _Array) and value.values is not None:
        return value.values
    if type(value) in (list, tuple):
        return type(value)(_plain(entry, done) for entry in value)
    if type(value) in (dict, OrderedDict):
        return {_key(key): _plain(entry, done) for key, entry in value.items()}
    raise _RefusedError("something that is no plain value")


def _key(key: Any) -> Any:
    if not isinstance(key, (str, int, bytes)):
        raise _RefusedError(f"a dict with a {type(key).__name__} as key")
    return key
