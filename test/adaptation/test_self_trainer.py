import dataclasses

import pytest
import torch
from adaptation_samples import CPU, samples, shipped_model, small_reference

from crisp_ros.adaptation.buffer import load_samples, samples_path
from crisp_ros.adaptation.guard import Verdict
from crisp_ros.adaptation.learner import LearnerSettings
from crisp_ros.adaptation.reference_set import Accuracy, load_reference, original_of, save_reference
from crisp_ros.adaptation.self_trainer import SelfTrainer, SelfTrainingSettings
from crisp_ros.network.checkpoint import load_model
from crisp_ros.pipeline import learned_version, model_version

GENTLE = LearnerSettings(pnc_scale=1e3, code_scale=0.05, averaging=0.9)
VIOLENT = LearnerSettings(pnc_scale=1e5, pnc_rate=3e-3)
SETTINGS = SelfTrainingSettings(learner=GENTLE, steps_per_candidate=3, held_back_every=4)


class Published(list):
    def __call__(self, weights, version):
        self.append((weights, version))


def trainer(settings=SETTINGS, published=None, model=None):
    return SelfTrainer(
        model or shipped_model(),
        small_reference(),
        settings,
        CPU,
        published if published is not None else Published(),
    )


def busy(tested, most=1000):
    done = 0
    while done < most and tested.work():
        done += 1
    return done


def until_judged(tested):
    def judged():
        return tested.status.swaps + tested.status.refused

    before = judged()
    while judged() == before:
        assert tested.work()


VERSION = model_version(shipped_model())


def test_nothing_is_learned_without_certified_samples():
    tested = trainer()
    assert not tested.work()
    tested.observe(samples(range(30), certified=False), VERSION)
    assert not tested.work() and tested.status.steps == 0
    assert tested.status.share == 0.0


def test_every_sample_teaches_so_often_and_then_the_work_is_done():
    tested = trainer(dataclasses.replace(SETTINGS, replay=3.0, steps_per_candidate=100))
    tested.observe(samples(range(12)), VERSION)
    assert busy(tested) > tested.status.steps == 12  # 12 samples, 3 times, 3 a step
    assert tested.status.buffered == 12
    # Every fourth sample of one object is held back.
    tested.observe([s for _ in range(8) for s in samples([0])], VERSION)
    assert tested.status.held_back == 2


def test_many_keys_do_not_change_the_counts():
    """Keys are names of the user's: any number of them, and any name."""
    tested = trainer()
    tested.observe(samples(range(12)), VERSION)
    busy(tested)
    before = tested.status
    assert before.steps > 0
    (one,) = samples([0], certified=False)
    names = ["steps", "swaps", "pose", *(f"object {i}" for i in range(1001))]
    for name in names:
        tested.observe([dataclasses.replace(one, key=name)], VERSION)
    after = tested.status
    for count in ("steps", "swaps", "halved", "refused", "rollbacks", "broken"):
        assert getattr(after, count) == getattr(before, count)


def test_blends_are_replaced_by_the_nearest_library_shapes(tmp_path):
    right = samples(range(0, 60, 3))
    other = shipped_model().library.codes.mean(0)
    tested = trainer()
    tested.observe(
        [dataclasses.replace(s, code=torch.lerp(s.code, other, 0.2)) for s in right], VERSION
    )
    tested.save(tmp_path / "model.safetensors")
    name = original_of(shipped_model())
    buffered = load_samples(samples_path(tmp_path / "model.safetensors"), name)
    assert len(buffered) == len(right)
    assert all(torch.equal(a.code, b.code) for a, b in zip(buffered, right, strict=True))


def test_an_accepted_candidate_is_published_with_a_new_version():
    published = Published()
    tested = trainer(published=published)
    tested.observe(samples(range(0, 60, 2)), VERSION)
    until_judged(tested)
    (weights, version), status = published[0], tested.status
    assert status.swaps == 1 and status.refused == 0 and status.verdict.accepted
    assert version == status.version == learned_version(VERSION, 1, weights)
    names = {name.split(".")[0] for name in weights}
    assert names == {"pnc_head", "shape_head"}
    original = dict(shipped_model().network.named_parameters())
    assert any(not torch.equal(weights[name], original[name]) for name in weights)
    assert "swapped" in status.event


def test_a_worse_candidate_is_dropped_with_its_samples():
    """Wrong solutions, moved by 20 cm and rotated by 180 degrees, are never accepted."""
    offset = torch.eye(4)
    offset[0, 0] = offset[1, 1] = -1.0
    offset[:3, 3] = 0.2
    published = Published()
    tested = trainer(dataclasses.replace(SETTINGS, learner=VIOLENT), published)
    tested.observe(samples(range(0, 60, 2), offset=offset), VERSION)
    busy(tested)
    status = tested.status
    # The candidate, and halfway to it.
    assert published == [] and status.refused == 2 and status.version == VERSION
    assert "accuracy on the reference set fell" in status.event
    assert status.broken["pose"] == 2 and status.broken["live"] == 0
    assert status.buffered == 0
    original = dict(shipped_model().network.named_parameters())
    for name, value in tested.weights.items():
        assert torch.equal(value, original[name])


def test_halfway_to_a_refused_candidate_may_be_accepted(monkeypatch):
    published = Published()
    tested = trainer(published=published)
    original, asked = tested.weights, []

    def judge(candidate, *_):
        asked.append(candidate.weights)
        yield None
        broken = () if len(asked) == 2 else ("pose",)
        return Verdict(broken, "too far", Accuracy(1.0, 1.0), 0.5, 0.5)

    monkeypatch.setattr(tested._guard, "judge", judge)
    tested.observe(samples(range(0, 60, 2)), VERSION)
    until_judged(tested)
    assert published == [] and "too far" in tested.status.event
    until_judged(tested)
    status, buffered = tested.status, tested.status.buffered
    assert status.swaps == status.halved == status.refused == 1 and buffered > 0
    for name, value in published[0][0].items():
        torch.testing.assert_close(value, (original[name] + asked[0][name]) / 2)
    # Learning goes on from there.
    for name, value in tested._learner.weights.items():
        assert torch.equal(value, published[0][0][name])


def test_a_rollback_ends_the_check_of_a_candidate():
    tested = trainer()
    tested.observe(samples(range(0, 60, 2)), VERSION)
    until_judged(tested)
    assert tested.status.swaps == 1
    steps = tested.status.steps
    tested.observe(samples(range(0, 60, 2)), tested.status.version)
    while tested.status.steps < steps + 3:
        assert tested.work()
    assert tested.work() and tested.work() and tested.roll_back("asked for")
    assert not tested.work()
    tested.finish()
    assert tested.status.swaps == 1 and tested.status.refused == 0


def test_held_back_samples_alone_can_refuse():
    """The reference set cannot tell, as its limit is gone; the live samples can."""
    free = dataclasses.replace(small_reference().limits, accuracy_loss=1.0)
    reference = dataclasses.replace(small_reference(), limits=free)
    offset = torch.eye(4)
    offset[0, 0] = offset[1, 1] = -1.0
    tested = SelfTrainer(
        shipped_model(), reference, dataclasses.replace(SETTINGS, learner=VIOLENT), CPU, Published()
    )
    for _ in range(4):
        tested.observe(samples(range(0, 30, 6), certified=False), VERSION)
    tested.observe(samples(range(0, 60, 2), offset=offset), VERSION)
    busy(tested)
    assert tested.status.refused == 2 and "held-back frames fell" in tested.status.event
    assert tested.status.broken == {"pose": 0, "shape": 0, "live": 2}


def test_a_fallen_certified_share_rolls_back_by_itself():
    published = Published()
    tested = trainer(published=published)
    for _ in range(3):
        tested.observe(samples(range(0, 60, 2)), VERSION)
    until_judged(tested)
    version = tested.status.version
    assert tested.status.swaps == 1
    # Frames still estimated by the heads before the swap say nothing about those after it.
    for _ in range(3):
        tested.observe(samples(range(0, 60, 2), certified=False), VERSION)
    assert tested.status.rollbacks == 0
    for _ in range(3):
        tested.observe(samples(range(0, 60, 2), certified=False), version)
    status = tested.status
    assert status.rollbacks == 1 and status.version.startswith(f"{VERSION}+2-")
    assert "certified share fell from 1.00 to 0.00" in status.event
    original = dict(shipped_model().network.named_parameters())
    for name, value in published[-1][0].items():
        assert torch.equal(value, original[name])
    assert not tested.roll_back("nothing is left")


def test_saved_weights_go_on_where_they_were(tmp_path):
    tested = trainer()
    tested.observe(samples(range(0, 60, 2)), VERSION)
    until_judged(tested)
    path = tmp_path / "learned.safetensors"
    assert tested.save(path) == tested.status.version
    learned = load_model(path)
    assert model_version(learned) == model_version(tested.model()) == tested.status.version
    state = learned.network.state_dict()
    for name, value in shipped_model().network.state_dict().items():
        expected = tested.weights.get(name, value)
        assert torch.equal(state[name], expected), name
    assert original_of(learned) == shipped_model().header["sha256"]
    assert len(load_samples(samples_path(path), original_of(learned))) == tested.status.buffered

    save_reference(tmp_path / "set", small_reference())
    load_reference(tmp_path / "set", learned)  # it guards the descendant, too
    again = trainer(model=learned)
    assert again.restore_samples(samples_path(path)) == ""
    assert again.status.buffered == tested.status.buffered
    assert again.status.version == tested.status.version
    assert again.status.steps == tested.status.steps
    again.observe(samples(range(0, 60, 2)), again.status.version)
    until_judged(again)
    assert again.status.version == learned_version(VERSION, 2, again.weights)
    assert again.model().header["version"] == f"{shipped_model().header['version']}+2"
    assert "missing" in trainer().restore_samples(tmp_path / "missing")


def test_before_the_first_swap_the_saved_model_is_the_original(tmp_path):
    tested = trainer()
    assert tested.save(tmp_path / "same.safetensors") == VERSION
    assert model_version(load_model(tmp_path / "same.safetensors")) == VERSION


@pytest.mark.parametrize("wrong", [{"buffer": 0}, {"replay": 0.0}, {"held_back_every": 1}])
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match="expected at least"):
        SelfTrainingSettings(**wrong)
