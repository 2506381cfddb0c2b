"""Algorithm 2 against loops, clarabel's answer and the true shapes."""

import math

import numpy as np
import pytest
import torch
from counting import CountingField
from observed import Noise, add_s, observe
from scipy import sparse

from crisp_ros.correction.active_shape import (
    ActiveShapeSettings,
    _combination,
    distance_matrix,
    least_squares,
    library_fits,
)
from crisp_ros.correction.correspondences import ObjectPoints, Shapes
from crisp_ros.correction.residuals import surface_objective
from crisp_ros.geometry.se3 import transform

# Seen from the side of its handle a mug is no cup.
VIEWS = ((1.0, 0.6, 0.7), (1.0, 0.8, 0.3), (0.9, -0.7, 0.5))


def half_seen(known, noise: Noise, seed: int, view=VIEWS[0]):
    """Every library shape, seen from one side."""
    return observe(known.shapes, noise, seed, count=300, views=[view] * len(known.shapes))


def test_distance_matrix_equals_a_loop(known) -> None:
    z = half_seen(known, Noise(0.002), seed=0).object_points().points
    F = distance_matrix(known.field, z, known.prepared.all_shapes)
    assert F.shape == (len(z), 300, len(known.library))
    for b in (0, 3):
        for k, code in enumerate(known.library.codes):
            with torch.no_grad():
                column = known.decoder(z[b], code)
            torch.testing.assert_close(F[b, :, k], column, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("one_hot", [True, False])
def test_finds_the_shape_from_half_its_surface(known, one_hot: bool) -> None:
    """Whatever the network's code."""
    right = total = 0
    library = known.prepared
    truth = torch.arange(len(library))
    # All points of a cup are on a mug too: what distinguishes them is space that was seen empty.
    distinct = truth != library.names.index("cup")
    for seed, view in enumerate(VIEWS):
        points = half_seen(known, Noise(0.002, 0.1), seed, view).object_points()
        wrong = library.shapes(truth.roll(1 + seed))
        settings = ActiveShapeSettings(one_hot=one_hot)
        step = least_squares(known.field, points, wrong, library, settings)
        right += (step.coefficients.argmax(-1) == truth)[distinct].sum().item()
        total += distinct.sum().item()
        assert (step.objective <= step.start_objective).all()
        if one_hot:
            assert torch.equal(step.shapes.index, step.coefficients.argmax(-1))
    assert right / total >= 0.95


def test_one_hot_is_the_best_of_all_columns(known) -> None:
    points = half_seen(known, Noise(0.002, 0.1), seed=4).object_points()
    z, valid = points.points, points.valid
    settings = ActiveShapeSettings(points=300)
    given = known.prepared.all_shapes
    step = least_squares(known.field, points, given, known.prepared, settings)
    for b in range(len(z)):
        tried = [
            surface_objective(known.decoder.sdf(z[b], code), valid[b], torch.tensor(0.01)).item()
            for code in known.library.codes
        ]
        assert step.objective[b].item() == pytest.approx(min(tried), rel=1e-4)
        assert step.coefficients[b].argmax() == tried.index(min(tried))


def test_the_mixture_solves_equation_10(known) -> None:
    """Without outliers the weights are D c / (1^T D c) of clarabel's c."""
    clarabel = pytest.importorskip("clarabel")
    z = half_seen(known, Noise(0.001), seed=5).object_points().points
    F = distance_matrix(known.field, z, known.prepared.all_shapes)
    D = 1 / known.library.diameters.expand(len(z), -1)
    far = torch.tensor(100.0)  # no point is weighted down
    found = _combination(F, torch.ones(z.shape[:2]).bool(), far, D)
    size = len(known.library)
    quiet = clarabel.DefaultSettings()
    quiet.verbose = False
    constraints = sparse.csc_matrix(np.vstack([np.ones((1, size)), -np.eye(size)]))
    cones = [clarabel.ZeroConeT(1), clarabel.NonnegativeConeT(size)]
    for b in range(0, len(z), 3):
        columns = (F[b] * D[b]).double().numpy()
        gram = sparse.csc_matrix(np.triu(2e3 * columns.T @ columns))
        limits = np.concatenate([[1.0], np.zeros(size)])
        solver = clarabel.DefaultSolver(gram, np.zeros(size), constraints, limits, cones, quiet)
        expected = D[b].double() * torch.tensor(solver.solve().x).double()
        expected = expected / expected.sum()
        torch.testing.assert_close(found[b].double(), expected, atol=2e-3, rtol=0)


def test_a_new_shape_is_best_explained_by_its_own_code(known) -> None:
    """The network's column wins where it fits better than all of the library."""
    names = ("bracket", "bar")
    smaller = known.without(*names).prepared
    seen = observe(known.named(*names), Noise(0.001), seed=6, views=[VIEWS[0]] * 2)
    points = seen.object_points()
    given = known.shapes_of(*names)._replace(index=torch.tensor([-1, -1]))
    with_own = ActiveShapeSettings(own_code=True)
    own = least_squares(known.field, points, given, smaller, with_own)
    assert (own.coefficients.argmax(-1) == len(smaller)).all()
    assert own.shapes.index.tolist() == [-1, -1]
    torch.testing.assert_close(own.shapes.codes, known.codes(*names))
    without = least_squares(known.field, points, given, smaller)
    assert (without.objective > 2 * own.objective).all()


def test_shape_and_pose_are_found_together_from_a_wrong_pose(known) -> None:
    noise = Noise(0.002, 0.05, 0.004, 0.1, along_ray=0.02, rotation=math.radians(10))
    seen = half_seen(known, noise, seed=7)
    start = seen.register().T_object_camera
    codes = known.library.codes
    fits = library_fits(known.field, seen.correspondences(), known.prepared, start, codes)
    truth = torch.arange(len(known.library))
    right = (fits.objective.argmin(-1) == truth).float().mean()
    there = ObjectPoints.of(transform(start, seen.points), seen.valid)
    alone = least_squares(known.field, there, known.prepared.all_shapes, known.prepared)
    assert right >= 0.85
    assert right > (alone.coefficients.argmax(-1) == truth).float().mean()
    T = fits.T_object_camera[truth, truth]
    before = add_s(start, seen.T_object_camera, known.shapes)
    assert (add_s(T, seen.T_object_camera, known.shapes) < 0.5 * before).mean() >= 0.85


def test_outliers_and_padding_do_not_decide(known) -> None:
    points = half_seen(known, Noise(0.001), seed=8).object_points()
    library, shapes, batch = known.prepared, known.prepared.all_shapes, len(points.points)
    every = ActiveShapeSettings(points=500)
    plain = least_squares(known.field, points, shapes, library, every)
    junk = torch.full((batch, 40, 3), torch.nan), torch.zeros(batch, 60, 3)
    counted = torch.ones(batch, 40), torch.zeros(batch, 60)
    padded = ObjectPoints(
        torch.cat((points.points, *junk), 1), torch.cat((points.weights, *counted), 1)
    )
    few = ActiveShapeSettings(points=300)
    found = least_squares(known.field, padded, shapes, library, few)
    assert torch.equal(plain.coefficients, found.coefficients)
    torch.testing.assert_close(plain.objective, found.objective, atol=1e-9, rtol=1e-3)


@pytest.mark.parametrize("one_hot", [True, False])
def test_only_the_nearest_codes_of_a_larger_library_are_tried(known, one_hot: bool) -> None:
    """What an object costs is bounded; the right shape is found among those."""
    counting = CountingField(known.field)
    seen = half_seen(known, Noise(0.001), seed=9)
    codes = known.library.codes + 0.01
    few = ActiveShapeSettings(most_shapes=2, one_hot=one_hot)
    start = seen.T_object_camera.float()
    fits = library_fits(counting, seen.correspondences(), known.prepared, start, codes, few)
    truth = torch.arange(len(known.library))
    assert fits.shapes.index.shape == (len(truth), 2)
    assert (fits.shapes.index == truth[:, None]).any(-1).all()
    tried = sum(counting.gradients)
    library_fits(counting, seen.correspondences(), known.prepared, start, codes)
    assert sum(counting.gradients) > 3 * tried
    own = Shapes.of_codes(codes)
    step = least_squares(known.field, seen.object_points(), own, known.prepared, few)
    assert step.coefficients.shape == (len(truth), 2)
    distinct = truth != known.prepared.names.index("cup")
    if one_hot:
        assert torch.equal(step.shapes.index[distinct], truth[distinct])
