"""Model files: weights, shape code library and a JSON header in one safetensors file."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from pathlib import Path
from typing import Any, Literal

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from crisp_ros.data.atomic_file import write_atomically
from crisp_ros.network.library import ShapeLibrary, SurfaceColors
from crisp_ros.network.model import CrispNetwork, NetworkConfig
from crisp_ros.network.shape_prior import ShapeExamples, ShapePrior

_FORMAT = "1"
_FORMAT_KEY = "crisp_ros_format"
_LARGEST_HEADER = 100_000_000  # bytes; safetensors' own limit
# Always float32: signed distances would lose accuracy.
_EXACT = ("network.decoder.", "library.", "prior.")
_HALF_RANGE = torch.finfo(torch.float16).max

Cause = Literal[
    "missing",
    "unreadable",
    "truncated",
    "corrupt",
    "wrong format",
    "pickle refused",
    "incompatible",
    "incomplete",
]


class CheckpointError(ValueError):
    """A model file cannot be used; `cause` says why in one or two words."""

    def __init__(self, path: Path, cause: Cause, detail: str) -> None:
        super().__init__(f"model file {path}: {cause}: {detail}")
        self.path = path
        self.cause = cause


@dataclasses.dataclass(frozen=True)
class Model:
    """A network with the shapes it knows.

    Attributes:
        network: the network, in evaluation mode when loaded.
        library: its shape code library, or None when it has none yet.
        header: JSON values about the model: `recipe`, `data`, `figures`, `version` as its maker
            wrote them; `config` (the network's settings) and `sha256` are filled in on loading.
        prior: of shapes like those it was trained with, or None where it was not made for others.
    """

    network: CrispNetwork
    library: ShapeLibrary | None
    header: dict[str, Any]
    prior: ShapePrior | None = None


def save_model(path: Path | str, model: Model, storage: torch.dtype = torch.float16) -> None:
    """Write a model file; a reader sees the old file or the whole new one, never a part.

    Matrices and convolutions are stored as `storage`; vectors, the decoder and the library stay in
    float32.

    Raises:
        ValueError: a tensor is not finite, or the header holds something that is not JSON.
        OSError: the file cannot be written.
    """
    path = Path(path)
    tensors = {f"network.{name}": value for name, value in model.network.state_dict().items()}
    tensors.update(_library_tensors(model.library))
    if model.prior is not None:
        tensors.update(_prior_tensors(model.prior))
    tensors = {name: _stored(name, tensor, storage) for name, tensor in tensors.items()}
    header = {key: value for key, value in model.header.items() if key != "sha256"}
    header["config"] = model.network.config.to_json()
    header["library"] = list(model.library.names) if model.library else None
    header["library_added"] = model.library.added if model.library else 0
    try:
        text = json.dumps(header, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"refusing to write a model: its header is not JSON: {error}") from error
    metadata = {_FORMAT_KEY: _FORMAT, "header": text, "sha256": digest(text, tensors)}
    write_atomically(path, safetensors.torch.save(tensors, metadata))


def load_model(path: Path | str, device: torch.device | str = "cpu") -> Model:
    """Read a model file written by `save_model`.

    Args:
        path: the file.
        device: where network and library go, whatever device they were saved from.

    Raises:
        CheckpointError: the file is missing, truncated, corrupt, in another format, a pickle, or
            made for another configuration of the network.
    """
    path = Path(path)
    metadata = _read_metadata(path)
    try:
        tensors = safetensors.torch.load_file(path)
        # A tensor's alignment in the file decides how sums of it are rounded. With memory of their
        # own, equal weights give equal estimates, whatever the file.
        tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    except (safetensors.SafetensorError, OSError) as error:
        raise CheckpointError(path, "corrupt", str(error)) from error
    if digest(metadata.get("header", ""), tensors) != metadata.get("sha256"):
        raise CheckpointError(
            path, "corrupt", "its checksum does not match its contents: copy or download it again"
        )
    try:
        header = json.loads(metadata["header"])
        network = _network(header["config"], tensors)
        library = _library(header, tensors, network.decoder.code_dim)
        prior = _prior(tensors, network.decoder.code_dim)
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(path, "incompatible", str(error)) from error
    if tensors:
        raise CheckpointError(path, "incompatible", f"unexpected tensors {sorted(tensors)[:5]}")
    header["sha256"] = metadata["sha256"]
    network = network.to(device).eval()
    library = library.to(device) if library else None
    return Model(network, library, header, prior.to(device) if prior else None)


def load_prior_model(path: Path | str, device: torch.device | str = "cpu") -> Model:
    """Read a model file for its prior over shapes; arguments and errors as of `load_model`.

    Raises:
        CheckpointError: the file is unusable, or has no prior over shapes in metres.
    """
    model = load_model(path, device)
    if fault := prior_fault(model):
        raise CheckpointError(Path(path), "incompatible", fault)
    return model


def prior_fault(model: Model) -> str:
    """The reason why objects cannot be searched under a model's prior; "" where they can."""
    if model.prior is None:
        return "it has no prior over shapes"
    return "its shapes have no size in metres" if model.network.has_normalised_shapes else ""


def _stored(name: str, tensor: Tensor, storage: torch.dtype) -> Tensor:
    """A tensor as it goes into the file: on the CPU, with memory of its own."""
    tensor = tensor.detach()
    if not tensor.is_floating_point():
        return tensor.to("cpu", copy=True).contiguous()
    low, high = tensor.aminmax()
    largest = max(-low.item(), high.item())
    if not math.isfinite(largest):
        raise ValueError(f"refusing to write a model: values that are not finite in {name}")
    exact = tensor.ndim < 2 or name.startswith(_EXACT)
    if exact or (storage == torch.float16 and largest > _HALF_RANGE):
        storage = torch.float32
    return tensor.to("cpu", storage, copy=True).contiguous()


def _library_tensors(library: ShapeLibrary | None) -> dict[str, Tensor]:
    if library is None:
        return {}
    return {
        "library.codes": library.codes,
        "library.lower": library.lower,
        "library.upper": library.upper,
        **{f"library.symmetries.{k}": group for k, group in enumerate(library.symmetries)},
        **{
            f"library.colors.{k}.{name}": part
            for k, colors in enumerate(library.colors)
            if colors is not None
            for name, part in colors._asdict().items()
        },
    }


def digest(header: str, tensors: dict[str, Tensor]) -> str:
    """SHA-256 of the header and of every tensor's name, type, shape and values."""
    result = hashlib.sha256(header.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        result.update(f"\0{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        result.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy())
    return result.hexdigest()


def _read_metadata(path: Path) -> dict[str, str]:
    """The metadata of a model file, after checking that the file is one and is complete."""
    try:
        size = path.stat().st_size
        with open(path, "rb") as file:
            start = file.read(9)
            length = int.from_bytes(start[:8], "little")
            is_safetensors = start[8:] == b"{" and length <= _LARGEST_HEADER
            head = start[8:] + file.read(length - 1) if is_safetensors else b""
    except FileNotFoundError as error:
        raise CheckpointError(path, "missing", "there is no such file") from error
    except OSError as error:
        raise CheckpointError(path, "unreadable", str(error.strerror)) from error
    if not is_safetensors:
        raise _not_safetensors(path, start)
    if len(head) < length:
        raise _truncated(path, size, 8 + length)
    try:
        entries = json.loads(head)
        metadata = entries.pop("__metadata__", {})
        end = max((entry["data_offsets"][1] for entry in entries.values()), default=0)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise CheckpointError(path, "corrupt", f"its table of contents: {error}") from error
    if size < 8 + length + end:
        raise _truncated(path, size, 8 + length + end)
    if _FORMAT_KEY not in metadata:
        raise CheckpointError(
            path, "wrong format", "a safetensors file, but not a model of crisp_ros"
        )
    if metadata[_FORMAT_KEY] != _FORMAT:
        raise CheckpointError(
            path,
            "incompatible",
            f"format {metadata[_FORMAT_KEY]}, this version reads format {_FORMAT}",
        )
    return metadata


def _truncated(path: Path, size: int, expected: int) -> CheckpointError:
    return CheckpointError(
        path,
        "truncated",
        f"{size} of at least {expected} bytes are there: copy or download it again",
    )


def _not_safetensors(path: Path, start: bytes) -> CheckpointError:
    if len(start) < 9:
        return CheckpointError(path, "truncated", f"only {len(start)} bytes")
    # A zip archive is PyTorch's format; 0x80 and a protocol number start a bare pickle.
    if start.startswith(b"PK") or (start[0] == 0x80 and 2 <= start[1] <= 5):
        return CheckpointError(
            path,
            "pickle refused",
            "a PyTorch or pickle file can run code when it is read; "
            "convert an official CRISP checkpoint with `crisp import-official`",
        )
    return CheckpointError(path, "wrong format", "not a safetensors file")


def _network(config: dict[str, Any], tensors: dict[str, Tensor]) -> CrispNetwork:
    """A network built from its settings; its tensors are taken out of `tensors`."""
    # On the meta device nothing is allocated: settings that do not fit the tensors cost nothing.
    with torch.device("meta"):
        network = CrispNetwork(NetworkConfig.from_json(config))
    expected = network.state_dict()
    prefix = "network."
    state = {
        name.removeprefix(prefix): tensors.pop(name)
        for name in list(tensors)
        if name.startswith(prefix)
    }
    missing, unexpected = set(expected) - set(state), set(state) - set(expected)
    if missing or unexpected:
        raise ValueError(
            f"its weights do not fit its settings: missing {sorted(missing)[:5]}, "
            f"unexpected {sorted(unexpected)[:5]}"
        )
    for name, tensor in state.items():
        if tensor.shape != expected[name].shape:
            raise ValueError(
                f"weight {name} is {tuple(tensor.shape)}, "
                f"its settings ask for {tuple(expected[name].shape)}"
            )
        state[name] = tensor.to(expected[name].dtype)
    network.load_state_dict(state, assign=True)
    return network


def _prior_tensors(prior: ShapePrior) -> dict[str, Tensor]:
    """The tensors of a prior, by their names in the file."""
    tensors = {"prior.mean": prior.mean, "prior.basis": prior.basis}
    if prior.examples is not None:
        tensors |= {f"prior.examples.{k}": v for k, v in prior.examples._asdict().items()}
    return tensors


def _prior(tensors: dict[str, Tensor], code_dim: int) -> ShapePrior | None:
    """The prior over shapes, if the file has one; its tensors are taken out of `tensors`."""
    if "prior.mean" not in tensors and "prior.basis" not in tensors:
        return None
    names = [f"prior.examples.{part}" for part in ShapeExamples._fields]
    examples = None
    if any(name in tensors for name in names):
        examples = ShapeExamples(*(tensors.pop(name) for name in names))
    prior = ShapePrior(tensors.pop("prior.mean"), tensors.pop("prior.basis"), examples)
    if len(prior.mean) != code_dim:
        raise ValueError(f"its prior has codes of length {len(prior.mean)}, its decoder {code_dim}")
    return prior


def _colors(k: int, tensors: dict[str, Tensor]) -> SurfaceColors | None:
    """The colours of library shape k, None where the file has none."""
    names = [f"library.colors.{k}.{part}" for part in SurfaceColors._fields]
    if not any(name in tensors for name in names):
        return None
    return SurfaceColors(*(tensors.pop(name) for name in names))


def _library(
    header: dict[str, Any], tensors: dict[str, Tensor], code_dim: int
) -> ShapeLibrary | None:
    """The library that a header names; its tensors are taken out of `tensors`."""
    names = header["library"]
    if names is None:
        return None
    # Files of earlier versions list the shapes that were added, and do not count them.
    added = header.get("library_added", len(header.get("added_shapes", ())))
    library = ShapeLibrary(
        tuple(names),
        *(tensors.pop(f"library.{part}") for part in ("codes", "lower", "upper")),
        tuple(tensors.pop(f"library.symmetries.{k}") for k in range(len(names))),
        tuple(_colors(k, tensors) for k in range(len(names))),
        added,
    )
    if library.codes.shape[1] != code_dim:
        raise ValueError(
            f"its library has codes of length {library.codes.shape[1]}, its decoder {code_dim}"
        )
    return library
