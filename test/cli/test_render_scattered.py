"""`crisp render scattered` and `crisp render reference`: what self-training and its guard need."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from drawing import needs_egl
from tiny_bop import write_tiny_bop

from crisp_ros.adaptation.reference_set import load_reference, reference_path
from crisp_ros.cli.main import main
from crisp_ros.data.bop import BopDataset, BopFrame
from crisp_ros.network.checkpoint import Model, load_model, save_model
from crisp_ros.network.library import ShapeLibrary
from crisp_ros.share import share_directory

SHIPPED = share_directory() / "models" / "crisp_ycbv_compact.safetensors"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bop(tmp_path_factory.mktemp("tiny")) / "models"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped network with three of its shapes under the names of the tiny set's."""
    whole = load_model(SHIPPED)
    parts = (whole.library.codes, whole.library.lower, whole.library.upper)
    library = ShapeLibrary(("box", "can", "ball"), *(part[:3] for part in parts))
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    save_model(path, Model(whole.network, library, {"version": "tiny"}))
    return path


@pytest.fixture(autouse=True)
def egl() -> None:
    needs_egl()


def scattered(models: Path, folder: Path, *options: str) -> list[BopFrame]:
    arguments = ["--models", str(models), "--output", str(folder), "--frames", "2", *options]
    assert main(["render", "scattered", *arguments]) == 0
    return list(BopDataset(folder).frames())


def test_frames_come_with_truth_that_fits_their_depth(models: Path, tmp_path: Path) -> None:
    frames = scattered(models, tmp_path / "day")
    assert len(frames) == 2 and frames[0].rgb.shape == (480, 640, 3)
    assert sorted(p.name for p in (tmp_path / "day" / "models").iterdir()) == sorted(
        p.name for p in models.iterdir()
    )
    for frame in frames:
        assert frame.instances
        for instance in frame.instances:
            depth = frame.depth[frame.labels == instance.label]
            seen = np.median(depth[depth > 0])
            assert abs(seen - instance.T_camera_object[2, 3]) < 0.12, "the objects are 12 cm large"
            assert np.count_nonzero(frame.labels == instance.label) > 500


def test_a_seed_is_repeatable_and_the_domain_changes_colours(models: Path, tmp_path: Path) -> None:
    first, again = (scattered(models, tmp_path / name, "--seed", "3") for name in "ab")
    other = scattered(models, tmp_path / "c", "--seed", "4")
    dusk = scattered(models, tmp_path / "d", "--seed", "3", "--domain", "dusk")
    for frame, same in zip(first, again, strict=True):
        assert np.array_equal(frame.rgb, same.rgb) and np.array_equal(frame.depth, same.depth)
    assert not np.array_equal(first[0].labels, other[0].labels)
    for frame, dark in zip(first, dusk, strict=True):
        assert np.array_equal(frame.labels, dark.labels)
        red, blue = (float(dark.rgb[..., c].mean() / frame.rgb[..., c].mean()) for c in (0, 2))
        assert blue < red, "a warm lamp"


def test_a_reference_set_is_written_next_to_its_model(
    models: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "own.safetensors"
    shutil.copy(checkpoint, path)
    options = ["--models", str(models), "--checkpoint", str(path), "--crops", "2"]
    assert main(["render", "reference", *options]) == 0
    reference = load_reference(reference_path(path), load_model(path))
    assert len(reference) == 6 and sorted(reference.shape.tolist()) == [0, 0, 1, 1, 2, 2]
    assert all(0.0 <= value <= 1.0 for value in reference.original)
    assert f"6 crops, pose accuracy {reference.original.pose:.3f}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("kind", "options", "status", "complaint"),
    [
        ("scattered", ["--models", "nowhere"], 1, "models_info.json"),
        ("scattered", ["--domain", "night"], 2, "invalid choice"),
        ("scattered", ["--frames", "0"], 2, "from 1 on"),
        ("scattered", ["--output", "."], 1, "exists already"),
        ("reference", ["--models", "nowhere"], 1, "models_info.json"),
        ("reference", [], 1, "not in the model's library"),
        ("reference", ["--checkpoint", "nowhere"], 1, "nowhere"),
    ],
)
def test_bad_options_are_a_one_line_error(
    models: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    kind: str,
    options: list[str],
    status: int,
    complaint: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "test").mkdir()
    arguments = ["--models", str(models)]
    if kind == "scattered":
        arguments += ["--output", "new"]
    elif "--checkpoint" not in options:
        shutil.copy(SHIPPED, tmp_path / "model.safetensors")
        arguments += ["--checkpoint", "model.safetensors"]
    try:
        assert main(["render", kind, *arguments, *options]) == status
    except SystemExit as end:
        assert end.code == status
    error = capsys.readouterr().err
    lines = [line for line in error.splitlines() if not line.startswith("frames")]
    assert complaint in error and len(lines) == 1
    assert not (tmp_path / "new" / "test").exists()
