import json
from dataclasses import replace

import pytest
import torch
from adaptation_samples import CHECKPOINT, scene, shipped_model, small_reference

from crisp_ros.adaptation.learner import LearnerSettings
from crisp_ros.adaptation.recipes import RECIPES
from crisp_ros.adaptation.recorded_self_training import (
    STATE_NAME,
    ProgressError,
    RecordedSelfTraining,
    SequenceFrame,
)
from crisp_ros.adaptation.samples import samples_of
from crisp_ros.adaptation.self_trainer import SelfTrainingSettings
from crisp_ros.adaptation.view_pool import ViewPool
from crisp_ros.correction.certificate import CertificateSettings
from crisp_ros.correction.corrector import CorrectorSettings
from crisp_ros.network.checkpoint import load_model
from crisp_ros.pipeline import EstimatorSettings

LEARNING = SelfTrainingSettings(
    learner=LearnerSettings(pnc_scale=1e3, code_scale=0.05), replay=3.0, steps_per_candidate=4
)
# Everything is certified: here it is the bookkeeping that is tested.
ESTIMATING = EstimatorSettings(
    corrector=None, visibility=None, certificate=CertificateSettings(0.5, 1.0, minimum_coverage=0)
)
# Crops from which each pass learns something that is taken into use, also when the code is mixed.
FRAMES = [SequenceFrame(scene(rows)) for rows in ((2, 9), (16, 23), (30, 37))]


# Remark 3 needs a shape step. Mixtures of library shapes differ from view to view.
MIXING = replace(ESTIMATING, corrector=CorrectorSettings(shape="projected_gradient"))
SEQUENCE = [frame._replace(sequence="table") for frame in FRAMES]


def papers_training(folder, batch=3):
    settings = replace(RECIPES["ycbv"].learner, batch=batch)
    return RecordedSelfTraining(load_model(CHECKPOINT), None, settings, MIXING, folder)


def training(folder):
    return RecordedSelfTraining(
        load_model(CHECKPOINT), small_reference(), LEARNING, ESTIMATING, folder
    )


def test_all_frames_in_all_passes_and_the_state_can_be_continued(tmp_path):
    done = []
    first = training(tmp_path)
    first.run(lambda: FRAMES, 3, 1, lambda i, total: done.append((i, total)))
    assert done == [(1, 3), (2, 3), (3, 3)]
    status = first.status
    assert status.steps > 0 and status.swaps + status.refused >= 1
    learned = load_model(tmp_path / STATE_NAME)
    for name, value in first.model().network.state_dict().items():
        assert torch.equal(learned.network.state_dict()[name], value)

    again = training(tmp_path)
    again.run(lambda: pytest.fail("there is nothing left to do"), 3, 1)
    assert again.frames_done == 3 and again.status.buffered == status.buffered
    again.run(lambda: FRAMES, 3, 2, lambda i, total: done.append((i, total)))
    assert done[3:] == [(4, 6), (5, 6), (6, 6)]


def test_a_run_that_is_ended_goes_on_from_its_last_state(tmp_path):
    def stop(done, total):
        if done == 2:
            raise KeyboardInterrupt

    first = training(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        first.run(lambda: FRAMES, 3, 2, stop)
    seen = []

    def frames():
        for index, frame in enumerate(FRAMES):
            seen.append(index)
            yield frame

    training(tmp_path).run(frames, 3, 1)
    assert seen == [0, 1, 2]  # two of them only skipped
    assert json.loads((tmp_path / "progress.json").read_text()) == {"frames_done": 3}


def kept_by(tmp_path, *shares):
    """The training, the model it began with, and what is kept by the shares after each pass."""
    done, start, asked = training(tmp_path), shipped_model(), []
    done.run(lambda: FRAMES, 3, len(shares) - 1)

    def share(model, passes):
        asked.append(model.header["version"])
        return shares[passes]

    kept = done.best_model(start, len(shares) - 1, share)
    assert list(kept.shares.values()) == list(shares)
    assert len(set(asked)) == len(shares), "each time other heads"
    return done, start, kept


def test_the_heads_that_certify_most_are_kept(tmp_path):
    done, _, kept = kept_by(tmp_path, 0.70, 0.72, 0.71)
    assert kept.passes == 1
    assert 0 < kept.model.header["self_training"]["steps"] < done.status.steps
    assert kept.model.header["version"] != done.model().header["version"]


def test_of_equals_the_newest_are_kept(tmp_path):
    done, _, kept = kept_by(tmp_path, 0.7, 0.7, 0.7)
    assert kept.passes == 2
    for name, value in done.model().network.state_dict().items():
        assert torch.equal(kept.model.network.state_dict()[name], value)


def test_if_every_pass_certifies_less_the_model_is_unchanged(tmp_path):
    _, start, kept = kept_by(tmp_path, 0.70, 0.69)
    assert kept.passes == 0 and kept.model is start


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    (tmp_path / "progress.json").write_text('{"frames_done": "many"}')
    with pytest.raises(ProgressError, match="name a new folder"):
        training(tmp_path)
    assert shipped_model().library is not None


def test_objects_of_a_sequence_learn_the_shape_of_all_views(tmp_path):
    """Remark 3: the codes that are learned from are those of the pooled views, frame by frame."""
    many = 100  # no step is taken: each frame is estimated with the original heads
    alone, pooled = papers_training(tmp_path / "a", many), papers_training(tmp_path / "b", many)
    alone.run(lambda: FRAMES[:2], 2, 1)
    pooled.run(lambda: SEQUENCE[:2], 2, 1)
    estimator = alone.estimator
    oracle = ViewPool(estimator.field, estimator.prepared_library, MIXING.corrector)
    expected = []
    for frame, _ in FRAMES[:2]:
        keys = {1: "table/1", 2: "table/2"}
        expected += oracle.with_pooled_codes(samples_of(estimator.trace(frame).solutions, keys))
    learned, own = pooled._trainer._waiting, alone._trainer._waiting
    assert [s.key for s in learned] == ["table/1", "table/2"] * 2
    for i, (used, wanted, single) in enumerate(zip(learned, expected, own, strict=True)):
        torch.testing.assert_close(used.code, wanted.code)
        assert torch.equal(used.code, single.code) == (i < 2), "from the second view on"


def test_a_continued_run_equals_an_uninterrupted_one(tmp_path):
    """Waiting samples and pooled views are part of the state."""
    whole = papers_training(tmp_path / "whole")
    whole.run(lambda: SEQUENCE, 3, 1)

    def stop(done, total):
        if done == 1:  # two samples wait for a third
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        papers_training(tmp_path / "parts").run(lambda: SEQUENCE, 3, 1, stop)
    again = papers_training(tmp_path / "parts")
    assert len(again._trainer._waiting) == 2 == len(again._pool)
    again.run(lambda: SEQUENCE, 3, 1)
    assert again._trainer.steps == whole._trainer.steps == 2
    expected = whole.model().network.state_dict()
    for name, value in again.model().network.state_dict().items():
        assert torch.equal(value, expected[name]), name


def test_an_interrupted_step_is_taken_once(tmp_path, monkeypatch):
    """A run that ends while a frame is learned from goes on from the state before that frame."""
    first = papers_training(tmp_path)
    first.run(lambda: SEQUENCE[:1], 1, 1)
    observe = first._trainer.observe

    def interrupted(samples, version):
        observe(samples, version)
        raise KeyboardInterrupt

    monkeypatch.setattr(first._trainer, "observe", interrupted)
    with pytest.raises(KeyboardInterrupt):
        first.run(lambda: SEQUENCE, 3, 1)
    again = papers_training(tmp_path)
    assert again.frames_done == 1 and len(again._trainer._waiting) == 2 == len(again._pool)


@pytest.mark.parametrize("name", ["state.samples.safetensors", "views.safetensors"])
def test_a_state_without_its_samples_is_refused(tmp_path, name):
    papers_training(tmp_path).run(lambda: SEQUENCE[:1], 1, 1)
    (tmp_path / name).unlink()
    with pytest.raises(ProgressError, match="name a new folder"):
        papers_training(tmp_path)
