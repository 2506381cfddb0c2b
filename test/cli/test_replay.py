"""`crisp replay`: a dumped frame is estimated again, by the model that estimated it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from adaptation_samples import CHECKPOINT, CPU, samples, scene, small_reference
from safetensors.numpy import save_file

from crisp_ros.adaptation.learner import LearnerSettings
from crisp_ros.adaptation.self_trainer import SelfTrainer, SelfTrainingSettings
from crisp_ros.cli.main import main
from crisp_ros.network.checkpoint import load_model
from crisp_ros.pipeline import Estimator, EstimatorSettings, FrameEstimate
from crisp_ros.pipeline.frame_dump import FrameDump

SETTINGS = EstimatorSettings(corrector=None, visibility=None)
LEARNING = SelfTrainingSettings(
    learner=LearnerSettings(pnc_scale=1e3, code_scale=0.05, averaging=0.9), steps_per_candidate=3
)


class Node:
    """Stand-in for a node with a self-trained model."""

    def __init__(self, seed: int = 0) -> None:
        self.estimator = Estimator(load_model(CHECKPOINT), SETTINGS)
        self.trainer = SelfTrainer(
            self.estimator.model,
            small_reference(),
            dataclasses.replace(LEARNING, seed=seed),
            CPU,
            self.estimator.adopt,
        )

    def learn(self) -> None:
        """Take new weights into use."""
        before = self.trainer.status.swaps
        self.trainer.observe(samples(range(0, 60, 2)), self.trainer.status.version)
        while self.trainer.status.swaps == before:
            assert self.trainer.work()

    def dump(self, path: Path) -> FrameDump:
        frame = scene()
        estimate = self.estimator.estimate(frame)
        threads = torch.get_num_threads()
        dump = FrameDump(
            frame, estimate, SETTINGS, str(CHECKPOINT), "cpu", threads, {"stamp": "1.5"}
        )
        dump.write(path)
        return dump


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Frames and models of a node that learned: before it did, in between, and at the end."""
    folder, node = tmp_path_factory.mktemp("outputs"), Node()
    for name in ("first", "second", "third"):
        if name != "first":
            node.learn()
        node.dump(folder / f"frame_{name}.safetensors")
        node.trainer.save(folder / f"{name}.safetensors")
    return folder


def replay(capsys, *arguments: object) -> tuple[int, str, str]:
    """Exit status, output and errors."""
    status = main(["replay", *map(str, arguments)])
    printed = capsys.readouterr()
    return status, printed.out, printed.err


def test_a_frame_of_the_shipped_model_needs_no_other(folder: Path, capsys) -> None:
    status, out, _ = replay(capsys, folder / "frame_first.safetensors")
    assert status == 0 and "identical to the last bit" in out and "not identical" not in out


def test_repeated_estimate_is_shown(folder: Path, capsys, monkeypatch, tmp_path) -> None:
    shown = []
    monkeypatch.setattr("crisp_ros.cli.view.show", shown.extend)
    dump = folder / "frame_first.safetensors"
    assert replay(capsys, dump, "--view")[0] == 0
    (viewed,) = shown
    assert [o.label for o in viewed.objects] == [1, 2, 3, 4]
    assert len(viewed.meshes) == 4 and not viewed.meshes[0].is_empty
    pictures = []
    monkeypatch.setattr(
        "crisp_ros.cli.view.write_pictures", lambda frames, to: pictures.append(to) or iter(())
    )
    assert replay(capsys, dump, "--png", tmp_path)[0] == 0
    assert pictures == [tmp_path] and len(shown) == 1


@pytest.mark.parametrize("name", ["first", "second", "third"])
def test_a_model_that_trained_itself_is_saved_and_named(folder, name, capsys, tmp_path) -> None:
    model, report = folder / f"{name}.safetensors", tmp_path / "replay.json"
    options = ("--checkpoint", model, "--json", report)
    status, out, _ = replay(capsys, folder / f"frame_{name}.safetensors", *options)
    assert status == 0 and "not identical" not in out
    written = json.loads(report.read_text())
    assert written["identical"] and [o["label"] for o in written["objects"]] == [1, 2, 3, 4]
    assert written["model_version"] == Estimator(load_model(model)).model_version


def test_other_weights_than_those_that_estimated_are_refused(folder, tmp_path, capsys) -> None:
    other = Node(seed=1)
    other.learn()
    other.trainer.save(tmp_path / "other.safetensors")
    dump = folder / "frame_second.safetensors"
    for model in (CHECKPOINT, folder / "third.safetensors", tmp_path / "other.safetensors"):
        status, _, err = replay(capsys, dump, "--checkpoint", model)
        assert status == 1 and err.count("\n") == 1
        assert f"{model} is model 1.2.0-" in err and "the frame was estimated by 1.2.0-" in err
    status, _, err = replay(capsys, dump)
    assert status == 1 and "~/save_checkpoint" in err and "--checkpoint" in err


def moved(estimate: FrameEstimate, metres: float) -> FrameEstimate:
    """The second object elsewhere."""
    first, second, *others = estimate.objects
    T = second.T_camera_object.copy()
    T[0, 3] += metres
    second = dataclasses.replace(second, T_camera_object=T)
    return dataclasses.replace(estimate, objects=(first, second, *others))


def test_another_pose_fails(tmp_path: Path, capsys) -> None:
    dump, path = Node().dump(tmp_path / "frame.safetensors"), tmp_path / "frame.safetensors"
    for metres, status, words in (
        (5e-5, 0, ""),
        (2e-3, 1, "not reproduced: label 2 by 2 mm, 0 deg"),
    ):
        dataclasses.replace(dump, estimate=moved(dump.estimate, metres)).write(path)
        found, out, err = replay(capsys, path)
        assert found == status and "not identical to the last bit" in out and words in err


def test_a_missing_device_is_reported(tmp_path: Path, capsys) -> None:
    path = tmp_path / "frame.safetensors"
    dump = Node().dump(path)
    dataclasses.replace(dump, device="cuda:99").write(path)
    status, _, err = replay(capsys, path)
    assert status == 1 and "cuda:99" in err and "--device" in err and err.count("\n") == 1
    assert replay(capsys, path, "--device", "cpu")[0] == 0


def test_other_files_are_refused_in_one_line(folder: Path, tmp_path: Path, capsys) -> None:
    text, other, cut, older = (tmp_path / f"{n}.safetensors" for n in ("a", "b", "c", "d"))
    text.write_text("no tensors")
    save_file({"x": np.zeros(3)}, other)
    cut.write_bytes((folder / "frame_first.safetensors").read_bytes()[:-100])
    save_file({"x": np.zeros(3)}, older, {"format": "crisp_ros frame 1", "content": "{}"})
    for path, words in (
        (tmp_path / "none.safetensors", "no such file"),
        (tmp_path, "is a directory"),
        (text, "not a dumped frame"),
        (other, "not a dumped frame"),
        (cut, "not a dumped frame"),
        (older, "not a dumped frame of this version"),
    ):
        status, _, err = replay(capsys, path)
        assert status == 1 and words in err and err.count("\n") == 1, err
