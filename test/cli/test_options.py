"""Shared options: devices, output files, the default model file, progress in logs."""

import argparse
from pathlib import Path

import pytest
import torch

from crisp_ros import share
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


@pytest.mark.parametrize("folder", [".", "share/crisp_ros"])
def test_the_default_model_is_found_beside_source_and_installation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    monkeypatch.setattr(share, "__file__", str(tmp_path / "crisp_ros" / "share.py"))
    monkeypatch.setattr("sys.prefix", str(tmp_path / "nowhere"))
    with pytest.raises(OptionError, match="package.xml.*--checkpoint"):
        checkpoint_path(None)
    place = tmp_path / folder
    place.mkdir(parents=True, exist_ok=True)
    (place / "package.xml").touch()
    with pytest.raises(OptionError, match="did not come.*--checkpoint"):
        checkpoint_path(None)
    (place / share.DEFAULT_CHECKPOINT).parent.mkdir()
    (place / share.DEFAULT_CHECKPOINT).touch()
    assert checkpoint_path(None) == place / share.DEFAULT_CHECKPOINT
    assert checkpoint_path(Path("other")) == Path("other")


def test_a_log_gets_a_line_every_tenth(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("images") as on_image:
        for done in range(1, 201):
            on_image(done, 200)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 10 and lines[0] == "images: 20/200" and lines[-1] == "images: 200/200"
