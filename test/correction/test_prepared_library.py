"""The shape library in use: which shape is which, and each thing found once."""

from __future__ import annotations

import pytest
import torch
from analytic import box, cylinder, mug, sphere
from analytic_scene import analytic_field, analytic_library
from counting import CountingField
from torch import Tensor

from crisp_ros.correction import prepared_library
from crisp_ros.correction.corrector import Correction, CorrectorSettings, correct
from crisp_ros.correction.correspondences import Correspondences, Shapes
from crisp_ros.correction.prepared_library import PreparedLibrary
from crisp_ros.correction.shape_field import DecoderField
from crisp_ros.correction.surface import surface_points
from crisp_ros.correction.symmetry_motions import (
    SymmetryKind,
    SymmetryMotions,
    symmetry_motions,
)
from crisp_ros.network.decoder import SignedDistance
from crisp_ros.network.library import ShapeLibrary

SIZES = (26, 64, 1000)


class Ball:
    """The field of a ball of 4 cm, whatever the shape."""

    def sdf(self, points: Tensor, shapes: Shapes) -> Tensor:
        batch = torch.broadcast_shapes(points.shape[:-2], shapes.codes.shape[:-1])
        return (points.norm(dim=-1) - 0.04).expand(*batch, points.shape[-2])

    def sdf_and_gradient(self, points: Tensor, shapes: Shapes) -> SignedDistance:
        sdf = self.sdf(points, shapes)
        gradient = torch.nn.functional.normalize(points, dim=-1)
        return SignedDistance(sdf, gradient.expand(*sdf.shape, 3))


def crowded(known, size: int) -> PreparedLibrary:
    """Prepare a library whose codes are near one another, each with a box of its own."""
    g = torch.Generator().manual_seed(size)
    base = known.library.codes[torch.arange(size) % len(known.library)]
    codes = base + 1e-4 * torch.randn(base.shape, generator=g)
    lower = -0.04 - 0.01 * torch.rand(size, 3, generator=g)
    names = tuple(f"shape {k}" for k in range(size))
    return PreparedLibrary(Ball(), ShapeLibrary(names, codes, lower, -lower))


def of_the_ball(count: int) -> Correspondences:
    """Draw points on the half of the ball that a camera 0.6 m away sees, with coordinates."""
    g = torch.Generator().manual_seed(0)
    z = 0.04 * torch.nn.functional.normalize(torch.randn(count, 80, 3, generator=g), dim=-1)
    z[..., 2] = -z[..., 2].abs()
    ones = torch.ones(count, 80)
    return Correspondences(z + torch.tensor([0.0, 0.0, 0.6]), z, ones, ones.bool())


def corrected(library: PreparedLibrary, codes: Tensor, **settings) -> Correction:
    """Correct objects of the ball for which the network gave these codes (B, C)."""
    T = torch.eye(4).repeat(len(codes), 1, 1)
    T[:, 2, 3] = -0.6
    chosen = CorrectorSettings(shape="lsq", **settings)
    given = Shapes.of_codes(codes)
    return correct(Ball(), of_the_ball(len(codes)), given, T, library, chosen)


@pytest.mark.parametrize("size", SIZES)
def test_the_corrector_keeps_the_index_of_every_shape(known, size: int) -> None:
    library = crowded(known, size)
    rows = torch.linspace(0, size - 1, 40).round().long()
    found = corrected(library, library.codes[rows]).shapes
    assert torch.equal(found.index, rows)
    assert torch.equal(found.codes, library.codes[rows])
    assert torch.equal(found.lower, library.library.lower[rows])
    assert torch.equal(found.upper, library.library.upper[rows])


@pytest.mark.parametrize("size", SIZES)
def test_distances_of_equal_codes_are_zero(known, size: int) -> None:
    library = crowded(known, size)
    distances = library.distances(library.codes)
    assert (distances.diagonal() == 0).all()
    others = distances + torch.diag(torch.full((size,), torch.inf))
    assert others.min() > 0
    row = size // 2
    expected = (library.codes.double() - library.codes[row].double()).norm(dim=-1)
    torch.testing.assert_close(distances[row].double(), expected, rtol=1e-5, atol=1e-7)


def test_a_code_between_shapes_has_no_index_of_its_own(known) -> None:
    """The corrector replaces it by a library shape, or keeps it where shapes are kept."""
    library = crowded(known, 26)
    between = (0.6 * library.codes[4] + 0.4 * library.codes[5])[None]
    assert corrected(library, between).shapes.index.tolist() == [4]
    T = torch.eye(4)[None]
    kept = CorrectorSettings(shape="none")
    given = Shapes.of_codes(between)
    found = correct(Ball(), of_the_ball(1), given, T, None, kept).shapes
    assert found.index.tolist() == [-1] and torch.equal(found.codes, between)


def test_a_mixture_at_a_vertex_is_that_shape_exactly(known) -> None:
    library, size = known.prepared, len(known.prepared)
    own = Shapes.of_codes(torch.zeros(size, library.codes.shape[1]))
    columns = library.columns(own, own_code=False, count=64)
    found = library.mixture(torch.eye(size), columns, own)
    for part, expected in zip(found, library.all_shapes, strict=True):
        assert torch.equal(part, expected)


def test_a_mixture_inside_is_none_of_the_shapes(known) -> None:
    library = known.prepared
    coefficients = torch.zeros(2, len(library))
    coefficients[0, 2], coefficients[0, 5] = 0.25, 0.75
    coefficients[1, 3], coefficients[1, 4] = 0.9999, 0.0001
    own = Shapes.of_codes(torch.zeros(2, library.codes.shape[1]))
    columns = library.columns(own, own_code=False, count=64)
    found = library.mixture(coefficients, columns, own)
    assert found.index.tolist() == [-1, -1]
    assert found.lower.isnan().all() and found.upper.isnan().all()
    torch.testing.assert_close(found.codes[0], 0.25 * library.codes[2] + 0.75 * library.codes[5])


def test_the_last_column_of_a_mixture_is_the_networks_shape(known) -> None:
    library, size = known.prepared, len(known.prepared)
    own = Shapes.of_codes(known.codes("box", "mug", "cup") + 0.1)
    boxed = own._replace(lower=-torch.ones(3, 3), upper=torch.ones(3, 3))
    coefficients = torch.zeros(3, size + 1)
    coefficients[0, size] = coefficients[2, size - 1] = 1.0
    coefficients[1, 0] = coefficients[1, size] = 0.5
    columns = library.columns(boxed, own_code=True, count=64)
    found = library.mixture(coefficients, columns, boxed)
    assert found.index.tolist() == [-1, -1, size - 1]
    assert torch.equal(found.codes[0], own.codes[0])
    assert torch.equal(found.lower[0], boxed.lower[0])
    torch.testing.assert_close(found.codes[1], 0.5 * library.codes[0] + 0.5 * own.codes[1])
    assert found.lower[1].isnan().all()
    assert torch.equal(found.codes[2], library.codes[size - 1])


def test_columns_are_the_library_and_the_networks_own(known) -> None:
    library, size = known.prepared, len(known.prepared)
    own = Shapes.of_codes(known.codes("mug", "bar") + 1e-3)
    plain = library.columns(own, own_code=False, count=64)
    assert plain.codes.shape[:2] == (2, size)
    found = library.columns(own, own_code=True, count=64)
    for b, name in enumerate(("mug", "bar")):
        for part, expected in zip(found, library.all_shapes, strict=True):
            assert torch.equal(part[b, :size], expected)
        assert torch.equal(found.codes[b, size], own.codes[b])
        assert found.index[b, size] == -1
        # Without a box, it has that of the shape that is nearest.
        assert torch.equal(found.lower[b, size], known.shapes_of(name).lower[0])
        assert torch.equal(found.upper[b, size], known.shapes_of(name).upper[0])
    boxed = own._replace(lower=-torch.ones(2, 3), upper=torch.ones(2, 3))
    assert torch.equal(library.columns(boxed, True, 64).lower[:, size], boxed.lower)


def test_a_larger_library_gives_the_nearest_codes_only(known) -> None:
    library = known.prepared
    codes = torch.stack((known.codes("mug")[0] + 1e-3, known.codes("bar")[0]))
    found = library.nearest(codes, 3)
    distances = torch.linalg.norm(codes[:, None] - library.codes, dim=-1)
    for b in range(2):
        expected = sorted(distances[b].argsort()[:3].tolist())
        assert found.index[b].tolist() == expected
        assert torch.equal(found.codes[b], library.codes[expected])
    own = Shapes.of_codes(codes)
    columns = library.columns(own, own_code=True, count=3)
    assert columns.codes.shape[:2] == (2, 4)
    at_vertex = library.mixture(torch.eye(4)[[1, 3]], columns, own)
    assert at_vertex.index.tolist() == [found.index[0, 1].item(), -1]
    assert torch.equal(at_vertex.codes[1], codes[1])


def test_surfaces_of_library_shapes_are_found_once(known) -> None:
    field = CountingField(known.field)
    library = PreparedLibrary(field, known.library)
    assert field.calls == 0, "nothing is found before it is asked for"
    shapes = library.shapes(torch.tensor([3, 0, 3]))
    found = library.surfaces_of(shapes)
    calls = field.calls
    again = library.surfaces_of(shapes)
    assert field.calls == calls > 0
    expected = surface_points(known.field, library.all_shapes)
    for row, index in enumerate((3, 0, 3)):
        assert torch.equal(found.points[row], expected.points[index])
        assert torch.equal(found.valid[row], expected.valid[index])
    assert torch.equal(found.points, again.points)


def test_surfaces_of_mixed_batches_keep_their_order(known) -> None:
    library = known.prepared
    codes = 0.5 * known.codes("mug", "mug") + 0.5 * known.codes("cup", "cup")
    box = known.shapes_of("mug", "mug")
    outside = Shapes.of_codes(codes)._replace(lower=box.lower, upper=box.upper)
    sphere, bar = known.shapes_of("sphere"), known.shapes_of("bar")
    parts = (outside.rows(slice(0, 1)), sphere, outside.rows(slice(1, 2)), bar)
    mixed = Shapes(*(torch.cat(columns) for columns in zip(*parts, strict=True)))
    before = library.surfaces.points.clone()
    found = library.surfaces_of(mixed)
    for row, shape in enumerate(parts):
        alone = surface_points(known.field, shape)
        torch.testing.assert_close(found.points[row], alone.points[0], atol=1e-4, rtol=0)
        assert torch.equal(found.valid[row], alone.valid[0])
    assert torch.equal(library.surfaces.points, before)


@pytest.fixture(scope="module")
def household() -> tuple[PreparedLibrary, CountingField, list[tuple[int, int]]]:
    """Prepare a mug, a can and a box, and count the evaluations and the progress."""
    shapes = mug(0.04, 0.045, 0.008, 0.03), cylinder(0.033, 0.05), box((0.04, 0.025, 0.055))
    field, done = CountingField(analytic_field(*shapes)), []
    library = PreparedLibrary(field, analytic_library(shapes))
    library.prepare(lambda *progress: done.append(progress))
    return library, field, done


def test_prepared_libraries_evaluate_the_field_no_more(household) -> None:
    library, field, done = household
    assert done == [(1, 3), (2, 3), (3, 3)]
    calls = field.calls
    for k in range(3):
        assert library.motions(k) is library.motions(k)
    library.surfaces_of(library.all_shapes)
    library.prepare()
    assert field.calls == calls > 0


def test_a_large_library_prepares_a_shape_at_its_first_use(monkeypatch) -> None:
    """Not at configuration: a scene shows a few of a thousand shapes."""
    monkeypatch.setattr(prepared_library, "PREPARED_SHAPES", 2)
    shapes = mug(0.04, 0.045, 0.008, 0.03), cylinder(0.033, 0.05), box((0.04, 0.025, 0.055))
    field = CountingField(analytic_field(*shapes))
    library = PreparedLibrary(field, analytic_library(shapes))
    found = []

    def counted_search(field, shape: Shapes, *given: Tensor) -> SymmetryMotions:
        found.append(int(shape.index))
        return symmetry_motions(field, shape, *given)

    monkeypatch.setattr(prepared_library, "symmetry_motions", counted_search)
    library.prepare()
    assert field.calls == 0 and found == []
    motions = library.motions(1)
    assert found == [1]
    expected = PreparedLibrary(analytic_field(*shapes), analytic_library(shapes))
    assert torch.equal(motions.kinds, expected.motions(1).kinds)
    # The surface of the shape is there as well, that of another one is found alone.
    calls, points = field.calls, len(field.distances)
    seen = library.surfaces_of(library.shapes(torch.tensor([1])))
    assert field.calls == calls
    both = library.surfaces_of(library.shapes(torch.tensor([2, 1])))
    assert set(field.distances[points:]) == {16 * 512, 512}
    for row, index in enumerate((2, 1)):
        torch.testing.assert_close(both.points[row], expected.surfaces.points[index])
        assert torch.equal(both.valid[row], expected.surfaces.valid[index])
    assert torch.equal(seen.points[0], both.points[1])
    torch.testing.assert_close(library.surfaces.points, expected.surfaces.points)


def test_motions_are_marked_by_what_they_leave(household) -> None:
    library, _, _ = household
    of_mug, of_can, of_box = (library.motions(k) for k in range(3))
    for motions in (of_mug, of_can, of_box):
        assert torch.equal(motions.transforms[0], torch.eye(4))
        assert torch.equal(motions.of_kind(SymmetryKind.EXACT), torch.eye(4)[None])

    def count(motions, kind: SymmetryKind) -> int:
        return len(motions.of_kind(kind))

    # Rotated about the axis of its cup, a mug has its handle elsewhere.
    upright = {kind: of_mug.of_kind(kind)[:, 2, 2] > 0.99 for kind in SymmetryKind}
    assert not upright[SymmetryKind.SAME_SHAPE].any() and upright[SymmetryKind.NEAR].sum() > 5
    assert count(of_can, SymmetryKind.SAME_SHAPE) == 71 and count(of_can, SymmetryKind.NEAR) == 0
    assert count(of_box, SymmetryKind.SAME_SHAPE) == 3 and count(of_box, SymmetryKind.NEAR) == 0


def test_symmetries_of_the_library_are_the_exact_ones() -> None:
    ball = sphere(0.04)
    half = torch.eye(4).repeat(2, 1, 1)
    half[1, :3, :3] = torch.diag(torch.tensor([-1.0, -1.0, 1.0]))
    known = analytic_library((ball,))
    symmetric = ShapeLibrary(known.names, known.codes, known.lower, known.upper, (half,))
    motions = PreparedLibrary(analytic_field(ball), symmetric).motions(0)
    assert torch.equal(motions.of_kind(SymmetryKind.EXACT), half)
    # Those of the 60 rotations of the icosahedron that the print has too are not repeated.
    same = motions.of_kind(SymmetryKind.SAME_SHAPE)[:, :3, :3]
    assert len(same) >= 58
    apart = torch.linalg.matrix_norm(same[:, None] - half[:, :3, :3])
    assert (apart > 0.05).all()
    assert len(motions.of_kind(SymmetryKind.NEAR)) == 0


def test_the_library_is_what_the_model_has(known) -> None:
    library = PreparedLibrary(DecoderField(known.decoder), known.library)
    assert len(library) == len(known.library) and library.names == known.library.names
    assert torch.equal(library.diameters, known.library.diameters)
    assert library.all_shapes.index.tolist() == list(range(len(library)))
    torch.testing.assert_close(library.all_shapes.diameters, library.diameters)
    grid = torch.tensor([[0, 3], [7, 3]])
    found = library.shapes(grid)
    assert torch.equal(found.index, grid) and torch.equal(found.codes, library.codes[grid])
