"""Self-training as the paper has it: loss (13) on each certified sample once."""

import dataclasses

import torch
from adaptation_samples import CPU, samples, shipped_model

from crisp_ros.adaptation.batch_trainer import BatchTrainer
from crisp_ros.adaptation.learner import Learner
from crisp_ros.adaptation.recipes import RECIPES
from crisp_ros.adaptation.samples import FeatureCache
from crisp_ros.network.checkpoint import load_model

SETTINGS = RECIPES["ycbv"].learner


def trainer(published=None):
    publish = (lambda *given: published.append(given)) if published is not None else lambda *_: None
    return BatchTrainer(shipped_model(), SETTINGS, CPU, publish)


def worked(tested):
    return sum(1 for _ in iter(tested.work, False))


def test_every_certified_sample_is_used_once_in_order():
    published = []
    tested = trainer(published)
    certified, others = samples(range(7)), samples(range(7, 12), certified=False)
    tested.observe([*certified[:2], *others], "any")
    assert worked(tested) == 0
    tested.observe(certified[2:], "any")
    assert worked(tested) == 2 == tested.steps and len(published) == 2
    # The oracle: the same batches, in the order of arrival.
    learner, cache = (
        Learner(shipped_model().network, SETTINGS),
        FeatureCache(shipped_model().network, CPU),
    )
    for start in (0, 3):
        learner.step(cache.batch(certified[start : start + 3]))
    for name, value in learner.weights.items():
        assert torch.equal(published[-1][0][name], value), name
    # The seventh waits for two more.
    tested.finish()
    tested.observe(samples(range(20, 22)), "any")
    assert worked(tested) == 1


def test_a_saved_model_is_continued(tmp_path):
    tested = trainer()
    tested.observe(samples(range(6)), "any")
    worked(tested)
    version = tested.save(tmp_path / "m.safetensors")
    read = load_model(tmp_path / "m.safetensors")
    assert read.header["self_training"]["steps"] == 2
    again = BatchTrainer(read, SETTINGS, CPU, lambda *_: None)
    again.observe(samples(range(6, 9)), "any")
    assert worked(again) == 1 and again.steps == 3
    assert again.save(tmp_path / "n.safetensors") != version
    assert load_model(tmp_path / "n.safetensors").header["self_training"]["number"] == 3


def test_backbone_and_decoder_stay():
    tested = trainer()
    tested.observe([dataclasses.replace(s, code=s.code + 1) for s in samples(range(3))], "any")
    worked(tested)
    changed = {
        name.split(".")[0]
        for name, value in tested.model().network.state_dict().items()
        if not torch.equal(value, shipped_model().network.state_dict()[name])
    }
    assert changed == {"pnc_head", "shape_head"}
