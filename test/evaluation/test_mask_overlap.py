"""F measures of masks and boundaries against their definitions."""

import numpy as np
import pytest
from drawing import discs
from scipy.optimize import linear_sum_assignment

from crisp_ros.evaluation.mask_overlap import boundary_f, mask_overlaps, touching_labels


def test_f_is_precision_and_recall_of_the_assigned_masks() -> None:
    true = discs((30, 30, 20), (100, 40, 25), (60, 90, 15))
    predicted = discs((103, 42, 25), (28, 34, 18), (140, 100, 10))
    f = np.zeros((3, 3))
    for i in range(3):
        for j in range(3):
            both = ((true == i + 1) & (predicted == j + 1)).sum()
            precision, recall = both / (predicted == j + 1).sum(), both / (true == i + 1).sum()
            f[i, j] = 2 * precision * recall / max(precision + recall, 1e-9)
    rows, columns = linear_sum_assignment(-f)
    result = mask_overlaps(predicted, true)
    assert [o.f for o in result] == pytest.approx(f[rows, columns].tolist())
    assert [o.match for o in result] == [2, 1, 0]


def test_a_mask_over_two_objects_serves_one_of_them() -> None:
    true = np.zeros((10, 20), int)
    true[:, :12], true[:, 12:] = 1, 2
    result = mask_overlaps(np.ones_like(true), true)
    assert [o.f for o in result] == pytest.approx([2 * 120 / 320, 0.0])


def test_boundaries_agree_within_the_tolerance_only() -> None:
    true = discs((80, 60, 30)) > 0
    assert boundary_f(true, true) == 1.0
    assert boundary_f(discs((80, 60, 31)) > 0, true) > 0.95
    assert boundary_f(discs((80, 60, 40)) > 0, true) == 0.0
    assert boundary_f(np.zeros_like(true), true) == 0.0


def test_a_boundary_half_right_has_precision_and_recall() -> None:
    true = np.zeros((100, 100), bool)
    true[20:60, 20:60] = True
    wide = np.zeros_like(true)
    wide[20:60, 20:90] = True
    reach = 1  # 0.0075 of the diagonal of 141 pixels

    def rim(mask: np.ndarray) -> np.ndarray:
        points = np.argwhere(mask)
        inside = {tuple(p) for p in points}
        steps = [(a, b) for a in (-1, 0, 1) for b in (-1, 0, 1)]
        on_rim = [any((v + a, u + b) not in inside for a, b in steps) for v, u in points]
        return points[on_rim]

    def near(points: np.ndarray, others: np.ndarray) -> float:
        distance = np.linalg.norm(points[:, None] - others[None], axis=-1).min(1)
        return float((distance <= reach).mean())

    precision, recall = near(rim(wide), rim(true)), near(rim(true), rim(wide))
    expected = 2 * precision * recall / (precision + recall)
    assert boundary_f(wide, true) == pytest.approx(expected, abs=1e-6)


def test_objects_touch_where_they_meet_in_depth() -> None:
    labels = np.zeros((20, 30), int)
    labels[:, :10], labels[:, 10:20], labels[:, 20:] = 1, 2, 3
    depth = np.ones((20, 30))
    depth[:, 20:] = 1.5
    assert touching_labels(labels, depth) == {1, 2}


def test_sizes_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match="one size"):
        mask_overlaps(np.zeros((2, 2), int), np.zeros((2, 3), int))
