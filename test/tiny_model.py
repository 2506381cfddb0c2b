"""A small model file: an untrained network with a library of three shapes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch

from crisp_ros.network.checkpoint import Model, save_model
from crisp_ros.network.library import ShapeLibrary
from crisp_ros.network.model import CrispNetwork, network_config


def write_tiny_model(folder: Path) -> Path:
    """Write the model to a folder; its shapes are named box, can and ball."""
    torch.manual_seed(0)
    config = dataclasses.replace(
        network_config("compact"), shape_hidden=(16,), decoder_hidden=8, decoder_layers=2
    )
    network = CrispNetwork(config)
    codes = torch.randn(3, network.decoder.code_dim)
    half = torch.full((3, 3), 0.06)
    path = folder / "model.safetensors"
    library = ShapeLibrary(("box", "can", "ball"), codes, -half, half)
    save_model(path, Model(network, library, {"version": "0.0.1"}))
    return path
