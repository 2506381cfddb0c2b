"""Import of published DINOv2 ViT-S/14 weights, the frozen backbone of `dinov2_vits14`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from crisp_ros.network.checkpoint import CheckpointError, Model
from crisp_ros.network.model import build_network
from crisp_ros.network.torch_archive import plain_weights, read_archive

_WRAPPED = ("model", "state_dict", "teacher")  # keys under which a state dict may be
_PREFIXES = ("backbone.", "model.", "")
_MASK_TOKEN = "mask_token"  # of the hub's files; timm leaves it out, and nothing here reads it


def import_backbone(path: Path | str) -> Model:
    """A model of `dinov2_vits14` with a published backbone; all heads are random.

    It is what `crisp train --backbone` starts from, not a model to estimate with.

    Args:
        path: `dinov2_vits14_pretrain.pth` of torch hub, or the weights of timm's
            `vit_small_patch14_dinov2` as .safetensors or .bin.

    Raises:
        CheckpointError: the file is missing, damaged, or not of this network.
    """
    path = Path(path)
    network = build_network("dinov2_vits14")
    expected = network.backbone.state_dict()
    weights = _unprefixed(_read(path))
    weights.setdefault(_MASK_TOKEN, torch.zeros_like(expected[_MASK_TOKEN]))
    missing = sorted(set(expected) - set(weights))
    unexpected = sorted(set(weights) - set(expected))
    shapes = {n: tuple(w.shape) for n, w in weights.items()}
    wrong = [
        f"{name} {shapes[name]} instead of {tuple(weight.shape)}"
        for name, weight in expected.items()
        if name in weights and shapes[name] != tuple(weight.shape)
    ]
    if missing or unexpected or wrong:
        hint = "; with registers it is another network" if "register" in str(unexpected) else ""
        raise CheckpointError(
            path,
            "incompatible",
            f"not DINOv2 ViT-S/14: missing {missing[:3]}, unexpected {unexpected[:3]}, "
            f"of another shape {wrong[:3]}{hint}",
        )
    network.backbone.load_state_dict(weights)
    header = {
        "recipe": "backbone imported from published weights; heads and decoder are random",
        "data": {"file": path.name},
        "figures": {},
        "version": f"backbone-{path.stem}",
    }
    return Model(network.eval(), None, header)


def _read(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        try:
            return plain_weights(path, safetensors.torch.load_file(path))
        except FileNotFoundError as error:
            raise CheckpointError(path, "missing", "there is no such file") from error
        except (safetensors.SafetensorError, OSError) as error:
            raise CheckpointError(path, "corrupt", str(error)) from error
    state = read_archive(path)
    for key in _WRAPPED:
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
            state = state[key]
    if not isinstance(state, Mapping):
        raise CheckpointError(path, "wrong format", "it is no dictionary of weights")
    return plain_weights(path, state)


def _unprefixed(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights without a common prefix, and without a classifier that timm may append."""
    prefix = next((p for p in _PREFIXES if f"{p}cls_token" in weights), "")
    kept = {n.removeprefix(prefix): w for n, w in weights.items() if n.startswith(prefix)}
    return {n: w for n, w in kept.items() if not n.startswith("head.")}
