"""The gradient solver: its slope, its objective, and what it does to good and bad coordinates."""

import numpy as np
import pytest
import torch
from observed import Noise, add_s, observe, with_junk

from crisp_ros.correction.correspondences import Correspondences
from crisp_ros.correction.pose_gradient import GradientSettings, _gradient_of_z, descend_pose
from crisp_ros.correction.residuals import ANY_FALL, MoveSettings
from crisp_ros.geometry.registration import align
from crisp_ros.geometry.se3 import from_rotation_translation

NAMES = ("box", "mug", "bracket", "bar")


def test_slope_agrees_with_finite_differences(known) -> None:
    known.decoder.double()
    seen = observe(known.named("mug"), Noise(pnc=0.003), seed=1, count=12)
    points, z = seen.points.double(), seen.pnc.double()
    weights = torch.rand(1, 12, generator=torch.Generator().manual_seed(2)).double()
    shapes = known.shapes_of("mug")
    shapes = shapes._replace(codes=shapes.codes.double())
    # A scale far above all residuals makes the loss the plain mean of squares.
    scale = torch.tensor([10.0]).double()
    try:
        observed = Correspondences(points, z, weights, seen.valid)
        slope = _gradient_of_z(known.field, observed, shapes, scale).gradient

        def objective(z: torch.Tensor) -> float:
            pose = align(points, z, weights)
            moved = points @ pose.rotation.mT + pose.translation[:, None]
            return known.field.sdf(moved, shapes).square().mean().item()

        for i, axis in ((0, 0), (3, 1), (7, 2)):
            step = torch.zeros_like(z)
            step[0, i, axis] = 1e-6
            numeric = (objective(z + step) - objective(z - step)) / 2e-6
            assert slope[0, i, axis].item() == pytest.approx(numeric, rel=1e-3, abs=1e-9)
    finally:
        known.decoder.float()


def test_shrunk_and_shifted_coordinates_get_better(known) -> None:
    shapes = known.named(*NAMES)
    seen = observe(shapes, Noise(0.001, 0.05, 0.003, 0.1, along_ray=0.02, rotation=0.1), seed=3)
    observed = seen.correspondences()
    # All coordinates err alike here and their noise is small, as if they were sure.
    settings = GradientSettings(move=MoveSettings(contradiction=0.0))
    step = descend_pose(known.field, observed, known.shapes_of(*NAMES), settings)
    start = align(observed.points, observed.pnc, observed.weights)
    before = from_rotation_translation(start.rotation, start.translation)
    fall = step.objective / step.start_objective
    assert (fall < 1).all() and fall.median() < 0.5
    errors = add_s(step.T_object_camera, seen.T_object_camera, shapes)
    assert np.median(errors) < 0.5 * np.median(add_s(before, seen.T_object_camera, shapes))


def test_returns_the_best_iterate_of_each_object(known) -> None:
    """With a reckless step the objective rises again; what comes back is the lowest seen."""
    seen = observe(known.named("box", "mug"), Noise(pnc=0.002, along_ray=0.01), seed=4, count=200)
    observed, shapes = seen.correspondences(1.0), known.shapes_of("box", "mug")
    lowest = torch.full((2,), torch.inf)
    for iterations in range(12):
        reckless = GradientSettings(learning_rate=0.02, iterations=iterations, move=ANY_FALL)
        step = descend_pose(known.field, observed, shapes, reckless)
        assert (step.objective <= lowest + 1e-12).all()
        lowest = torch.minimum(lowest, step.objective)


def test_a_batch_equals_its_members(known) -> None:
    seen = observe(known.named(*NAMES), Noise(0.001, 0.1, 0.003, 0.1, 0.9), seed=5, count=150)
    observed, shapes = seen.correspondences(), known.shapes_of(*NAMES)
    together = descend_pose(known.field, observed, shapes)
    for b in range(len(NAMES)):
        one = slice(b, b + 1)
        alone = descend_pose(known.field, observed.rows(one), shapes.rows(one))
        torch.testing.assert_close(
            alone.T_object_camera[0], together.T_object_camera[b], atol=1e-3, rtol=0
        )
        assert alone.objective.item() == pytest.approx(together.objective[b].item(), rel=0.05)


def test_padding_and_what_is_not_finite_change_nothing(known) -> None:
    seen = observe(known.named("mug"), Noise(0.001, 0.0, 0.002, along_ray=0.01), seed=6, count=150)
    observed, shapes = seen.correspondences(1.0), known.shapes_of("mug")
    plain = descend_pose(known.field, observed, shapes)
    padded = descend_pose(known.field, with_junk(observed), shapes)
    torch.testing.assert_close(plain.T_object_camera, padded.T_object_camera, atol=1e-4, rtol=0)


def test_nothing_valid_is_survived(known) -> None:
    nothing = Correspondences.of_points(torch.zeros(1, 20, 3), torch.zeros(1, 20).bool())
    step = descend_pose(known.field, nothing, known.shapes_of("box"))
    assert torch.isfinite(step.T_object_camera).all()
