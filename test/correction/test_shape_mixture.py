"""Priors of kinds, from their examples."""

from __future__ import annotations

import pytest
import torch
from prior_latents import latents_of

from crisp_ros.correction.shape_mixture import ShapeMixture
from crisp_ros.network.shape_prior import ShapePrior

_LENGTH = 30
_STREAM = torch.Generator().manual_seed(2)


def _prior(latents: torch.Tensor, kinds: list[str]) -> ShapePrior:
    """A prior whose examples have these latents up to scale and rotation."""
    basis = torch.randn((latents.shape[1], _LENGTH), generator=_STREAM)
    codes = 1.0 + latents @ basis
    half = torch.full((len(codes), 3), 0.05)
    return ShapePrior.of_codes(codes, latents.shape[1]).with_examples(codes, kinds, -half, half)


def test_examples_keep_their_codes() -> None:
    latents = torch.randn((20, 4), generator=_STREAM)
    basis = torch.randn((4, _LENGTH), generator=_STREAM)
    codes, half = latents @ basis, torch.full((20, 3), 0.1)
    prior = ShapePrior.of_codes(codes, 4).with_examples(codes, ["a", "b"] * 10, -half, half)
    assert torch.allclose(prior.code(prior.examples.latents), codes, atol=1e-4)
    assert prior.examples.kinds.tolist() == [0, 1] * 10


def test_a_code_off_the_basis_has_the_nearest_latent() -> None:
    prior = ShapePrior.of_codes(torch.randn((20, _LENGTH), generator=_STREAM), 4)
    codes = torch.randn((5, _LENGTH), generator=_STREAM)
    assert torch.allclose(prior.latents(codes), latents_of(prior, codes), atol=1e-4)


def test_the_density_of_a_kind_is_that_of_a_normal_distribution() -> None:
    latents = torch.randn((30, 3), generator=_STREAM) * torch.tensor([1.0, 0.3, 2.0])
    mixture = ShapeMixture.of_prior(_prior(latents, ["box", "mug", "mug"] * 10))
    covariance = mixture.priors.factor @ mixture.priors.factor.transpose(1, 2)
    oracle = torch.distributions.MultivariateNormal(mixture.priors.mean, covariance)
    at = torch.tensor([[0.5, -1.0, 0.2], [0.0, 0.0, 3.0]])
    ours = torch.stack([mixture.log_density(one) for one in at])
    difference = ours - torch.stack([oracle.log_prob(one) for one in at])
    assert torch.allclose(difference, difference[0, 0].expand(2, 2), atol=1e-3)


def test_a_kind_expects_shapes_like_its_examples() -> None:
    """A latent half way between two kinds is unlikely under both."""
    side = torch.tensor([1.0, 0.0, 0.0]).repeat(60, 1)
    side[::2] *= -1.0
    latents = side + 0.05 * torch.randn((60, 3), generator=_STREAM)
    mixture = ShapeMixture.of_prior(_prior(latents, ["mug", "box"] * 30))
    means = mixture.priors.mean
    own = mixture.prior(mixture.kinds).deviations(mixture.latents).square().sum(1)
    between = mixture.priors.deviations(means.mean(0).expand(2, -1)).square().sum(1)
    assert mixture.has_examples and len(means) == 2
    assert own.mean() < 6.0 and between.min() > 30.0


def test_a_kind_of_one_example_varies_as_the_others_do() -> None:
    latents = torch.randn((31, 3), generator=_STREAM)
    mixture = ShapeMixture.of_prior(_prior(latents, ["box"] * 30 + ["mug"]))
    box, mug = (mixture.priors.factor @ mixture.priors.factor.transpose(1, 2)).unbind()
    assert torch.allclose(box, mug, rtol=0.2, atol=0.05)


def test_a_wider_prior_allows_three_times_the_deviations() -> None:
    mixture = ShapeMixture.of_prior(
        _prior(torch.randn((30, 4), generator=_STREAM), ["mug", "box"] * 15)
    )
    kinds = torch.tensor([0, 1, 1])
    wider = mixture.wider_kinds(kinds)
    latents = mixture.latents[:3]
    assert torch.equal(mixture.wider_kinds(wider), wider)
    assert not set(wider.tolist()) & set(kinds.tolist())
    own, wide = (mixture.prior(k).deviations(latents) for k in (kinds, wider))
    assert torch.allclose(own, 3.0 * wide, atol=1e-5)
    assert torch.allclose(mixture.prior(wider).latents(wide), latents, atol=1e-5)
    volumes = [mixture.prior(k).factor.double().logdet() for k in (kinds, wider)]
    assert mixture.log_widening == pytest.approx(float((volumes[1] - volumes[0])[0]), rel=1e-4)


def test_without_examples_the_prior_is_standard() -> None:
    codes = torch.randn((20, _LENGTH), generator=_STREAM)
    mixture = ShapeMixture.of_prior(ShapePrior.of_codes(codes, 5))
    assert not mixture.has_examples
    assert torch.equal(mixture.priors.factor[0], torch.eye(5)) and not mixture.latents.any()


@pytest.mark.parametrize("kinds", [[0, 2], [0, -1]])
def test_examples_of_missing_kinds_are_refused(kinds: list[int]) -> None:
    prior = _prior(torch.randn((2, 1), generator=_STREAM), ["a", "b"])
    wrong = prior.examples._replace(kinds=torch.tensor(kinds))
    with pytest.raises(ValueError, match="kinds"):
        ShapePrior(prior.mean, prior.basis, wrong)


def test_examples_with_empty_boxes_are_refused() -> None:
    prior = _prior(torch.randn((2, 1), generator=_STREAM), ["a", "b"])
    wrong = prior.examples._replace(upper=prior.examples.lower)
    with pytest.raises(ValueError, match="boxes"):
        ShapePrior(prior.mean, prior.basis, wrong)
