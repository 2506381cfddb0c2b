"""A network's pose and shape as starts of a search under a prior."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from latent_boxes import BOXES, RoundedBoxes
from table_depth import LABEL
from unknown_box import Scene

from crisp_ros.correction.network_starts import (
    NetworkGuess,
    NetworkStartSettings,
    network_starts,
)
from crisp_ros.correction.prior_shape import PriorFit, PriorShapeSettings, fit_prior_shapes
from crisp_ros.correction.shape_mixture import ShapeMixture
from crisp_ros.network.shape_prior import ShapePrior

_STREAM = torch.Generator().manual_seed(4)
_POSE = torch.eye(4)


@pytest.fixture(scope="module")
def mixture() -> ShapeMixture:
    """Two kinds whose latents are 4 apart, in an order that mixes them."""
    codes = torch.randn((40, 3), generator=_STREAM)
    codes[::2, 0] *= 0.1
    codes[1::2, 0] = 0.1 * codes[1::2, 0] + 4.0
    half = torch.full((40, 3), 0.05)
    prior = ShapePrior.of_codes(codes, 3).with_examples(codes, ["a", "b"] * 20, -half, half)
    return ShapeMixture.of_prior(prior)


def test_a_shape_like_an_example_starts_with_its_kind_and_itself(mixture: ShapeMixture) -> None:
    settings = NetworkStartSettings(kinds=1, examples=2)
    for number in (6, 7):
        latent = mixture.latents[number]
        starts = network_starts(NetworkGuess(_POSE, latent), mixture, settings)
        assert starts.kinds[0] == mixture.kinds[number]
        assert torch.allclose(starts.latents[0], latent, atol=1e-5)
        assert torch.equal(starts.latents[1], latent)
        assert starts.T_object_camera.shape == (3, 4, 4)


def test_a_shape_like_nothing_is_drawn_to_a_kind(mixture: ShapeMixture) -> None:
    settings = NetworkStartSettings(kinds=1, examples=1, farthest=1.5)
    starts = network_starts(NetworkGuess(_POSE, torch.full((3,), 50.0)), mixture, settings)
    deviations = mixture.prior(starts.kinds[:1]).deviations(starts.latents[:1])
    assert deviations.norm() == pytest.approx(1.5 * 3**0.5, rel=1e-3)


def test_a_prior_without_examples_has_one_kind() -> None:
    guess = NetworkGuess(_POSE.double(), torch.tensor([0.5, 0.0, -0.5]).double())
    starts = network_starts(guess, BOXES, NetworkStartSettings())
    assert starts.kinds.tolist() == [0, 0]
    assert torch.allclose(starts.latents[0], guess.latent)


def _fit(scene: Scene, guess: NetworkGuess | None) -> PriorFit:
    """The best start; no solver moves it."""
    still = dataclasses.replace(PriorShapeSettings().solver, iterations=0)
    settings = PriorShapeSettings(ranking=still, solver=still)
    what = scene.observed(), torch.tensor([LABEL]), scene.images, scene.support
    return fit_prior_shapes(RoundedBoxes(), BOXES, *what, settings, [guess])


def test_a_search_takes_the_network_where_it_is_right_alone() -> None:
    scene = Scene()
    right = NetworkGuess(scene.T_object_camera, scene.latents[0])
    aside = scene.T_object_camera.clone()
    aside[:3, 3] += 0.3
    alone, helped = _fit(scene, None), _fit(scene, right)
    assert torch.equal(helped.T_object_camera[0], scene.T_object_camera)
    assert helped.objective < 0.5 * alone.objective
    wrong = _fit(scene, NetworkGuess(aside, scene.latents[0]))
    assert torch.equal(wrong.objective, alone.objective)
