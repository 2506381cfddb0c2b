"""Training of the segmentation network: targets, frames, and a run that continues."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from drawing import needs_egl

from crisp_ros.segmentation.network import OFFSET_PX
from crisp_ros.segmentation.votes import VoteSettings, voted_labels
from crisp_ros.synthesis.clutter_frames import ClutterSettings
from crisp_ros.training import segmenter_run
from crisp_ros.training.segmenter_frames import StoredFrames, read_frames
from crisp_ros.training.segmenter_run import SegmenterTraining, train_segmenter
from crisp_ros.training.segmenter_samples import segmenter_sample, segmenter_targets

TINY = SegmenterTraining(
    files=1, frames=4, steps=2, batch=2, scenes=ClutterSettings(width=64, height=64)
)


def test_targets_lead_every_pixel_to_its_objects_centre() -> None:
    labels = np.zeros((80, 80), np.uint8)
    labels[20:40, 20:40], labels[20:40, 40:60] = 3, 7
    small, offset, border, weight = segmenter_targets(labels)
    assert offset[:, 15, 15] * OFFSET_PX == pytest.approx([14.5 - 15, 14.5 - 15])
    assert offset[:, 15, 25] * OFFSET_PX == pytest.approx([24.5 - 25, 14.5 - 15])
    assert border[15, 18:22].all() and border.sum() == 4 * 10
    assert (weight[small == 0] == 0).all() and weight[15, 15] == pytest.approx(0.1)
    found = voted_labels(small > 0, offset * OFFSET_PX, VoteSettings())
    assert {tuple(np.unique(found[small == i])) for i in (3, 7)} == {(1,), (2,)}


def test_a_mirrored_sample_has_mirrored_points() -> None:
    frames = StoredFrames(
        np.zeros((1, 8, 8, 3), np.uint8),
        np.full((1, 8, 8), 10_000, np.uint16),
        np.concatenate((np.ones((1, 8, 4), np.uint8), np.zeros((1, 8, 4), np.uint8)), axis=2),
        np.array([[8.0, 8.0, 3.5, 3.5]]),
        np.array([[0.0, 0.0, -1.0, 1.0]]),
    )
    left = set()
    for seed in range(6):
        sample = segmenter_sample(frames, 0, np.random.default_rng(seed))
        inputs = sample.inputs
        left.add(int(sample.labels[0, 0]))
        assert (np.diff(inputs[3], axis=1) > 0).all() and inputs[3].mean() == pytest.approx(0)
    assert left == {0, 1}, "some are mirrored, some are not"


def test_a_run_continues_where_it_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs_egl()
    steps, train = [], segmenter_run._State.train
    monkeypatch.setattr(
        segmenter_run._State, "train", lambda self, *batch: steps.append(1) or train(self, *batch)
    )
    reports: list[tuple[str, dict]] = []
    train_segmenter([], tmp_path, TINY, lambda stage, figures: reports.append((stage, figures)))
    assert reports == [("frames", {"files": 1, "of": 1})]
    assert len(read_frames(tmp_path / "frames" / "frames_000.npz").rgb) == 4
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    assert state["step"] == 2
    trained = train_segmenter([], tmp_path, replace(TINY, steps=3))
    assert torch.load(tmp_path / "state.pt", weights_only=True)["step"] == 3
    before, after = state["averaged"], trained.state_dict()
    assert not torch.equal(before["fine.weight"], after["fine.weight"])
    same = train_segmenter([], tmp_path, replace(TINY, steps=3))
    assert torch.equal(same.state_dict()["fine.weight"], after["fine.weight"])
    assert len(steps) == 3, "two steps, one more, and none"
