"""Weights of the segmentation network in a safetensors file, half precision."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import safetensors
import safetensors.torch
import torch

from crisp_ros.data.atomic_file import write_atomically
from crisp_ros.share import installed

from .network import SegmenterNetwork

_KIND = "crisp_ros segmenter"
_PLACE = Path("models") / "segmenter.safetensors"  # in the share directory


class SegmenterWeightsError(ValueError):
    """A file that does not hold the weights of the segmentation network."""


def bundled_weights() -> Path:
    """The weights of the package.

    Raises:
        NotInstalledError: it was installed without.
    """
    return installed(_PLACE, "name the weights of crisp train --segmenter")


def save_weights(path: Path, network: SegmenterNetwork, about: Mapping[str, str]) -> None:
    """Write weights in half precision, with texts about their origin."""
    tensors = {
        name: (value.half() if value.dtype.is_floating_point else value).contiguous()
        for name, value in network.state_dict().items()
    }
    metadata = {**about, "kind": _KIND}
    write_atomically(path, safetensors.torch.save(tensors, metadata))


def load_weights(path: Path) -> SegmenterNetwork:
    """Read a network, ready for inference.

    Raises:
        SegmenterWeightsError: missing, unreadable, or of another network.
    """
    try:
        with safetensors.safe_open(path, "pt") as file:
            kind = (file.metadata() or {}).get("kind")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, safetensors.SafetensorError) as error:
        raise SegmenterWeightsError(f"{path}: cannot be read: {error}") from error
    if kind != _KIND:
        raise SegmenterWeightsError(
            f"{path}: not weights of a segmenter; crisp train --segmenter writes such a file"
        )
    network = SegmenterNetwork()
    full = {k: v.float() if v.dtype == torch.float16 else v for k, v in tensors.items()}
    try:
        network.load_state_dict(full)
    except RuntimeError as error:
        raise SegmenterWeightsError(f"{path}: weights of another network: {error}") from error
    if not all(torch.isfinite(value.float()).all() for value in full.values()):
        raise SegmenterWeightsError(f"{path}: some weights are not finite")
    return network.eval()
