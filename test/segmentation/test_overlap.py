"""Overlaps of label images against naive loops."""

import numpy as np
import pytest

from crisp_ros.segmentation.overlap import Overlap, best_pairs, overlaps


@pytest.mark.parametrize("scale", [1, 1_000_003], ids=["small labels", "large labels"])
def test_overlaps_are_those_of_a_loop(scale: int) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 5, (2, 12, 9)) * scale
    expected = {
        (i, j): int(((a == i) & (b == j)).sum())
        for i in np.unique(a[a > 0])
        for j in np.unique(b[b > 0])
    }
    found = overlaps(a, b)
    assert {(o.first, o.second): o.shared for o in found} == expected
    for o in found:
        assert (o.first_pixels, o.second_pixels) == ((a == o.first).sum(), (b == o.second).sum())
        assert o.iou == o.shared / ((a == o.first) | (b == o.second)).sum()


def test_best_pairs_are_one_to_one() -> None:
    pairs = [Overlap(1, 1, 5, 10, 10), Overlap(1, 2, 8, 10, 10), Overlap(2, 2, 9, 10, 10)]
    chosen = [(p.first, p.second) for p in best_pairs(pairs, lambda p: p.f)]
    assert chosen == [(2, 2), (1, 1)]
    assert len(list(best_pairs(pairs, lambda p: p.f, least=0.6))) == 1
