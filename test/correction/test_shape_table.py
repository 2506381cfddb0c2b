"""Tables of signed distances: exact for what they can express, and how they are refined."""

import torch
from torch import Tensor

from crisp_ros.correction import shape_table
from crisp_ros.correction.packed_tables import PackedTables
from crisp_ros.correction.shape_table import ShapeTable, tabulate
from crisp_ros.network.decoder import SignedDistance

HALF = torch.tensor([0.02, 0.03, 0.015])


class ClosedForm:
    """A decoder whose distances are a function of the points."""

    def __init__(self, function) -> None:
        self.function, self.evaluations = function, 0

    def sdf(self, points: Tensor, code: Tensor) -> Tensor:
        self.evaluations += len(points)
        return self.function(points)

    def sdf_and_gradient(self, points: Tensor, code: Tensor) -> SignedDistance:
        with torch.enable_grad():
            x = points.detach().requires_grad_(True)
            distance = self.sdf(x, code)
            (gradient,) = torch.autograd.grad(distance.sum(), x)
        return SignedDistance(distance.detach(), gradient)


def cubic(points: Tensor) -> Tensor:
    x, y, z = (points / 0.05).unbind(-1)
    return 0.02 * (x + 0.4 * y * z - 0.3 * x * x * y + 0.2 * z**3 - 0.1 * x * y * z + 0.1 * y**2)


def thin_plate(points: Tensor) -> Tensor:
    """Two millimetres thick in z, rounded."""
    return 0.001 * ((points[..., 2] / 0.001).square() + 1.0).sqrt() - 0.002


def made(function, half: Tensor = HALF) -> ShapeTable:
    return tabulate(ClosedForm(function), torch.zeros(1), -half, half)


def inside(table: ShapeTable, count: int = 4000) -> Tensor:
    share = torch.rand(count, 3, generator=torch.Generator().manual_seed(0))
    return table.frame[:3] + share * table.roots * table.frame[3]


def test_a_cubic_is_reproduced() -> None:
    """Values and slopes, to the rounding of half precision, without any refinement."""
    table = made(cubic)
    assert table.depth == 0
    points = inside(table)
    found = PackedTables.of([table]).sdf_and_gradient(points, torch.tensor(0))
    exact = ClosedForm(cubic).sdf_and_gradient(points, torch.zeros(1))
    torch.testing.assert_close(found.sdf, exact.sdf, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(found.gradient, exact.gradient, rtol=0, atol=3e-3)


def test_the_box_is_covered_with_a_margin() -> None:
    table = made(cubic)
    upper = table.frame[:3] + table.roots * table.frame[3]
    assert (table.frame[:3] <= -HALF - 0.02).all()
    assert (upper >= HALF + 0.02).all()
    assert len(table.level) == table.roots.prod()


def test_leaves_fill_the_box_once() -> None:
    table = made(thin_plate)
    volume = (table.frame[3] / 2 ** table.level.double()).pow(3).sum()
    torch.testing.assert_close(volume, (table.roots * table.frame[3]).double().prod())
    places = torch.cat((table.level[:, None].short(), table.cell), dim=-1)
    assert len(places.unique(dim=0)) == len(places)


def test_fine_leaves_where_the_distance_bends() -> None:
    table = made(thin_plate)
    assert table.depth == 2
    edge = table.frame[3] / 2 ** table.level.float()
    height = (table.frame[2] + edge * (table.cell[:, 2] + 0.5)).abs()
    assert height[table.level == 2].max() < 0.012
    assert height[table.level == 0].min() > 0.007


def test_probes_find_what_the_corners_do_not() -> None:
    """A ridge inside the root cells: values and slopes at their corners do not show it."""

    def ridge(points: Tensor) -> Tensor:
        from_ridge = (points[..., 2] - 0.004) / 0.0008
        return points[..., 0] + 0.002 * torch.exp(-from_ridge.square())

    table = made(ridge)
    heights = table.frame[2] + table.frame[3] * torch.arange(int(table.roots[2]) + 1)
    assert (heights - 0.004).abs().min() > 0.003
    assert table.depth > 0


def test_a_shape_that_needs_too_many_leaves(monkeypatch) -> None:
    monkeypatch.setattr(shape_table, "_MOST_LEAVES", 1000)
    assert len(made(thin_plate).level) == 0
    assert len(made(cubic).level) > 0


def test_a_large_shape_gets_large_cells() -> None:
    table = made(cubic, torch.full((3,), 1.5))
    assert table.roots.prod() < 80_000
    assert table.frame[3] > 0.05


def test_few_evaluations_far_from_the_surface() -> None:
    """The plate is refined next to its surface only, and a node of several cells counts once."""
    decoder = ClosedForm(thin_plate)
    table = tabulate(decoder, torch.zeros(1), -HALF, HALF)
    assert decoder.evaluations < 8 * len(table.level)
    finest = int(table.roots.prod()) * 8**table.depth
    assert decoder.evaluations < finest / 2
