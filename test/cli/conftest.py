"""A data set and a model for the commands' tests, both small."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from known import load_known
from tiny_bop import write_tiny_bop
from tiny_model import write_tiny_model

from crisp_ros.network.checkpoint import Model, save_model
from crisp_ros.network.model import CrispNetwork, network_config


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a data set in BOP layout; see tiny_bop."""
    return write_tiny_bop(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """See tiny_model."""
    return write_tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="session")
def household(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained network whose decoder and library know the eight analytic shapes."""
    torch.manual_seed(0)
    shapes = load_known()
    hidden = shapes.decoder.final_layer.weight.shape[1]
    config = dataclasses.replace(
        network_config("compact"), shape_hidden=(16,), decoder_hidden=hidden
    )
    network = CrispNetwork(config)
    network.decoder.load_state_dict(shapes.decoder.state_dict())
    path = tmp_path_factory.mktemp("household") / "household.safetensors"
    save_model(path, Model(network, shapes.library, {"version": "1.2.3"}))
    return path
