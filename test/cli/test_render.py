"""`crisp render recording`: from a folder of models to a recording that `Recording` reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import trimesh
from drawing import needs_egl
from scipy.spatial import cKDTree
from tiny_bop import primitives, write_tiny_bop

from crisp_ros.cli.main import main
from crisp_ros.data.recording import Recording
from crisp_ros.evaluation.true_shapes import SHAPES_NAME, load_shapes


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bop(tmp_path_factory.mktemp("tiny")) / "models"


@pytest.fixture
def egl() -> None:
    needs_egl()


def test_a_recording_holds_frames_truth_and_shapes(
    egl: None, models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "bag"
    options = ["--models", str(models), "--output", str(folder), "--objects", "1,5"]
    assert main(["render", "recording", *options, "--frames", "2"]) == 0
    printed = capsys.readouterr()
    assert "2 frames" in printed.out and "frames: 2/2" in printed.err
    first, second = Recording(folder).frames()
    assert first.rgb.shape == (480, 640, 3)
    assert first.label_names == {1: "box", 2: "ball"}
    assert {true.name for true in first.truth} <= {"box", "ball"} and first.truth
    assert not np.allclose(first.T_world_camera, second.T_world_camera)
    shapes = load_shapes(folder / SHAPES_NAME)
    box = trimesh.sample.sample_surface_even(primitives()[1], 20_000, seed=0)[0]
    assert cKDTree(box).query(shapes["box"].points)[0].max() < 0.004
    assert len(shapes["box"].points) == 5_000  # as `crisp evaluate bop` takes
    assert len(shapes["box"].symmetries) == 2 and len(shapes["ball"].symmetries) == 1


@pytest.mark.parametrize(
    "options, status, complaint",
    [
        (["--objects", "1,7"], 1, "no model 7; it has 1, 2, 5"),
        (["--objects", "1,1"], 2, "expected each model once"),
        (["--objects", "mug"], 2, "expected ids such as 1,2,5"),
        (["--frames", "0"], 2, "expected a number from 1 on"),
        (["--models", "nowhere"], 1, "models_info.json"),
    ],
)
def test_bad_options_are_one_line(
    models: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    status: int,
    complaint: str,
) -> None:
    arguments = ["render", "recording", "--models", str(models), "--output", str(tmp_path / "bag")]
    try:
        assert main([*arguments, *options]) == status
    except SystemExit as end:
        assert end.code == status
    error = capsys.readouterr().err
    assert complaint in error and error.count("\n") == 1
    assert not (tmp_path / "bag").exists()


def test_an_existing_folder_is_kept(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "precious").touch()
    options = ["--models", str(models), "--output", str(tmp_path), "--objects", "1"]
    assert main(["render", "recording", *options]) == 1
    assert "exists already" in capsys.readouterr().err and (tmp_path / "precious").exists()
