"""Shared options: devices, output files, the default model file, progress in logs."""

import argparse
from pathlib import Path

import pytest
import torch

import crisp_ros
from crisp_ros.cli import options
from crisp_ros.cli.options import OptionError, checkpoint_path, device, output_file, progress


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


@pytest.mark.parametrize("folder", ["models", "share/crisp_ros/models"])
def test_the_default_model_is_found_beside_source_and_installation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    package = tmp_path / "lib/python3/site-packages/crisp_ros/__init__.py"
    monkeypatch.setattr(crisp_ros, "__file__", str(package))
    monkeypatch.setattr(options, "CHECKPOINT_NAME", "none_of_this_name.safetensors")
    with pytest.raises(OptionError, match="--checkpoint"):
        checkpoint_path(None)
    place = (package.parents[1] if folder == "models" else tmp_path) / folder
    place.mkdir(parents=True)
    (place / options.CHECKPOINT_NAME).touch()
    assert checkpoint_path(None) == place / options.CHECKPOINT_NAME
    assert checkpoint_path(Path("other")) == Path("other")


def test_a_log_gets_a_line_every_tenth(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("images") as on_image:
        for done in range(1, 201):
            on_image(done, 200)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 10 and lines[0] == "images: 20/200" and lines[-1] == "images: 200/200"
