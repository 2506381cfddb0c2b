"""Shared options: devices and output files."""

import argparse
from pathlib import Path

import pytest
import torch

from crisp_ros.cli.options import device, output_file


def test_devices_are_checked() -> None:
    assert device("cpu") == "cpu"
    with pytest.raises(argparse.ArgumentTypeError, match="not a device"):
        device("gpu0")
    beyond = f"cuda:{torch.cuda.device_count()}"
    with pytest.raises(argparse.ArgumentTypeError, match="no device cuda"):
        device(beyond)


def test_a_folder_is_no_output_file(tmp_path: Path) -> None:
    assert output_file(str(tmp_path / "new.json")) == tmp_path / "new.json"
    with pytest.raises(argparse.ArgumentTypeError, match="is a folder"):
        output_file(str(tmp_path))
