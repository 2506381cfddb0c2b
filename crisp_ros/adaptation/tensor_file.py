"""Files of named tensors with a JSON header and a checksum."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from crisp_ros.network.checkpoint import digest


class TensorFileError(ValueError):
    """A file that is missing, damaged or of another format."""


def encode_tensor_file(kind: str, header: dict[str, Any], tensors: dict[str, Tensor]) -> bytes:
    """Return the contents of a file.

    Args:
        kind: name of the file format, with its version.
        header: JSON values.
        tensors: by name, on the CPU.
    """
    text = json.dumps(header)
    metadata = {"format": kind, "header": text, "sha256": digest(text, tensors)}
    return safetensors.torch.save(tensors, metadata)


def read_tensor_file(path: Path, kind: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read header and tensors of a file.

    Raises:
        TensorFileError: the file is missing, damaged or of another kind.
    """
    try:
        with safetensors.safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (OSError, safetensors.SafetensorError) as error:
        raise TensorFileError(str(error)) from error
    text = metadata.get("header", "")
    if metadata.get("format") != kind or digest(text, tensors) != metadata.get("sha256"):
        raise TensorFileError("damaged, or not a file of this version")
    return json.loads(text), tensors
