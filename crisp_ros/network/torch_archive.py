"""PyTorch files of others, read without running any code they may carry."""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from crisp_ros.network.checkpoint import CheckpointError

_WRAPPER_PREFIX = re.compile(r"(?:_orig_mod\.|module\.)+")  # of torch.compile and of Fabric or DDP


def read_archive(path: Path) -> Any:
    """Read a file of torch.save: tensors, numeric arrays and plain containers, on the CPU.

    Raises:
        CheckpointError: the file is missing, damaged, not a zip-format PyTorch file, or asks for
            anything else.
    """
    _check_archive(path)
    try:
        with torch.serialization.safe_globals(_numpy_globals()):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        name = re.search(r"GLOBAL (\S+)", str(error))
        raise CheckpointError(
            path,
            "pickle refused",
            f"it asks for {name[1] if name else 'an unknown operation'}; only tensors, numeric "
            "arrays and plain containers are read, because anything else could run code",
        ) from error
    except (RuntimeError, EOFError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise CheckpointError(path, "corrupt", str(error)) from error


def plain_weights(path: Path, state: Mapping[Any, Any]) -> dict[str, Tensor]:
    """The tensors of a state dict as float32, without the prefixes of wrappers.

    Raises:
        CheckpointError: an entry is not a tensor of finite values.
    """
    weights = {}
    for name, value in state.items():
        if not isinstance(value, Tensor) or not bool(torch.isfinite(value).all()):
            raise CheckpointError(path, "corrupt", f"{name} is not a tensor of finite values")
        weights[_WRAPPER_PREFIX.sub("", str(name), count=1)] = value.float().contiguous()
    return weights


def _numpy_globals() -> list[Any]:
    """Return the globals that the restricted unpickler needs for arrays of any NumPy version."""
    array_maker = np.empty(0).__reduce__()[0]
    scalar_maker = np.float64(0).__reduce__()[0]
    makers = [
        (maker, f"{module}.{name}")
        for maker, name in ((array_maker, "_reconstruct"), (scalar_maker, "scalar"))
        for module in ("numpy.core.multiarray", "numpy._core.multiarray")
    ]
    types = (np.float16, np.float32, np.float64, np.int32, np.int64)
    return [*makers, np.ndarray, np.dtype, *(type(np.dtype(kind)) for kind in types)]


def _check_archive(path: Path) -> None:
    """Refuse everything that is not a whole zip archive with intact records."""
    try:
        with open(path, "rb") as file:
            start = file.read(4)
        if not zipfile.is_zipfile(path):
            if start.startswith(b"PK"):
                raise CheckpointError(path, "truncated", "its end is missing: download it again")
            raise CheckpointError(
                path,
                "wrong format",
                "not a checkpoint of PyTorch 1.6 or later; an older file can be written again "
                "with torch.save",
            )
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except FileNotFoundError as error:
        raise CheckpointError(path, "missing", "there is no such file") from error
    except OSError as error:
        raise CheckpointError(path, "unreadable", str(error.strerror)) from error
    except (zipfile.BadZipFile, NotImplementedError, EOFError) as error:
        raise CheckpointError(path, "corrupt", str(error)) from error
    if damaged is not None:
        raise CheckpointError(path, "corrupt", f"record {damaged} is damaged: download it again")
