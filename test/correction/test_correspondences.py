"""Correspondences, shapes and object points, against plain loops."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from crisp_ros.correction.correspondences import (
    Correspondences,
    ObjectPoints,
    Shapes,
    finite_and_valid,
)
from crisp_ros.geometry.se3 import exp

BAD = (torch.nan, torch.inf, -torch.inf)


def observed(batch: int, count: int, seed: int, bad: float = 0.0) -> Correspondences:
    """Draw correspondences; a share of the numbers of either kind is not finite."""
    g = torch.Generator().manual_seed(seed)

    def coordinates() -> torch.Tensor:
        x = torch.randn(batch, count, 3, generator=g)
        kind = torch.randint(0, 3, x.shape, generator=g)
        off = torch.rand(x.shape, generator=g) < bad
        return torch.where(off, torch.tensor(BAD)[kind], x)

    weights = torch.rand(batch, count, generator=g)
    weights[torch.rand(batch, count, generator=g) < 0.3] = 0.0
    valid = torch.rand(batch, count, generator=g) < 0.7
    return Correspondences(coordinates(), coordinates(), weights, valid)


def test_rows_of_every_kind_belong_together() -> None:
    x = observed(4, 5, 0)
    for which in (torch.tensor([3, 1]), torch.tensor([True, False, True, False]), slice(1, 3)):
        for part, whole in zip(x.rows(which), x, strict=True):
            assert torch.equal(part, whole[which])


def test_repeats_follow_each_other() -> None:
    x, shapes = observed(2, 3, 1), Shapes.of_codes(torch.randn(2, 4))
    for batch in (x, shapes):
        for part, whole in zip(batch.repeated(3), batch, strict=True):
            assert part.shape == (6, *whole.shape[1:])
            for i in range(6):
                torch.testing.assert_close(part[i], whole[i // 3], equal_nan=True, rtol=0, atol=0)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 12), st.sampled_from([0.0, 0.1, 0.6]))
def test_sanitized_is_what_a_loop_makes_of_it(seed: int, count: int, bad: float) -> None:
    x = observed(2, count, seed, bad)
    found = x.sanitized()
    for b in range(2):
        for i in range(count):
            finite = torch.isfinite(x.points[b, i]).all() and bool(x.valid[b, i])
            assert found.valid[b, i] == finite
            assert torch.equal(found.points[b, i], x.points[b, i] if finite else torch.zeros(3))
            used = finite and torch.isfinite(x.pnc[b, i]).all() and x.weights[b, i] > 0
            assert found.weights[b, i] == (x.weights[b, i] if used else 0.0)
            assert torch.equal(found.pnc[b, i], x.pnc[b, i] if used else torch.zeros(3))
    for part, again in zip(found, found.sanitized(), strict=True):
        assert torch.equal(part, again)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 12), st.sampled_from([0.0, 0.1, 0.6]))
def test_sanitized_object_points_keep_the_counted(seed: int, count: int, bad: float) -> None:
    x = observed(1, count, seed, bad)
    found = ObjectPoints(x.points, x.weights).sanitized()
    for i in range(count):
        counts = bool(torch.isfinite(x.points[0, i]).all()) and x.weights[0, i] > 0
        assert found.valid[0, i] == counts
        assert found.weights[0, i] == (x.weights[0, i] if counts else 0.0)
        assert torch.equal(found.points[0, i], x.points[0, i] if counts else torch.zeros(3))


def test_subsamples_are_the_same_points_in_every_part() -> None:
    g = torch.Generator().manual_seed(0)
    points = torch.randn(2, 20, 3, generator=g)
    valid = torch.rand(2, 20, generator=g) < 0.5
    few = Correspondences(points, 2 * points, points[..., 0].abs(), valid).subsample(4)
    assert few.valid.all() and few.points.shape == (2, 4, 3)
    assert torch.equal(few.pnc, 2 * few.points)
    assert torch.equal(few.weights, few.points[..., 0].abs())
    alone = ObjectPoints.of(points, valid).subsample(4)
    assert torch.equal(alone.points, few.points) and torch.equal(alone.valid, few.valid)
    whole = ObjectPoints.of(points, valid)
    assert whole.subsample(20) is whole


def test_aligned_coordinates_are_those_of_the_pose() -> None:
    """Lemma 5, with the weight of one for every valid point."""
    x = observed(3, 7, 2)
    T = exp(torch.randn(3, 6, generator=torch.Generator().manual_seed(3)))
    found = x.aligned_to(T)
    for b in range(3):
        for i in range(7):
            expected = T[b, :3, :3] @ x.points[b, i] + T[b, :3, 3]
            torch.testing.assert_close(found.pnc[b, i], expected)
    assert torch.equal(found.weights, x.valid.float())
    assert found.points is x.points and found.valid is x.valid


def test_points_alone_have_coordinates_without_weight() -> None:
    x = observed(2, 5, 4)
    found = Correspondences.of_points(x.points, x.valid)
    assert (found.weights == 0).all() and torch.equal(found.pnc, x.points)
    assert found.valid is x.valid


def test_codes_alone_are_shapes_outside_the_library() -> None:
    shapes = Shapes.of_codes(torch.randn(2, 3, 4))
    assert shapes.index.shape == (2, 3) and (shapes.index == -1).all()
    assert shapes.lower.shape == shapes.upper.shape == (2, 3, 3)
    assert shapes.diameters.isnan().all()


def test_diameters_are_diagonals_of_boxes() -> None:
    low, high = torch.tensor([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]]), torch.tensor([[3.0, 4.0, 12.0]])
    boxed = Shapes.of_codes(torch.zeros(2, 1))._replace(lower=low, upper=low + high)
    assert boxed.diameters.tolist() == pytest.approx([13.0, 13.0])
    for part, whole in zip(boxed.unsqueeze(1), boxed, strict=True):
        assert torch.equal(part[:, 0], whole) and part.ndim == whole.ndim + 1
    for part, whole in zip(boxed.rows(torch.tensor([1])), boxed, strict=True):
        assert torch.equal(part, whole[1:])


def test_a_point_counts_where_it_is_valid_and_finite() -> None:
    points = torch.zeros(1, 4, 3)
    points[0, 1, 2], points[0, 2, 0] = torch.nan, torch.inf
    valid = torch.tensor([[True, True, True, False]])
    assert finite_and_valid(points, valid).tolist() == [[True, False, False, False]]
