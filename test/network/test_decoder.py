"""The shape decoder: its formula, its fast paths against autograd, and broadcasting."""

import pytest
import torch
from torch import Tensor

from crisp_ros.network.decoder import ShapeDecoder


@pytest.fixture(scope="module")
def decoder() -> ShapeDecoder:
    torch.manual_seed(0)
    return ShapeDecoder(hidden=24, layers=3)


def _case(*leading: int, points: int = 7) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return (
        0.1 * torch.randn((*leading, points, 3), generator=generator),
        torch.randn((*leading, 3 * 2 * 24), generator=generator),
    )


def _sdf_of_one_point(decoder: ShapeDecoder, point: Tensor, code: Tensor) -> Tensor:
    """Evaluate the paper's formula by layers; a layer's code is its scales, then its shifts."""
    y = point
    for layer, film in zip(decoder.film_layers, code.split(2 * decoder.hidden), strict=True):
        scale, shift = film[: decoder.hidden], film[decoder.hidden :]
        y = torch.sin(scale * (layer.weight @ y + layer.bias) + shift)
    return decoder.final_layer.weight[0] @ y + decoder.final_layer.bias[0]


def test_all_three_methods_agree_with_the_formula(decoder: ShapeDecoder) -> None:
    points, codes = _case(2)
    expected = torch.stack(
        [
            torch.stack([_sdf_of_one_point(decoder, point, code) for point in shape])
            for shape, code in zip(points, codes, strict=True)
        ]
    )
    for sdf in (
        decoder(points, codes),
        decoder.sdf(points, codes),
        decoder.sdf_and_gradient(points, codes).sdf,
    ):
        torch.testing.assert_close(sdf, expected, rtol=0, atol=2e-6)


def test_the_spatial_gradient_agrees_with_autograd(decoder: ShapeDecoder) -> None:
    points, codes = _case(2)
    points.requires_grad_(True)
    (expected,) = torch.autograd.grad(decoder(points, codes).sum(), points)
    gradient = decoder.sdf_and_gradient(points.detach(), codes).gradient
    torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-5)


def test_the_code_gradient_agrees_with_autograd(decoder: ShapeDecoder) -> None:
    points, codes = _case(3)
    weights = torch.linspace(0.1, 2.0, 21).reshape(3, 7)
    codes.requires_grad_(True)
    sdf = decoder(points, codes)
    (expected,) = torch.autograd.grad((weights * sdf.square()).sum(), codes)
    found = decoder.sdf_and_code_gradient(points, codes.detach(), lambda d: 2 * weights * d)
    torch.testing.assert_close(found.sdf, sdf.detach())
    torch.testing.assert_close(found.gradient, expected, rtol=1e-4, atol=1e-5)


def test_chunks_of_many_points_agree_with_one_pass(decoder: ShapeDecoder) -> None:
    points, codes = _case(points=5000)
    torch.testing.assert_close(decoder.sdf(points, codes), decoder(points, codes).detach())
    both = decoder.sdf_and_gradient(points, codes)
    torch.testing.assert_close(both.sdf, decoder.sdf(points, codes))
    assert both.gradient.shape == (5000, 3)


def test_shapes_and_objects_broadcast(decoder: ShapeDecoder) -> None:
    points, codes = _case(4)
    matrix = decoder.sdf(points[:2, None], codes[None, :3])
    assert matrix.shape == (2, 3, 7)
    for b in range(2):
        for k in range(3):
            torch.testing.assert_close(matrix[b, k], decoder.sdf(points[b], codes[k]))
    gradient = decoder.sdf_and_gradient(points[:2, None], codes[None, :3]).gradient
    assert gradient.shape == (2, 3, 7, 3)
    torch.testing.assert_close(decoder(points[:2, None], codes[None, :3]).detach(), matrix)


def test_no_points_give_no_distances(decoder: ShapeDecoder) -> None:
    points, codes = _case(2, points=0)
    assert decoder.sdf(points, codes).shape == (2, 0)
    assert decoder.sdf_and_gradient(points, codes).gradient.shape == (2, 0, 3)
    assert decoder(points, codes).shape == (2, 0)


def test_codes_receive_gradients(decoder: ShapeDecoder) -> None:
    points, codes = _case()
    assert torch.autograd.gradcheck(
        lambda c: decoder.double()(points.double(), c), codes.double().requires_grad_(True)
    )
    decoder.float()


def test_code_length() -> None:
    assert ShapeDecoder().code_dim == 2560


@pytest.fixture(scope="module", params=[(True, False), (False, True), (True, True)])
def variant(request: pytest.FixtureRequest) -> ShapeDecoder:
    torch.manual_seed(1)
    return ShapeDecoder(24, 3, *request.param)


def _variant_case(variant: ShapeDecoder) -> tuple[Tensor, Tensor]:
    points, film = _case(2)
    generator = torch.Generator().manual_seed(2)
    rest = 0.2 + torch.rand((2, variant.code_dim - film.shape[-1]), generator=generator)
    return points, torch.cat([film, rest], dim=-1)


def test_variants_agree_with_their_formula(variant: ShapeDecoder) -> None:
    """The last layer is modulated without a sine; a size s gives s f(x / s)."""
    points, codes = _variant_case(variant)
    size = codes[:, -1] if variant.normalised else torch.ones(2)
    rows = []
    for shape, code, s in zip(points, codes, size, strict=True):
        film = code[:144]
        last = torch.stack([_sdf_of_one_point(variant, point / s, film) for point in shape])
        factor, offset = code[144:146] if variant.modulated_output else (1.0, 0.0)
        rows.append(s * (factor * last + offset))
    expected = torch.stack(rows)
    for sdf in (
        variant(points, codes),
        variant.sdf(points, codes),
        variant.sdf_and_gradient(points, codes).sdf,
    ):
        torch.testing.assert_close(sdf, expected, rtol=0, atol=5e-6)
    assert variant.predicted_dim == variant.code_dim - variant.normalised


def test_gradients_of_variants_agree_with_autograd(variant: ShapeDecoder) -> None:
    points, codes = _variant_case(variant)
    points.requires_grad_(True)
    codes.requires_grad_(True)
    sdf = variant(points, codes)
    in_points, in_codes = torch.autograd.grad(sdf.square().sum(), (points, codes))
    with torch.no_grad():
        found = variant.sdf_and_gradient(points, codes)
        gradient = 2 * found.sdf[..., None] * found.gradient
        torch.testing.assert_close(gradient, in_points, rtol=1e-3, atol=1e-4)
        of_codes = variant.sdf_and_code_gradient(points, codes, lambda sdf: 2 * sdf)
        torch.testing.assert_close(of_codes.gradient, in_codes, rtol=1e-3, atol=1e-4)
