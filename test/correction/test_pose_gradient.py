"""The gradient solver: its slope, its objective, and what it does to good and bad coordinates."""

import numpy as np
import pytest
import torch
from observed import Noise, add_s, observe

from crisp_ros.correction.pose_gradient import GradientSettings, _gradient_of_z, descend
from crisp_ros.correction.residuals import ANY_FALL, MoveSettings
from crisp_ros.geometry.registration import align, register
from crisp_ros.geometry.se3 import from_rotation_translation

NAMES = ("box", "mug", "bracket", "bar")


def test_slope_agrees_with_finite_differences(known) -> None:
    decoder = known.decoder.double()
    seen = observe(known.named("mug"), Noise(pnc=0.003), seed=1, count=12)
    points, z = seen.points.double(), seen.pnc.double()
    weights = torch.rand(1, 12, generator=torch.Generator().manual_seed(2)).double()
    codes = known.codes("mug").double()
    # A scale far above all residuals makes the loss the plain mean of squares.
    scale = torch.tensor([10.0]).double()
    try:
        slope = _gradient_of_z(decoder, points, z, weights, seen.valid, codes, scale)[0]

        def objective(z: torch.Tensor) -> float:
            pose = align(points, z, weights)
            moved = points @ pose.rotation.mT + pose.translation[:, None]
            return decoder.sdf(moved, codes).square().mean().item()

        for i, axis in ((0, 0), (3, 1), (7, 2)):
            step = torch.zeros_like(z)
            step[0, i, axis] = 1e-6
            numeric = (objective(z + step) - objective(z - step)) / 2e-6
            assert slope[0, i, axis].item() == pytest.approx(numeric, rel=1e-3, abs=1e-9)
    finally:
        known.decoder.float()


def test_shrunk_and_shifted_coordinates_get_better(known) -> None:
    shapes = known.named(*NAMES)
    seen = observe(shapes, Noise(0.001, 0.05, 0.003, 0.1, along_ray=0.02, turn=0.1), seed=3)
    weights = register(*seen[:3]).inliers.float()
    # All coordinates err alike here and their noise is small, as if they were sure.
    settings = GradientSettings(move=MoveSettings(contradiction=0.0))
    step = descend(
        known.decoder, seen.points, seen.pnc, weights, seen.valid, known.codes(*NAMES), settings
    )
    start = align(seen.points, seen.pnc, weights)
    before = from_rotation_translation(start.rotation, start.translation)
    fall = step.objective / step.start_objective
    assert (fall < 1).all() and fall.median() < 0.5
    errors = add_s(step.T_object_camera, seen.T_object_camera, shapes)
    assert np.median(errors) < 0.5 * np.median(add_s(before, seen.T_object_camera, shapes))


def test_returns_the_best_iterate_of_each_object(known) -> None:
    """With a reckless step the objective rises again; what comes back is the lowest seen."""
    seen = observe(known.named("box", "mug"), Noise(pnc=0.002, along_ray=0.01), seed=4, count=200)
    weights, codes = torch.ones(2, 200), known.codes("box", "mug")
    lowest = torch.full((2,), torch.inf)
    for iterations in range(12):
        step = descend(
            known.decoder,
            seen.points,
            seen.pnc,
            weights,
            seen.valid,
            codes,
            GradientSettings(learning_rate=0.02, iterations=iterations, move=ANY_FALL),
        )
        assert (step.objective <= lowest + 1e-12).all()
        lowest = torch.minimum(lowest, step.objective)


def test_objects_do_not_influence_each_other(known) -> None:
    seen = observe(known.named(*NAMES), Noise(0.001, 0.1, 0.003, 0.1, 0.9), seed=5, count=150)
    weights, codes = register(*seen[:3]).inliers.float(), known.codes(*NAMES)
    together = descend(known.decoder, seen.points, seen.pnc, weights, seen.valid, codes)
    for b in range(len(NAMES)):
        one = slice(b, b + 1)
        alone = descend(
            known.decoder,
            seen.points[one],
            seen.pnc[one],
            weights[one],
            seen.valid[one],
            codes[one],
        )
        torch.testing.assert_close(
            alone.T_object_camera[0], together.T_object_camera[b], atol=1e-3, rtol=0
        )
        assert alone.objective.item() == pytest.approx(together.objective[b].item(), rel=0.05)


def test_padding_and_what_is_not_finite_change_nothing(known) -> None:
    seen = observe(known.named("mug"), Noise(0.001, 0.0, 0.002, along_ray=0.01), seed=6, count=150)
    weights, codes = torch.ones(1, 150), known.codes("mug")
    plain = descend(known.decoder, seen.points, seen.pnc, weights, seen.valid, codes)
    junk = torch.full((1, 30, 3), torch.nan)
    far = torch.full((1, 20, 3), 50.0)
    padded = descend(
        known.decoder,
        torch.cat((seen.points, junk, far), 1),
        torch.cat((seen.pnc, junk, far), 1),
        torch.ones(1, 200),
        torch.cat((seen.valid, torch.ones(1, 30).bool(), torch.zeros(1, 20).bool()), 1),
        codes,
    )
    torch.testing.assert_close(plain.T_object_camera, padded.T_object_camera, atol=1e-4, rtol=0)


def test_nothing_valid_is_survived(known) -> None:
    nothing = torch.zeros(1, 20, 3)
    step = descend(
        known.decoder,
        nothing,
        nothing,
        torch.zeros(1, 20),
        torch.zeros(1, 20).bool(),
        known.codes("box"),
    )
    assert torch.isfinite(step.T_object_camera).all()
