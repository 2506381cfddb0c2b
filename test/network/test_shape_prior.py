"""The Gaussian prior over codes, and the decoder's derivatives that its solver needs."""

from __future__ import annotations

import pytest
import torch
from prior_latents import latents_of

from crisp_ros.network.decoder import ShapeDecoder
from crisp_ros.network.shape_prior import ShapePrior


def _codes(count: int, dimensions: int, length: int = 40) -> torch.Tensor:
    stream = torch.Generator().manual_seed(0)
    basis = torch.randn((dimensions, length), generator=stream)
    return 3.0 + torch.randn((count, dimensions), generator=stream) @ basis


def test_codes_of_few_dimensions_are_kept_exactly() -> None:
    codes = _codes(50, 5)
    prior = ShapePrior.of_codes(codes, 16)
    assert prior.dimensions == 5
    assert torch.allclose(prior.code(latents_of(prior, codes)), codes, atol=1e-4)


def test_latents_of_the_training_shapes_are_standard_normal() -> None:
    codes = _codes(400, 6)
    latents = latents_of(ShapePrior.of_codes(codes, 6), codes)
    assert torch.allclose(latents.mean(0), torch.zeros(6), atol=1e-4)
    assert torch.allclose(latents.T @ latents / 399, torch.eye(6), atol=1e-3)


def test_the_first_components_vary_most() -> None:
    prior = ShapePrior.of_codes(_codes(60, 8), 4)
    lengths = prior.basis.norm(dim=1)
    assert prior.dimensions == 4
    assert (lengths[:-1] >= lengths[1:]).all()
    assert torch.allclose(prior.basis @ prior.basis.T, torch.diag(lengths.square()), atol=1e-3)


@pytest.mark.parametrize(
    "mean, basis",
    [
        (torch.zeros(3), torch.zeros(2, 4)),
        (torch.zeros(3), torch.zeros(0, 3)),
        (torch.tensor([0.0, torch.nan, 0.0]), torch.zeros(2, 3)),
    ],
)
def test_parts_that_do_not_fit_are_refused(mean: torch.Tensor, basis: torch.Tensor) -> None:
    with pytest.raises(ValueError):
        ShapePrior(mean, basis)


def test_codes_that_are_all_the_same_give_no_prior() -> None:
    with pytest.raises(ValueError, match="differ"):
        ShapePrior.of_codes(torch.ones(5, 8), 2)


def test_jacobians_of_the_decoder_are_those_of_autograd() -> None:
    torch.manual_seed(0)
    decoder = ShapeDecoder(12, 3).double()
    codes = (1.0 + 0.3 * torch.randn(2, decoder.code_dim)).double()
    points = 0.1 * torch.randn(2, 7, 3).double()
    found = decoder.jacobians(points, codes)
    x, h = points.clone().requires_grad_(), codes[:, None].repeat(1, 7, 1).requires_grad_()
    sdf = decoder(x[:, :, None], h).squeeze(-1)
    gradient, slope = torch.autograd.grad(sdf.sum(), (x, h))
    assert torch.allclose(found.sdf, sdf)
    assert torch.allclose(found.gradient, gradient)
    assert torch.allclose(found.code, slope)
