"""Points looked up in tables against the decoder that the tables were made from."""

from pathlib import Path

import pytest
import torch
from counting import CountedOperations
from known import Known
from torch import Tensor

from crisp_ros.correction.packed_tables import PackedTables, packed_bytes, table_error
from crisp_ros.correction.shape_table import ACCURACY_M, BAND_M, ShapeTable, tabulate
from crisp_ros.network.checkpoint import Model, load_model

MODEL = Path(__file__).parents[2] / "models" / "crisp_ycbv_compact.safetensors"
SIGN_MARGIN_M = 5e-5  # nearer to the surface a table may say the other side


@pytest.fixture(scope="module")
def tables(known: Known) -> list[ShapeTable]:
    library = known.library
    boxes = zip(library.codes, library.lower, library.upper, strict=True)
    return [tabulate(known.decoder, *shape) for shape in boxes]


@pytest.fixture(scope="module")
def packed(tables: list[ShapeTable]) -> PackedTables:
    return PackedTables.of(tables)


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model(MODEL)


def around(table: ShapeTable, count: int, seed: int = 0) -> Tensor:
    share = torch.rand(count, 3, generator=torch.Generator().manual_seed(seed))
    return table.frame[:3] + share * table.roots * table.frame[3]


def assert_agrees(decoder, code: Tensor, table: ShapeTable, count: int) -> None:
    """Within the limits of the band, and of the surface."""
    packed, only = PackedTables.of([table]), torch.tensor(0)
    points = around(table, count)
    near = packed.sdf_and_gradient(points, only)
    # As many points again next to the surface.
    on = points - near.sdf[:, None] * near.gradient
    on = on[near.sdf.abs() < 0.03].repeat(9, 1)[:count]
    on += 1e-3 * torch.randn(on.shape, generator=torch.Generator().manual_seed(0))
    points = torch.cat((points, on))
    exact, found = decoder.sdf_and_gradient(points, code), packed.sdf_and_gradient(points, only)
    error = (found.sdf - exact.sdf).abs()
    assert error[exact.sdf.abs() < BAND_M].max() < ACCURACY_M
    assert error.max() < 3e-3
    differ = (found.sdf < 0) != (exact.sdf < 0)
    assert not (differ & (exact.sdf.abs() > SIGN_MARGIN_M)).any()
    slope = exact.gradient.norm(dim=-1)
    close = (exact.sdf.abs() < 2e-3) & (slope > 0.7)
    assert close.sum() > 0.05 * count
    across = torch.linalg.cross(found.gradient, exact.gradient).norm(dim=-1)
    angle = torch.atan2(across, (found.gradient * exact.gradient).sum(-1)).rad2deg()
    assert angle[close].max() < 5.0
    assert (found.gradient.norm(dim=-1) - slope).abs()[close].max() < 0.1


@pytest.mark.parametrize("k", range(8))
def test_the_test_shapes(known: Known, tables: list[ShapeTable], k: int) -> None:
    assert_agrees(known.decoder, known.library.codes[k], tables[k], 10_000)


@pytest.mark.parametrize("k", range(21))
def test_the_shapes_of_the_shipped_model(model: Model, k: int) -> None:
    library, decoder = model.library, model.network.decoder
    table = tabulate(decoder, library.codes[k], library.lower[k], library.upper[k])
    assert packed_bytes(table) < 15e6
    assert_agrees(decoder, library.codes[k], table, 10_000)


def test_all_together_as_each_alone(packed: PackedTables, tables: list[ShapeTable]) -> None:
    index = torch.tensor([5, 0, 3, 3, 7])
    points = torch.stack([around(tables[k], 50, seed=i) for i, k in enumerate(index.tolist())])
    together = packed.sdf_and_gradient(points, index)
    for i, k in enumerate(index.tolist()):
        alone = PackedTables.of([tables[k]]).sdf_and_gradient(points[i], torch.tensor(0))
        torch.testing.assert_close(together.sdf[i], alone.sdf, rtol=0, atol=0)
        torch.testing.assert_close(together.gradient[i], alone.gradient, rtol=0, atol=0)
    torch.testing.assert_close(packed.sdf(points, index), together.sdf, rtol=0, atol=0)


def test_leading_dimensions_broadcast(packed: PackedTables) -> None:
    points = 0.05 * torch.randn(2, 1, 9, 3, generator=torch.Generator().manual_seed(1))
    every = torch.arange(8)
    found = packed.sdf_and_gradient(points, every)
    assert found.sdf.shape == (2, 8, 9)
    assert found.gradient.shape == (2, 8, 9, 3)
    for k in range(8):
        alone = packed.sdf(points[:, 0], every[k])
        torch.testing.assert_close(found.sdf[:, k], alone, rtol=0, atol=0)
    assert packed.sdf(points[:, :, :0], every).shape == (2, 8, 0)
    assert packed.sdf(points[:0], every).shape == (0, 8, 9)


def test_the_gradient_is_the_slope_of_the_distances(packed: PackedTables) -> None:
    """Within a leaf; checked with differences in double precision, small against a leaf."""
    points = 0.04 * torch.rand(200, 3, generator=torch.Generator().manual_seed(2)).double()
    shape, step = torch.tensor(1), 1e-6
    moved = points[:, None] + step * torch.eye(3).double()
    slope = packed.sdf(moved.flatten(0, 1), shape).view(200, 3) - packed.sdf(points, shape)[:, None]
    gradient = packed.sdf_and_gradient(points, shape).gradient
    off = (slope / step - gradient).abs().amax(-1)
    assert off.quantile(0.95) < 1e-3  # a step from one leaf into the next is the exception


def test_far_away_the_way_to_the_box_is_added(
    known: Known, packed: PackedTables, tables: list[ShapeTable]
) -> None:
    k = known.library.names.index("sphere")
    table = tables[k]
    upper = table.frame[:3] + table.roots * table.frame[3]
    middle = table.frame[:3] + 0.5 * table.roots * table.frame[3]
    face = torch.tensor([upper[0], middle[1], middle[2]])
    points = face + torch.tensor([[0.0, 0, 0], [0.3, 0, 0], [50.0, 0, 0]])
    found = packed.sdf(points, torch.tensor(k))
    torch.testing.assert_close(
        found[1:] - found[0], torch.tensor([0.3, 50.0]), rtol=1e-4, atol=1e-4
    )
    truth = known.shapes[k].sdf(points.double()).float()
    torch.testing.assert_close(found, truth, rtol=1e-3, atol=2e-3)
    everywhere = torch.randn(500, 3, generator=torch.Generator().manual_seed(3))
    assert (packed.sdf(everywhere, torch.tensor(k)) > 0).sum() > 490


def test_points_that_are_not_finite(packed: PackedTables) -> None:
    nan, inf = torch.nan, torch.inf
    bad = torch.tensor([[nan, 0, 0], [0, inf, 0], [0, 0, -inf], [nan, nan, nan], [inf, -inf, nan]])
    good = torch.zeros(1, 3)
    found = packed.sdf_and_gradient(torch.cat((bad, good)), torch.tensor(2))
    assert not torch.isfinite(found.sdf[:-1]).any()
    assert not (found.sdf[:-1] < 0).any()
    torch.testing.assert_close(found.sdf[-1:], packed.sdf(good, torch.tensor(2)))
    assert torch.isfinite(packed.sdf(torch.full((1, 3), 1e10), torch.tensor(2))).all()


def test_no_host_round_trips_and_few_operations(packed: PackedTables) -> None:
    """A GPU would be bound by launches; the decoder takes about 50."""
    points, index = torch.zeros(3, 7, 3), torch.tensor([1, 2, 3])
    with CountedOperations() as counted:
        packed.sdf_and_gradient(points, index)
    assert not counted.waits
    assert counted.operations <= 25


def test_memory_is_what_was_said(packed: PackedTables, tables: list[ShapeTable]) -> None:
    large = sum(part.numel() * part.element_size() for part in (packed.leaves, packed.rows))
    assert large == sum(packed_bytes(table) for table in tables)
    assert PackedTables.of([]).sdf(torch.zeros(0, 5, 3), torch.zeros(0).long()).shape == (0, 5)


def test_the_error_of_a_table_is_measured(known: Known, tables: list[ShapeTable]) -> None:
    """A table of another shape is as wrong as the shapes differ; one without leaves, entirely."""
    codes = known.library.codes
    assert table_error(known.decoder, codes[0], tables[0]) < ACCURACY_M
    assert table_error(known.decoder, codes[1], tables[0]) > 1e-3
    assert table_error(known.decoder, codes[0], tables[0].without_leaves()) == float("inf")
