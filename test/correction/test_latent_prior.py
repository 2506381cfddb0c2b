"""Gaussian priors in deviations, against their covariances."""

from __future__ import annotations

import torch

from crisp_ros.correction.latent_prior import LatentPrior


def _covariances() -> torch.Tensor:
    root = torch.randn((3, 4, 4), generator=torch.Generator().manual_seed(0)).double()
    return root @ root.transpose(1, 2) + 0.1 * torch.eye(4)


def test_deviations_are_mahalanobis_distances() -> None:
    covariance, mean = _covariances(), torch.arange(12.0).view(3, 4).double()
    prior = LatentPrior.of_covariances(mean, covariance)
    latents = mean + torch.tensor([0.3, -1.0, 2.0, 0.5]).double()
    offset = (latents - mean)[..., None]
    expected = (offset.transpose(1, 2) @ torch.linalg.inv(covariance) @ offset).flatten()
    deviations = prior.deviations(latents)
    assert torch.allclose(deviations.square().sum(1), expected)
    assert torch.allclose(prior.latents(deviations), latents)


def test_a_standard_prior_leaves_latents_as_they_are() -> None:
    latents = torch.tensor([[0.5, -2.0]])
    prior = LatentPrior.standard(latents)
    assert torch.equal(prior.deviations(latents), latents)
    assert torch.equal(prior.latents(latents), latents)
