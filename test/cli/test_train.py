"""`crisp train`: killed at any moment it is continued; logs; bad input is one line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import trimesh
from drawing import needs_egl
from tiny_bop import primitives

from crisp_ros.cli.main import main
from crisp_ros.cli.train import _figures_log
from crisp_ros.network.checkpoint import load_model
from crisp_ros.segmentation.network import SegmenterNetwork
from crisp_ros.segmentation.weights import load_weights
from crisp_ros.synthesis.renderer import Renderer
from crisp_ros.training.processes import Processes

RECIPE = """
shards: 2
shard_crops: 16
stored_px: 48
shape_codes: {steps: 10}
training: {steps: 8, batch: 4, crop_px: 32, held_out_crops: 4, evaluate_every: 8, save_every: 1}
"""


@pytest.fixture
def options(tmp_path: Path) -> list[str]:
    (tmp_path / "meshes").mkdir()
    box = primitives()[1]
    box.visual.face_colors = [200, 30, 30, 255]
    box.export(tmp_path / "meshes" / "box.ply")
    primitives()[2].export(tmp_path / "meshes" / "can.obj")
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    return ["train", "--models", str(tmp_path / "meshes"), "--recipe",
            str(tmp_path / "recipe.yaml"), "--run", str(tmp_path / "run"), "--threads", "1",
            "--output", str(tmp_path / "model.safetensors")]  # fmt: skip


@pytest.mark.slow
def test_a_killed_run_is_continued(options: list[str], tmp_path: Path) -> None:
    try:
        Renderer([trimesh.creation.box((0.1, 0.1, 0.1))], 8, 8).release()
    except RuntimeError as error:
        pytest.skip(str(error))
    run = tmp_path / "run"
    for sign in ("crops/shard_0000.json", "shape_codes.pt", "network/state.pt"):
        process = subprocess.Popen([sys.executable, "-m", "crisp_ros.cli", *options])
        while not (run / sign).exists():
            assert process.poll() is None, f"ended before {sign}"
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert not (tmp_path / "model.safetensors").exists()
    kept = (run / "shape_codes.pt").stat().st_mtime_ns
    subprocess.run([sys.executable, "-m", "crisp_ros.cli", *options], check=True)
    assert (run / "shape_codes.pt").stat().st_mtime_ns == kept
    library = load_model(tmp_path / "model.safetensors").library
    assert library.names == ("box", "can")
    assert library.colors[0].rgb.float().mean(0).tolist() == [200.0, 30.0, 30.0]
    assert "# model.safetensors" in (tmp_path / "model.md").read_text()


def test_figures_go_to_tensorboard(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    args = SimpleNamespace(tensorboard=True, run=tmp_path)
    log = _figures_log(args, Processes())
    log("network", {"step": 50, "pnc_loss": 0.25})
    log("network", {"step": 100, "pnc_loss": 0.125})
    read = EventAccumulator(str(tmp_path / "tensorboard"))
    read.Reload()
    events = read.Scalars("network/pnc_loss")
    assert [(event.step, event.value) for event in events] == [(50, 0.25), (100, 0.125)]


@pytest.mark.parametrize(
    "extra, complaint",
    [
        (["--recipe", "absent.yaml"], "absent.yaml"),
        (["--models", "nowhere"], "nowhere"),
        (["--from", "absent.safetensors"], "absent.safetensors"),
        (["--backbone", "absent.safetensors"], "absent.safetensors"),
    ],
)
def test_bad_input_is_one_line(
    options: list[str], capsys: pytest.CaptureFixture[str], extra: list[str], complaint: str
) -> None:
    assert main([*options, *extra]) == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if "crisp train" in line]
    assert len(errors) == 1 and complaint in errors[0]


def test_a_segmenter_is_trained_on_renders(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    needs_egl()
    output = tmp_path / "segmenter.safetensors"
    arguments = ["train", "--segmenter", "--run", str(tmp_path / "run"), "--output", str(output)]
    assert main([*arguments, "--steps", "1", "--rendered-frames", "2"]) == 0
    assert isinstance(load_weights(output), SegmenterNetwork)
    assert "frames: files 1, of 1" in capsys.readouterr().out


def test_a_training_without_objects_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--run", str(tmp_path / "run"), "--output", str(tmp_path / "m.safetensors")]
    assert main(["train", *arguments]) == 1
    assert "--models or --data" in capsys.readouterr().err
