import copy

import pytest
import torch
from adaptation_samples import CPU, samples, shipped_model

from crisp_ros.adaptation.learner import COMPACT, Learner, LearnerSettings, learner_settings
from crisp_ros.adaptation.samples import FeatureCache
from crisp_ros.network.maps import read_maps
from crisp_ros.observation.crop_channels import dequantise_crops

PAPER = LearnerSettings()


@pytest.fixture(scope="module")
def batch():
    return FeatureCache(shipped_model().network, CPU).batch(
        samples(range(0, 16, 4))
    )  # more than one part


def test_the_papers_figures_are_the_defaults():
    assert (PAPER.pnc_rate, PAPER.shape_rate, PAPER.weight_decay, PAPER.batch) == (
        3e-4,
        4e-4,
        1e-5,
        3,
    )
    assert learner_settings("compact") is COMPACT and learner_settings("dinov2_vits14") == PAPER


def test_a_step_is_that_of_loss_13_written_out(batch):
    """The oracle: loss (13) over the whole network, its gradient, and plain SGD by hand."""
    settings = LearnerSettings(pnc_scale=7.0, code_scale=0.5, weight_decay=0.01)
    learner = Learner(shipped_model().network, settings)
    heads = copy.deepcopy(learner.heads)
    pnc = heads["pnc_head"](batch.features, 48)
    code = heads["shape_head"](batch.features.pooled)
    total = 0.0
    for b in range(4):
        for z, true in zip(read_maps(pnc, batch.grid)[b], batch.z[b], strict=True):
            total = total + 7.0 * ((z - true) ** 2).sum() / (4 * batch.z.shape[1])
        total = total + 0.5 * ((code[b] - batch.codes[b]) ** 2).sum() / 4
    names, values = zip(*heads.named_parameters(), strict=True)
    gradients = torch.autograd.grad(total, values)
    learner.step(batch)
    after = learner.weights
    for name, value, gradient in zip(names, values, gradients, strict=True):
        rate = 3e-4 if name.startswith("pnc_head") else 4e-4
        expected = value - rate * (gradient + 0.01 * value)
        torch.testing.assert_close(after[name], expected.detach(), rtol=1e-4, atol=1e-7)


def test_learning_lowers_both_losses_and_changes_nothing_else(batch):
    model = shipped_model()
    before = {name: value.clone() for name, value in model.network.state_dict().items()}
    learner = Learner(model.network, LearnerSettings(pnc_scale=1e4))
    losses = [learner.step(batch) for _ in range(12)]
    assert losses[-1].pnc_m2 < 0.8 * losses[0].pnc_m2 and losses[-1].code < losses[0].code
    for name, value in model.network.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert not any(p.grad is not None for p in model.network.parameters())


def test_residuals_beyond_the_quantile_teach_nothing(batch):
    """One sample whose solution is 10 cm off: with the clamp the others learn as without it."""
    z = batch.z.clone()
    z[2] += 0.1
    wrong = batch._replace(z=z)
    only_pnc = {"pnc_scale": 1e4, "code_scale": 0.0}

    def moved(**settings):
        learner = Learner(shipped_model().network, LearnerSettings(**only_pnc, **settings))
        before = learner.weights["pnc_head.final.2.bias"]
        learner.step(wrong)
        return (learner.weights["pnc_head.final.2.bias"] - before).norm()

    assert moved(clamp_quantile=0.6) < 0.2 * moved()


def test_the_running_mean_is_offered(batch):
    learner = Learner(shipped_model().network, LearnerSettings(pnc_scale=1e4, averaging=0.75))
    name = "pnc_head.final.2.bias"
    mean = learner.weights[name]
    for _ in range(3):
        learner.step(batch)
        mean = 0.75 * mean + 0.25 * learner.heads.get_parameter(name).detach()
        torch.testing.assert_close(learner.weights[name], mean)


def test_a_loss_that_is_not_finite_changes_nothing(batch):
    learner = Learner(shipped_model().network, PAPER)
    before = learner.weights
    learner.step(batch._replace(z=batch.z * float("nan")))
    for name, value in learner.weights.items():
        assert torch.equal(value, before[name])


@pytest.mark.parametrize(
    "wrong", [{"batch": 0}, {"clamp_quantile": 0.0}, {"averaging": 1.0}, {"pnc_rate": -1.0}]
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match="expected"):
        LearnerSettings(**wrong)


def test_features_are_computed_once_and_bounded():
    cache = FeatureCache(shipped_model().network, CPU)
    kept = samples(range(4))
    first = cache.batch(kept)
    taken = cache.nbytes
    again = cache.batch(kept)
    assert torch.equal(first.features.pooled, again.features.pooled) and cache.nbytes == taken
    assert 0.9e6 < taken / 4 < 1.1e6
    cache.keep_only(kept[:1])
    assert cache.nbytes == taken / 4
    crops = dequantise_crops(torch.stack([s.crop for s in kept]))
    with torch.no_grad():
        exact = shipped_model().network.features(crops).pooled
    torch.testing.assert_close(first.features.pooled, exact, rtol=2e-3, atol=2e-3)
