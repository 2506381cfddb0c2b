import json

import pytest
import torch
from adaptation_samples import CHECKPOINT, scene, shipped_model, small_reference

from crisp_ros.adaptation.learner import LearnerSettings
from crisp_ros.adaptation.recorded_self_training import (
    STATE_NAME,
    ProgressError,
    RecordedSelfTraining,
    SequenceFrame,
)
from crisp_ros.adaptation.self_trainer import SelfTrainingSettings
from crisp_ros.correction.certificate import CertificateSettings
from crisp_ros.network.checkpoint import load_model
from crisp_ros.pipeline import EstimatorSettings

LEARNING = SelfTrainingSettings(
    learner=LearnerSettings(pnc_scale=1e3, code_scale=0.05), replay=3.0, steps_per_candidate=4
)
# Everything is certified: here it is the bookkeeping that is tested.
ESTIMATING = EstimatorSettings(
    corrector=None, visibility=None, certificate=CertificateSettings(0.5, 1.0, minimum_coverage=0)
)
FRAMES = [SequenceFrame(scene(rows)) for rows in ((0, 7), (14, 21), (28, 35))]


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
