import numpy as np
import pytest
import torch
from analytic import sphere
from analytic_scene import AnalyticDecoder
from tracking.scenes import CAN, CUP, MUG, library, looking_from, seen_points

from crisp_ros.correction.correspondences import ObjectPoints, Shapes
from crisp_ros.correction.prepared_library import PreparedLibrary
from crisp_ros.correction.shape_field import DecoderField
from crisp_ros.tracking.multi_view_shape import (
    MultiViewShapeSettings,
    multi_view_shape,
    shape_distances,
)
from crisp_ros.tracking.view_buffer import ViewBuffer, ViewBufferSettings, stack_views

SHAPES = (CAN, CUP, MUG)
FIELD = DecoderField(AnalyticDecoder(SHAPES))
LIBRARY = PreparedLibrary(FIELD, library(SHAPES))
HANDLE_HIDDEN = ([-1, 0.2, 0.3], [-1, -0.3, 0.2], [-0.8, 0.1, -0.3])
HANDLE_SEEN = ([0.2, 1, 0.3], [0.9, -1, 0.4])


def views(shape, directions, seed=0) -> ObjectPoints:
    """The points of a buffer after the object was seen from these directions."""
    buffer = ViewBuffer(ViewBufferSettings(), np.zeros(3), "cpu")
    for i, direction in enumerate(directions):
        T = looking_from(direction)
        points = seen_points(shape, T, seed=seed + i)
        buffer.add(points, torch.ones(len(points)).bool(), np.linalg.inv(T), True, 0.8)
    assert len(buffer) == len(directions)
    return buffer.pooled()


def solved(pooled, names, settings=None):
    rows = [LIBRARY.names.index(name) for name in names]
    given = LIBRARY.shapes(torch.tensor(rows))
    return multi_view_shape(FIELD, LIBRARY, stack_views(pooled), given, settings)


def boxed(codes, half_edge) -> Shapes:
    """Shapes outside the library, in cubes about the origin."""
    shapes = Shapes.of_codes(torch.tensor(codes))
    corner = torch.full_like(shapes.lower, half_edge)
    return shapes._replace(lower=-corner, upper=corner)


def test_all_views_find_the_handle_that_one_cannot_show():
    hidden = [views(MUG, [d]) for d in HANDLE_HIDDEN]
    alone = solved(hidden, ["cup"] * 3)
    assert not alone.changed.any()  # a cup is as good a guess
    assert alone.shapes.index.tolist() == [1, 1, 1]
    together = solved([views(MUG, [*HANDLE_HIDDEN, *HANDLE_SEEN])], ["cup"])
    assert together.changed.all()
    assert together.shapes.index.tolist() == [2]
    assert together.objective < together.start_objective
    assert torch.equal(together.shapes.lower[0], LIBRARY.library.lower[2])
    assert torch.equal(together.shapes.upper[0], LIBRARY.library.upper[2])
    assert together.tangent_eigenvalue > 10 * alone.tangent_eigenvalue.max()


def test_a_right_shape_stays_and_objects_of_a_batch_do_not_mix():
    pooled = [
        views(CUP, [*HANDLE_HIDDEN, *HANDLE_SEEN]),
        views(MUG, HANDLE_SEEN, seed=7),
        views(CAN, [HANDLE_SEEN[0]], seed=9),
    ]
    found = solved(pooled, ["cup", "can", "can"])
    assert found.changed.tolist() == [False, True, False]
    assert found.shapes.index.tolist() == [1, 2, 0]
    for i, name in enumerate(["cup", "can", "can"]):
        alone = solved([pooled[i]], [name])
        assert torch.equal(alone.shapes.codes[0], found.shapes.codes[i])


def test_projected_gradient_finds_a_blend_of_two_shapes():
    sizes = [0.04, 0.05, 0.044]
    small, large, true = (sphere(size, f"ball {size}") for size in sizes)
    field = DecoderField(AnalyticDecoder((small, large)))
    balls = PreparedLibrary(field, library((small, large)))
    settings = MultiViewShapeSettings(solver="projected_gradient")
    given = balls.all_shapes.rows(slice(0, 1))
    found = multi_view_shape(field, balls, views(true, HANDLE_HIDDEN), given, settings)
    assert found.changed.all()
    # The paper's 25 steps of 0.01 do not reach 0.4, the share of the large ball, but approach it.
    assert 0.2 < found.shapes.codes[0, 1].item() < 0.45
    assert found.shapes.index.tolist() == [-1]
    assert found.objective < 0.3 * found.start_objective
    # The box is that of the blend, as large as a surface point of the ball is far away.
    radius = 0.04 + 0.01 * found.shapes.codes[0, 1].item()
    assert found.shapes.lower.flatten().tolist() == pytest.approx([-radius] * 3, abs=1.5e-3)
    assert found.shapes.upper.flatten().tolist() == pytest.approx([radius] * 3, abs=1.5e-3)


def test_distances_of_shapes_are_those_of_their_surfaces():
    field = DecoderField(AnalyticDecoder((sphere(0.05), sphere(0.054))))
    small, large, between = (boxed([code], 0.054) for code in ([1.0, 0.0], [0.0, 1.0], [0.5, 0.5]))
    distance = shape_distances(field, small, large)
    assert distance.item() == pytest.approx(0.004, abs=1e-6)
    half = shape_distances(field, small, between)
    assert half.item() == pytest.approx(0.002, abs=1e-6)
    assert shape_distances(field, small, small) == 0.0


def test_a_handle_is_a_change_but_another_code_is_not():
    field = DecoderField(AnalyticDecoder((CUP, MUG, CUP)))
    low, high = (torch.tensor([side] * 2) for side in (MUG.lower, MUG.upper))
    cups, others = (
        Shapes.of_codes(torch.eye(3)[rows])._replace(lower=low, upper=high)
        for rows in ([0, 0], [1, 2])
    )
    distances = shape_distances(field, cups, others)
    assert distances[0] > 0.01
    assert distances[1] == 0.0


def test_unknown_solvers_are_refused():
    with pytest.raises(ValueError, match="solver"):
        MultiViewShapeSettings(solver="guess")
