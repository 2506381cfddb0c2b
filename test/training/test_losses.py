import math

import numpy as np
import pytest
import torch

from crisp_ros.network.decoder import ShapeDecoder
from crisp_ros.training.losses import SdfLossWeights, pnc_loss, sdf_loss


def turn_about_z(degrees: float) -> torch.Tensor:
    angle = math.radians(degrees)
    T = torch.eye(4)
    T[:2, :2] = torch.tensor(
        [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    )
    return T


@pytest.mark.parametrize("zeta", [0.1, 0.01])
def test_pnc_loss_is_equation_20_pixel_by_pixel(zeta):
    generator = torch.Generator().manual_seed(0)
    predicted = torch.randn(2, 3, 5, 5, generator=generator) * 0.03
    target = torch.randn(2, 3, 5, 5, generator=generator) * 0.03
    mask = torch.rand(2, 5, 5, generator=generator) > 0.4
    expected = []
    for b in range(2):
        pixels = []
        for v, u in np.argwhere(mask[b].numpy()):
            total = 0.0
            for c in range(3):
                e = abs(float(predicted[b, c, v, u] - target[b, c, v, u]))
                total += e * e / (2 * zeta) if e <= zeta else e - zeta / 2
            pixels.append(total)
        expected.append(np.mean(pixels))
    assert pnc_loss(predicted, target, mask, zeta).item() == pytest.approx(np.mean(expected))


def test_pnc_loss_ignores_pixels_outside_the_mask():
    target = torch.zeros(2, 3, 4, 4)
    predicted = torch.full((2, 3, 4, 4), 0.5)
    mask = torch.zeros(2, 4, 4, dtype=torch.bool)
    assert pnc_loss(predicted, target, mask).item() == 0.0
    mask[0, 0, 0] = True
    predicted[0, :, 0, 0] = 0.0
    assert pnc_loss(predicted, target, mask).item() == 0.0


def test_pnc_loss_takes_the_nearest_symmetry_of_each_object():
    generator = torch.Generator().manual_seed(1)
    target = torch.randn(2, 3, 24, 24, generator=generator) * 0.05
    mask = torch.ones(2, 24, 24, dtype=torch.bool)
    half_rotation = turn_about_z(180.0)
    rotated = (half_rotation[:3, :3] @ target.flatten(2)).view_as(target)
    predicted = torch.stack([rotated[0], target[1]])
    group = torch.stack([torch.eye(4), half_rotation]).expand(2, 2, 4, 4)
    assert pnc_loss(predicted, target, mask, 0.1, group).item() == pytest.approx(0.0, abs=1e-9)
    assert pnc_loss(predicted, target, mask, 0.1).item() > 1e-3
    identity_only = torch.eye(4).expand(2, 2, 4, 4)
    assert pnc_loss(predicted, target, mask, 0.1, identity_only).item() == pytest.approx(
        pnc_loss(predicted, target, mask, 0.1).item()
    )


def test_sdf_loss_adds_the_three_terms_of_equation_21():
    torch.manual_seed(0)
    decoder = ShapeDecoder(hidden=16, layers=2)
    codes = torch.randn(2, decoder.code_dim)
    points = torch.randn(2, 40, 3) * 0.1
    distances = torch.randn(2, 40) * 0.05
    predicted = decoder(points, codes)
    slope = decoder.sdf_and_gradient(points, codes).gradient
    distance = (predicted - distances).abs().mean()
    eikonal = (slope.norm(dim=-1) - 1).abs().mean()
    far = distances.abs() > 0.03
    off = sum(torch.exp(-100 * predicted[b][far[b]].abs()).mean() for b in range(2)) / 2
    weights = SdfLossWeights()
    total = 3e3 * distance + 2e2 * off + 50 * eikonal
    assert sdf_loss(decoder, codes, points, distances, weights).item() == pytest.approx(
        total.item(), rel=1e-4
    )
    without = SdfLossWeights(off_surface=0.0)
    assert sdf_loss(decoder, codes, points, distances, without).item() == pytest.approx(
        (total - 2e2 * off).item(), rel=1e-4
    )


def test_sdf_loss_reaches_decoder_and_codes():
    torch.manual_seed(0)
    decoder = ShapeDecoder(hidden=8, layers=2)
    codes = torch.randn(1, decoder.code_dim, requires_grad=True)
    sdf_loss(
        decoder, codes, torch.randn(1, 20, 3) * 0.1, torch.zeros(1, 20), SdfLossWeights()
    ).backward()
    assert codes.grad.abs().sum() > 0
    assert all(p.grad is not None for p in decoder.parameters())
