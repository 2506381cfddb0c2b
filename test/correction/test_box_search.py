"""Boxes of shapes outside the library, from points of one view."""

from __future__ import annotations

import pytest
import torch
from analytic import AnalyticShape, box, sphere
from analytic_scene import analytic_field
from counting import CountedOperations
from known import Known
from observed import Noise, observe
from torch import Tensor

from crisp_ros.correction.box_search import with_boxes
from crisp_ros.correction.correspondences import ObjectPoints, Shapes
from crisp_ros.geometry.fixed_shapes import force_fixed_shapes
from crisp_ros.geometry.isosurface import IsosurfaceSettings, extract_meshes
from crisp_ros.network.library import ShapeLibrary
from crisp_ros.pipeline import decoded_shapes

VIEWS = ((1.0, 0.6, 0.7), (-0.3, 1.0, 0.2), (0.0, 0.0, 1.0))
MISSED_M, LARGER_SHARE, LARGER_M = 0.001, 0.1, 0.003


def assert_box(shapes: Shapes, lower: Tensor, upper: Tensor) -> None:
    """Check that boxes cover the true ones to a millimetre, and are hardly larger."""
    missed = torch.maximum(shapes.lower - lower, upper - shapes.upper).amax(-1)
    assert (missed <= MISSED_M).all(), f"missed by {(1e3 * missed).tolist()} mm"
    larger = (shapes.upper - shapes.lower) - (upper - lower)
    limit = LARGER_SHARE * (upper - lower) + LARGER_M
    assert (larger <= limit).all(), f"larger by {(1e3 * larger).tolist()} mm"


def meshed(known: Known, codes: Tensor, around: ShapeLibrary) -> tuple[Tensor, Tensor]:
    """Return the corners (K, 3) of fine meshes of decoded shapes, from boxes 1 cm around them."""
    meshes = extract_meshes(
        decoded_shapes(known.decoder, codes),
        around.lower - 0.01,
        around.upper + 0.01,
        IsosurfaceSettings(voxels=96),
    )
    vertices = [torch.from_numpy(mesh.vertices).float() for mesh in meshes]
    return torch.stack([v.amin(0) for v in vertices]), torch.stack([v.amax(0) for v in vertices])


@pytest.fixture(scope="module")
def true(known) -> tuple[Tensor, Tensor]:
    """The corners of the decoded library shapes."""
    return meshed(known, known.library.codes, known.library)


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_of_a_shape_gives_its_whole_box(known, true, view) -> None:
    """The other half is decoded; the boxes that the library has play no part."""
    seen = observe(known.shapes, Noise(), seed=1, views=[view] * len(known.shapes))
    unknown = Shapes.of_codes(known.library.codes)
    found = with_boxes(known.field, unknown, seen.object_points())
    assert_box(found, *true)
    assert found.codes is unknown.codes and found.index is unknown.index
    wrong = known.prepared.all_shapes._replace(lower=-torch.ones(8, 3), upper=torch.ones(8, 3))
    again = with_boxes(known.field, wrong, seen.object_points())
    assert torch.equal(again.lower, found.lower) and torch.equal(again.upper, found.upper)


def test_a_blend_of_shapes_has_its_own_box(known) -> None:
    codes = 0.5 * known.codes("mug", "cylinder") + 0.5 * known.codes("cup", "capsule")
    seen = observe(known.named("mug", "cylinder"), Noise(), seed=2, views=VIEWS[:2])
    found = with_boxes(known.field, Shapes.of_codes(codes), seen.object_points())
    around = known.only("mug", "cylinder").library
    assert_box(found, *meshed(known, codes, around))


def moved(shape: AnalyticShape, *by: float) -> AnalyticShape:
    """Move a shape in its frame, metres."""
    low, high = (
        tuple(a + b for a, b in zip(side, by, strict=True)) for side in (shape.lower, shape.upper)
    )
    return AnalyticShape("moved", lambda p: shape.sdf(p - torch.tensor(by).to(p)), low, high)


def found_for(shape: AnalyticShape, points: Tensor) -> Shapes:
    """Find the box of a shape from points (N, 3) on it."""
    seen = ObjectPoints.of(points[None].float(), torch.ones(1, len(points)).bool())
    return with_boxes(analytic_field(shape), Shapes.of_codes(torch.ones(1, 1)), seen)


@pytest.mark.parametrize("middle", [0.0, 0.12, -0.06])
def test_a_long_bar_seen_end_on_is_not_cut_off(middle: float) -> None:
    """All points are on one end, which may be near the origin of the object frame."""
    bar = moved(box((0.15, 0.02, 0.03)), middle, 0.0, 0.0)
    points = bar.surface(300, torch.Generator().manual_seed(0), visible_from=(-1.0, 0.0, 0.0))
    assert points[:, 0].max() < bar.lower[0] + 1e-3
    found = found_for(bar, points)
    assert_box(found, torch.tensor([bar.lower]), torch.tensor([bar.upper]))


def union(first: AnalyticShape, second: AnalyticShape) -> AnalyticShape:
    """Join two bodies, in the box of the first."""
    return AnalyticShape(
        "both", lambda p: torch.minimum(first.sdf(p), second.sdf(p)), first.lower, first.upper
    )


@pytest.mark.parametrize("way", [(0.16, 0.0, 0.0), (0.2, 0.1, -0.1), (0.0, 0.0, 0.6)])
def test_a_second_body_does_not_enlarge_the_box(way) -> None:
    """Only the one on which the points are counts, on whichever side of it the origin is."""
    here, there = sphere(0.04), moved(sphere(0.05), *way)
    g = torch.Generator().manual_seed(0)
    for body, other in ((here, there), (there, here)):
        points = body.surface(300, g, visible_from=(0.5, 0.3, 1.0))
        found = found_for(union(body, other), points)
        assert_box(found, torch.tensor([body.lower]), torch.tensor([body.upper]))


def test_boxes_with_fixed_shapes_are_the_same(known) -> None:
    """As on a GPU, where the host does not look whether a body reaches the border of its grid."""
    shapes = Shapes.of_codes(known.library.codes)
    seen = observe(known.shapes, Noise(), seed=1).object_points()
    expected = with_boxes(known.field, shapes, seen)
    with force_fixed_shapes(), CountedOperations() as counted:
        found = with_boxes(known.field, shapes, seen)
    assert not counted.waits
    torch.testing.assert_close(found, expected, equal_nan=True)


def test_a_batch_equals_its_members(known) -> None:
    seen = observe(known.shapes, Noise(0.001), seed=3).object_points()
    shapes = Shapes.of_codes(known.library.codes)
    together = with_boxes(known.field, shapes, seen)
    for b in range(len(known.shapes)):
        one = slice(b, b + 1)
        alone = with_boxes(
            known.field, shapes.rows(one), ObjectPoints(seen.points[one], seen.weights[one])
        )
        torch.testing.assert_close(alone.lower[0], together.lower[b], atol=1e-5, rtol=0)
        torch.testing.assert_close(alone.upper[0], together.upper[b], atol=1e-5, rtol=0)


def test_what_is_not_finite_or_not_valid_plays_no_part(known) -> None:
    seen = observe(known.named("mug", "bar"), Noise(), seed=4).object_points()
    shapes = Shapes.of_codes(known.codes("mug", "bar"))
    plain = with_boxes(known.field, shapes, seen)
    junk, far = torch.full((2, 30, 3), torch.nan), torch.full((2, 20, 3), 50.0)
    padded = ObjectPoints(
        torch.cat((seen.points, junk, far), 1),
        torch.cat((seen.weights, torch.ones(2, 30), torch.zeros(2, 20)), 1),
    )
    found = with_boxes(known.field, shapes, padded)
    assert torch.equal(found.lower, plain.lower) and torch.equal(found.upper, plain.upper)


@pytest.mark.parametrize("valid", [False, True])
def test_nothing_seen_is_survived(known, true, valid: bool) -> None:
    """All points invalid, or none of them finite; others of the batch have their boxes."""
    seen = observe(known.named("mug", "box"), Noise(), seed=5).object_points()
    points, weights = seen.points.clone(), seen.weights.clone()
    points[0] = torch.nan
    weights[0] = float(valid)
    shapes = Shapes.of_codes(known.codes("mug", "box"))
    found = with_boxes(known.field, shapes, ObjectPoints(points, weights))
    assert torch.isfinite(found.lower).all() and torch.isfinite(found.upper).all()
    assert (found.lower < found.upper).all()
    row = known.library.names.index("box")
    assert_box(found.rows(slice(1, 2)), *(corner[row : row + 1] for corner in true))


def test_no_objects_are_survived(known) -> None:
    none = with_boxes(
        known.field,
        Shapes.of_codes(known.library.codes[:0]),
        ObjectPoints(torch.zeros(0, 5, 3), torch.zeros(0, 5)),
    )
    assert none.lower.shape == none.upper.shape == (0, 3)


def test_points_off_the_surface_do_not_lose_the_body() -> None:
    """A pose with an error of a centimetre still finds the shape that is near its points."""
    ball = sphere(0.04)
    points = ball.surface(200, torch.Generator().manual_seed(0), visible_from=(0.0, 0.0, 1.0))
    found = found_for(ball, points + torch.tensor([0.0, 0.0, 0.01]))
    assert_box(found, torch.tensor([ball.lower]), torch.tensor([ball.upper]))
