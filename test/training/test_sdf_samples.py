"""Points for fitting shapes: sections, their order, and the hardest of them."""

from __future__ import annotations

import torch
from torch import Tensor

from crisp_ros.network.decoder import ShapeDecoder
from crisp_ros.training.sdf_samples import SdfSamples, draw_shuffled, keep_hardest


class _ZeroDecoder(ShapeDecoder):
    """Says that every point is on the surface."""

    def __init__(self) -> None:
        super().__init__(hidden=1, layers=1)

    def sdf(self, points: Tensor, codes: Tensor) -> Tensor:
        return torch.zeros(points.shape[:2])


def _numbered(shapes: int = 3, per_shape: int = 30) -> SdfSamples:
    """Points whose distance is their number, and whose x is their shape."""
    distances = torch.arange(float(per_shape)).repeat(shapes, 1)
    points = torch.zeros(shapes, per_shape, 3)
    points[..., 0] = torch.arange(shapes)[:, None]
    points[..., 1] = distances
    return SdfSamples(points, distances)


def test_each_section_has_its_number_of_points_in_random_order() -> None:
    stream = torch.Generator().manual_seed(3)
    drawn = draw_shuffled(_numbered(), torch.tensor([2, 0]), (4, 2, 3), stream)
    assert drawn.points.shape == (2, 9, 3) and drawn.distances.shape == (2, 9)
    assert torch.equal(drawn.points[..., 1], drawn.distances)
    assert drawn.points[..., 0].unique(dim=1).tolist() == [[2.0], [0.0]]
    section = (drawn.distances // 10).long()
    for row in section:
        assert torch.bincount(row, minlength=3).tolist() == [4, 2, 3]
        assert row.tolist() != sorted(row.tolist())
    assert torch.equal(section[0], section[1]), "the order is the same for all shapes"
    assert not torch.equal(drawn.distances[0], drawn.distances[1])


def test_a_random_half_and_the_hardest_points_are_kept() -> None:
    distances = torch.tensor([[1.0, 2.0, 9.0, 3.0, 8.0, 0.0, 7.0, 4.0]])
    drawn = SdfSamples(distances[..., None].repeat(1, 1, 3), distances)
    kept = keep_hardest(_ZeroDecoder(), torch.zeros(1, 1), drawn, 2)
    assert sorted(kept.distances[0].tolist()) == [1.0, 2.0, 8.0, 9.0]
    assert torch.equal(kept.points[..., 0], kept.distances)
    assert keep_hardest(_ZeroDecoder(), torch.zeros(1, 1), drawn, 1) is drawn
