"""Pose and shape together, against ellipsoids and boxes whose latent is their size."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from latent_boxes import MEAN, SPREAD, RoundedBoxes
from torch import Tensor

from crisp_ros.correction.correspondences import ObjectPoints
from crisp_ros.correction.empty_space import EmptyPoints
from crisp_ros.correction.shape_pose_lm import (
    ShapePoseLmSettings,
    ShapePoseStep,
    refine_shape_and_pose,
)
from crisp_ros.geometry.se3 import exp, transform


def _surface(latents: Tensor, count: int, sides: str, seed: int) -> Tensor:
    """Points (count, 3) on some sides ("+x", "-y", ...) of one box, each as likely."""
    stream = torch.Generator().manual_seed(seed)
    half = MEAN + latents * SPREAD
    names = sides.split()
    points = (2 * torch.rand((count, 3), generator=stream).double() - 1) * half
    for row in range(count):
        sign, axis = names[row % len(names)]
        number = "xyz".index(axis)
        points[row, number] = (half[number] + 0.002) * (1 if sign == "+" else -1)
    return points


def _empty(points: Tensor, clearance: float = 0.0) -> EmptyPoints:
    """Points (B, M, 3) where nothing is, all with one clearance."""
    weights = torch.ones_like(points[..., 0])
    return EmptyPoints(points, weights, torch.full_like(weights, clearance))


def _refined(
    points: Tensor,
    empty: Tensor | None = None,
    start: Tensor | None = None,
    settings: ShapePoseLmSettings | None = None,
) -> ShapePoseStep:
    empty = points.new_zeros((0, 3)) if empty is None else empty
    return refine_shape_and_pose(
        RoundedBoxes(),
        ObjectPoints.of(points[None], torch.ones(1, len(points), dtype=torch.bool)),
        _empty(empty[None]),
        torch.zeros(1, 3).double() if start is None else start,
        settings,
    )


_ALL = "+x -x +y -y +z -z"
_SHAPE = torch.tensor([1.0, -1.0, 0.8]).double()


def test_pose_and_sizes_of_a_box_seen_all_around_are_found() -> None:
    moved = exp(torch.tensor([0.01, -0.008, 0.012, 0.1, -0.12, 0.15]).double())
    points = transform(moved, _surface(_SHAPE, 400, _ALL, 0))
    wide = ShapePoseLmSettings(independent_points=1e6)
    step = _refined(points, settings=wide)
    start = _refined(points, settings=replace(wide, iterations=0))
    assert torch.allclose(step.latents[0], _SHAPE, atol=0.02)
    assert torch.allclose(step.motion[0] @ moved, torch.eye(4).double(), atol=2e-3)
    assert step.objective < 1e-3 * start.objective


def test_what_is_not_seen_stays_as_the_prior_expects() -> None:
    """The top and one side show height and one width: the other width keeps its mean."""
    points = _surface(_SHAPE, 400, "+z -z +x -x", 1)
    step = _refined(points)
    assert torch.allclose(step.latents[0, [0, 2]], _SHAPE[[0, 2]], atol=0.15)
    assert abs(step.latents[0, 1].item()) < 0.1


def test_empty_space_shrinks_what_only_the_prior_had_filled() -> None:
    """The same box, and two planes of points that the camera looked through next to it."""
    points = _surface(_SHAPE, 400, "+z -z +x -x", 1)
    half = MEAN + _SHAPE * SPREAD
    grid = 2 * torch.rand((400, 3), generator=torch.Generator().manual_seed(2)).double() - 1
    empty = grid * half
    empty[:, 1] = torch.where(grid[:, 1] > 0, 1.0, -1.0) * (half[1] + 0.004)
    blocked = RoundedBoxes().sdf(empty[None], torch.tensor([[1.0, 0.0, 0.8]]).double())
    assert (blocked < -0.003).double().mean() > 0.9  # the box of the prior's width is in the way
    step = _refined(points, empty)
    width = (MEAN + step.latents[0] * SPREAD)[1]
    assert abs(width.item() - half[1].item()) < 0.004
    assert RoundedBoxes().sdf(empty[None], step.latents).min() > -0.003


@pytest.mark.parametrize("clearance", [0.0, 0.008])
def test_the_surface_keeps_clear_of_empty_points(clearance: float) -> None:
    """Points 3 mm outside the prior's width shrink it only if it has to stay farther away."""
    points = _surface(_SHAPE, 400, "+z -z +x -x", 1)
    grid = 2 * torch.rand((400, 3), generator=torch.Generator().manual_seed(2)).double() - 1
    near = grid * (MEAN + _SHAPE * SPREAD)
    near[:, 1] = torch.where(grid[:, 1] > 0, 1.0, -1.0) * (MEAN[1] + 0.002 + 0.003)
    step = refine_shape_and_pose(
        RoundedBoxes(),
        ObjectPoints.of(points[None], torch.ones(1, len(points), dtype=torch.bool)),
        _empty(near[None], clearance),
        torch.zeros(1, 3).double(),
    )
    away = RoundedBoxes().sdf(near[None], step.latents).median()
    assert away == pytest.approx(clearance or 0.003, abs=0.001)


def test_a_weaker_prior_lets_the_data_decide_more() -> None:
    points = _surface(3 * _SHAPE.abs(), 300, _ALL, 3)
    sizes = [
        _refined(points, settings=ShapePoseLmSettings(independent_points=n)).latents.norm().item()
        for n in (0.01, 1.0, 100.0)
    ]
    assert sizes[0] < sizes[1] < sizes[2]
    assert sizes[2] == pytest.approx((3 * _SHAPE.abs()).norm().item(), rel=0.02)


def test_points_far_off_do_not_pull() -> None:
    points = _surface(_SHAPE, 400, _ALL, 4)
    points[::10] += 0.3
    step = _refined(points, settings=ShapePoseLmSettings(independent_points=1e6))
    assert torch.allclose(step.latents[0], _SHAPE, atol=0.05)


def test_objects_of_a_batch_do_not_influence_one_another() -> None:
    points = torch.stack([_surface(s * _SHAPE, 200, _ALL, 5) for s in (1.0, -0.5)])
    none = _empty(points[:, :0])
    surface = ObjectPoints.of(points, torch.ones(2, 200, dtype=torch.bool))
    both = refine_shape_and_pose(RoundedBoxes(), surface, none, torch.zeros(2, 3).double())
    for row in range(2):
        alone = _refined(points[row])
        assert torch.allclose(both.latents[row], alone.latents[0], atol=1e-9)
        assert torch.allclose(both.motion[row], alone.motion[0], atol=1e-9)


def test_an_object_without_points_keeps_pose_and_shape() -> None:
    start = torch.tensor([[0.5, 0.1, -0.2]]).double()
    points = torch.full((1, 30, 3), torch.nan).double()
    surface = ObjectPoints.of(points, torch.ones(1, 30, dtype=torch.bool))
    none = _empty(points[:, :0])
    step = refine_shape_and_pose(RoundedBoxes(), surface, none, start)
    assert torch.isfinite(step.latents).all() and torch.isfinite(step.motion).all()
    assert step.latents.norm() <= start.norm()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), sides=st.sampled_from(["+x", "+x +z", "-y +z", _ALL]))
def test_it_is_never_worse_than_its_start(seed: int, sides: str) -> None:
    stream = torch.Generator().manual_seed(seed)
    shape = torch.randn(3, generator=stream).double()
    points = _surface(shape, 150, sides, seed)
    points += 0.01 * torch.randn(points.shape, generator=stream).double()
    twist = torch.randn(6, generator=stream).double() * torch.tensor([0.03] * 3 + [0.5] * 3)
    points = transform(exp(twist), points)
    empty = points[:50] * (1.0 + torch.rand((50, 1), generator=stream).double())
    start = torch.randn((1, 3), generator=stream).double()
    for prior in (1.0, 1000.0):
        settings_ = ShapePoseLmSettings(independent_points=prior, iterations=6)
        step = _refined(points, empty, start, settings_)
        unmoved = _refined(points, empty, start, replace(settings_, iterations=0))
        assert step.objective <= unmoved.objective
        rotation = step.motion[0, :3, :3]
        assert torch.allclose(rotation @ rotation.T, torch.eye(3).double(), atol=1e-6)
        assert math.isfinite(step.objective.item())


def test_the_number_of_evaluations_is_bounded() -> None:
    field = RoundedBoxes()
    points = _surface(_SHAPE, 200, _ALL, 6)[None]
    surface = ObjectPoints.of(points, torch.ones(1, 200, dtype=torch.bool))
    none = _empty(points[:, :0])
    settings_ = ShapePoseLmSettings(iterations=5)
    step = refine_shape_and_pose(field, surface, none, torch.zeros(1, 3).double(), settings_)
    assert step.iterations.item() <= 5
    assert field.evaluations <= 1 + 3 * 5 + 4
