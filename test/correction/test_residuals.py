"""Robust measures, and when a pose is worth leaving."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from crisp_ros.correction.correspondences import Correspondences
from crisp_ros.correction.residuals import (
    ANY_FALL,
    MoveSettings,
    geman_mcclure,
    masked_median,
    surface_objective,
    weighted_mean,
    worth_moving,
)


def moving(error: torch.Tensor, way_m: float, fall: float, chosen: MoveSettings) -> bool:
    """Whether a pose whose coordinates (N, 3) err so is left for one that is better by `fall`."""
    g = torch.Generator().manual_seed(0)
    z = 0.1 * torch.rand(1, len(error), 3, generator=g)
    after = torch.tensor([4e-6])
    before = after + fall * (after + chosen.surface_error_m**2)
    end = z + torch.tensor([way_m, 0.0, 0.0])
    return bool(worth_moving(before, after, z, end, predicted(z - error), chosen)[0])


def predicted(pnc: torch.Tensor, weights: torch.Tensor | None = None) -> Correspondences:
    """Coordinates (B, N, 3) and their weights, one by default; of points that do not matter."""
    weights = torch.ones(pnc.shape[:2]) if weights is None else weights
    return Correspondences(torch.full_like(pnc, torch.nan), pnc, weights, weights > 0)


def noise(count: int = 800, size: float = 0.002) -> torch.Tensor:
    return size * torch.randn(count, 3, generator=torch.Generator().manual_seed(1))


def test_noise_contradicts_a_move_but_a_common_error_does_not() -> None:
    chosen = MoveSettings()
    assert not moving(noise(), 0.004, 0.65, chosen)
    common = torch.tensor([0.004, 0.0, 0.0]).expand(800, 3)
    assert moving(common + noise(), 0.004, 0.5, chosen)
    # However surely the coordinates contradict, there is a fall that outweighs them.
    assert moving(noise(), 0.004, 0.8, chosen)


def test_a_small_fall_is_never_enough_and_any_is_where_asked_for() -> None:
    wide = torch.full((800, 3), 0.02)
    assert not moving(wide, 0.001, 0.19, MoveSettings())
    assert moving(wide, 0.001, 0.3, MoveSettings())
    assert moving(noise(), 0.01, 1e-3, ANY_FALL) and not moving(noise(), 0.01, -1e-3, ANY_FALL)


def test_without_coordinates_only_a_large_fall_counts() -> None:
    z = torch.zeros(1, 5, 3)
    for fall, moves in ((0.9, True), (-0.1, False)):
        before, after = torch.tensor([1e-5 * (1 + fall)]), torch.tensor([1e-5])
        unknown = predicted(z, torch.zeros(1, 5))
        found = worth_moving(before, after, z, z + 1.0, unknown, MoveSettings())
        assert bool(found[0]) is moves


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 6), st.integers(0, 10**6))
def test_a_batch_equals_its_members(batch: int, seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    z, end, pnc = (0.05 * torch.randn(batch, 40, 3, generator=g) for _ in range(3))
    weights = (torch.rand(batch, 40, generator=g) < 0.7).float()
    before, after = (1e-5 * torch.rand(batch, generator=g) for _ in range(2))
    chosen = dataclasses.replace(MoveSettings(), contradiction=0.3)
    observed = predicted(pnc, weights)
    together = worth_moving(before, after, z, end, observed, chosen)
    for b in range(batch):
        one = slice(b, b + 1)
        some = observed.rows(one)
        alone = worth_moving(before[one], after[one], z[one], end[one], some, chosen)
        assert alone[0] == together[b]


def test_the_robust_loss_is_quadratic_near_zero_and_bounded() -> None:
    scale = torch.tensor(0.01)
    square = torch.tensor([1e-10, 1.0])
    loss = geman_mcclure(square, scale)
    assert loss.cost[0] == pytest.approx(1e-10, rel=1e-4)
    assert loss.cost[1] == pytest.approx(1e-4, rel=1e-3)
    assert loss.weight[0] == pytest.approx(1.0, rel=1e-4) and loss.weight[1] < 1e-7


def test_means_and_medians_leave_out_what_does_not_count() -> None:
    values = torch.tensor([[1.0, 3.0, torch.nan, 5.0]])
    counted = torch.tensor([[True, True, False, True]])
    assert masked_median(values, counted)[0] == 3.0
    assert weighted_mean(values, counted)[0] == pytest.approx(3.0)
    assert weighted_mean(values, torch.zeros(1, 4))[0] == 0.0
    assert surface_objective(values, counted, torch.tensor([1e3]))[0] == pytest.approx(
        35 / 3, rel=1e-3
    )
