"""Chamfer distances against full distance matrices and values computed by hand."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from crisp_ros.evaluation.chamfers import (
    diameter,
    l1_chamfer,
    one_sided_normalised_chamfer,
    squared_chamfer,
)

RNG = np.random.default_rng(0)
A, B = RNG.normal(0, 0.05, (300, 3)), RNG.normal(0.02, 0.08, (200, 3))


def test_l1_takes_the_nearest_by_city_blocks_and_adds_both_directions() -> None:
    blocks = cdist(A, B, "cityblock")
    assert l1_chamfer(A, B) == pytest.approx(blocks.min(1).mean() + blocks.min(0).mean())
    # (3, 3, 0) is nearer than (5, 0, 0) to the origin by straight lines, not by blocks.
    assert l1_chamfer([[0, 0, 0]], [[3, 3, 0], [5, 0, 0]]) == pytest.approx(5 + (6 + 5) / 2)


def test_squared_adds_both_directions() -> None:
    squares = cdist(A, B, "sqeuclidean")
    assert squared_chamfer(A, B) == pytest.approx(squares.min(1).mean() + squares.min(0).mean())
    assert squared_chamfer([[0, 0, 0]], [[3, 4, 0], [0, 0, 1]]) == pytest.approx(1 + (25 + 1) / 2)


def test_one_sided_goes_from_truth_to_estimate_in_diameters() -> None:
    a, b = A / cdist(A, A).max(), B / cdist(B, B).max()
    assert one_sided_normalised_chamfer(A, B) == pytest.approx(cdist(b, a).min(1).mean())
    assert one_sided_normalised_chamfer(3 * A, A) == pytest.approx(0, abs=1e-9)  # blind to size
    more = np.vstack([A, A[:50] * 0.3])
    assert one_sided_normalised_chamfer(more, A) == pytest.approx(0, abs=1e-9)  # and to more
    assert one_sided_normalised_chamfer(np.zeros((3, 3)), A) == np.inf


@pytest.mark.parametrize("points", [A, A[:3], A * (1, 1, 0), A * (1, 0, 0), A[:1], A[:0]])
def test_the_diameter_is_the_largest_distance(points: np.ndarray) -> None:
    assert diameter(points) == pytest.approx(cdist(points, points).max(initial=0.0))
