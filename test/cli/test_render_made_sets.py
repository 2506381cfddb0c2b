"""`crisp render spe3r` and `nocs`: whole data sets for the commands of the real ones."""

from __future__ import annotations

from pathlib import Path

import pytest
from drawing import needs_egl

pytest.importorskip("manifold3d")

from crisp_ros.cli.main import main
from crisp_ros.data.spe3r import Spe3rDataset


def test_satellites_are_made_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    needs_egl()
    folder = tmp_path / "made"
    numbers = ["--satellites", "1", "--test-satellites", "2", "--images", "1"]
    assert main(["render", "spe3r", "--output", str(folder), *numbers, "--seed", "3"]) == 0
    assert "3 images" in capsys.readouterr().out
    assert len(Spe3rDataset(folder, "test").images) == 2
    assert len(Spe3rDataset(folder, "train").images) == 1


@pytest.mark.parametrize("kind", ["nocs", "spe3r"])
def test_a_folder_with_files_is_kept(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "precious").touch()
    assert main(["render", kind, "--output", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert "choose another folder" in error and error.count("\n") == 1
    assert list(tmp_path.iterdir()) == [tmp_path / "precious"]
