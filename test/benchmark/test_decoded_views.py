"""Views of decoded shapes: on the surface, on the camera's side, with the given noise."""

import dataclasses

import pytest
import torch

from crisp_ros.benchmark.decoded_views import ViewError, ViewNoise, decoded_views
from crisp_ros.geometry.se3 import invert, transform

CLEAN = ViewNoise(0.0, 0.0, 0.0, 1.0, 0.0, 0.0)


def test_points_are_on_the_visible_side_of_the_shape(known) -> None:
    shapes = [0, 4, 6]
    views = decoded_views(known.decoder, known.library, shapes, CLEAN, 300, seed=1)
    z = transform(views.T_object_camera, views.points)
    torch.testing.assert_close(views.pnc, z, atol=2e-6, rtol=0)
    sdf, gradient = known.decoder.sdf_and_gradient(z, known.library.codes[shapes])
    assert sdf.abs().max() < 5e-4
    towards = views.T_object_camera[:, None, :3, 3] - z
    facing = (gradient * towards).sum(-1) / (gradient.norm(dim=-1) * towards.norm(dim=-1))
    assert facing.quantile(0.02, dim=-1).min() > -0.05
    assert (views.points[..., 2] > 0.3).all() and views.valid.all()


def test_noise_is_as_given(known) -> None:
    noise = dataclasses.replace(CLEAN, depth_m=0.003, pnc_m=0.004)
    clean, noisy = (
        decoded_views(known.decoder, known.library, [0], n, 4000) for n in (CLEAN, noise)
    )
    z = transform(noisy.T_object_camera, noisy.points)
    away = (transform(invert(noisy.T_object_camera), noisy.pnc) - noisy.points).norm(dim=-1)
    assert away.square().mean().sqrt() == pytest.approx((0.003**2 + 3 * 0.004**2) ** 0.5, rel=0.05)
    assert not torch.equal(z, clean.points)
    shrunk = dataclasses.replace(CLEAN, pnc_shrink=0.9)
    small = decoded_views(known.decoder, known.library, [0], shrunk, 500)
    plain = decoded_views(known.decoder, known.library, [0], CLEAN, 500)
    torch.testing.assert_close(small.pnc.std(1), 0.9 * plain.pnc.std(1))


def test_the_seed_decides(known) -> None:
    a, b, c = (
        decoded_views(known.decoder, known.library, [2], ViewNoise(), 100, seed)
        for seed in (3, 3, 4)
    )
    assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
    assert not torch.equal(a.points, c.points)


def test_a_decoder_without_a_surface_is_named(known) -> None:
    nothing = dataclasses.replace(known.library, codes=torch.zeros_like(known.library.codes))
    with pytest.raises(ViewError, match="box.*is the model trained"):
        decoded_views(known.decoder, nothing, [0], CLEAN)
