"""Algorithm 2 against loops, clarabel's answer and the true shapes."""

import math

import pytest
import torch
from observed import Noise, add_s, observe

from crisp_ros.correction.active_shape import (
    ActiveShapeSettings,
    distance_matrix,
    least_squares,
    library_fits,
)
from crisp_ros.correction.residuals import surface_objective
from crisp_ros.geometry.registration import register
from crisp_ros.geometry.se3 import transform

# Seen from the side of its handle a mug is no cup.
VIEWS = ((1.0, 0.6, 0.7), (1.0, 0.8, 0.3), (0.9, -0.7, 0.5))


def half_seen(known, noise: Noise, seed: int, view=VIEWS[0]):
    seen = observe(known.shapes, noise, seed, count=300, views=[view] * len(known.shapes))
    return seen, transform(seen.T_object_camera.float(), seen.points)


def test_distance_matrix_equals_a_loop(known) -> None:
    _, z = half_seen(known, Noise(0.002), seed=0)
    F = distance_matrix(known.decoder, z, known.library.codes)
    assert F.shape == (len(z), 300, len(known.library))
    for b in (0, 3):
        for k, code in enumerate(known.library.codes):
            with torch.no_grad():
                column = known.decoder(z[b], code)
            torch.testing.assert_close(F[b, :, k], column, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("one_hot", [True, False])
def test_finds_the_shape_from_half_its_surface_and_a_wrong_code(known, one_hot: bool) -> None:
    right = total = 0
    truth = torch.arange(len(known.library))
    # All points of a cup lie on a mug too: what tells them apart is space that was seen empty.
    told_apart = truth != known.library.names.index("cup")
    for seed, view in enumerate(VIEWS):
        _, z = half_seen(known, Noise(0.002, 0.1), seed, view)
        wrong = known.library.codes.roll(1 + seed, dims=0)
        settings = ActiveShapeSettings(one_hot=one_hot)
        step = least_squares(
            known.decoder, z, torch.ones(z.shape[:2]).bool(), wrong, known.library, settings
        )
        right += (step.coefficients.argmax(-1) == truth)[told_apart].sum().item()
        total += told_apart.sum().item()
        assert (step.objective <= step.start_objective).all()
    assert right / total >= 0.95


def test_one_hot_is_the_best_of_all_columns(known) -> None:
    _, z = half_seen(known, Noise(0.002, 0.1), seed=4)
    valid = torch.ones(z.shape[:2]).bool()
    settings = ActiveShapeSettings(points=300)
    step = least_squares(known.decoder, z, valid, known.library.codes, known.library, settings)
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
    import numpy as np
    from scipy import sparse

    from crisp_ros.correction.active_shape import _combination

    _, z = half_seen(known, Noise(0.001), seed=5)
    F = distance_matrix(known.decoder, z, known.library.codes)
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
    keep = [k for k, name in enumerate(known.library.names) if name not in ("bracket", "bar")]
    smaller = type(known.library)(
        tuple(known.library.names[k] for k in keep),
        known.library.codes[keep],
        known.library.lower[keep],
        known.library.upper[keep],
    )
    names = ("bracket", "bar")
    seen = observe(known.named(*names), Noise(0.001), seed=6, views=[VIEWS[0]] * 2)
    z = transform(seen.T_object_camera.float(), seen.points)
    own = least_squares(
        known.decoder,
        z,
        seen.valid,
        known.codes(*names),
        smaller,
        ActiveShapeSettings(own_code=True),
    )
    assert (own.coefficients.argmax(-1) == len(smaller)).all()
    torch.testing.assert_close(own.codes, known.codes(*names))
    without = least_squares(known.decoder, z, seen.valid, known.codes(*names), smaller)
    assert (without.objective > 2 * own.objective).all()


def test_shape_and_pose_together_find_the_shape_from_a_wrong_pose(known) -> None:
    noise = Noise(0.002, 0.05, 0.004, 0.1, along_ray=0.02, turn=math.radians(10))
    seen, _ = half_seen(known, noise, seed=7)
    registration = register(*seen[:3])
    fits = library_fits(
        known.decoder,
        seen.points,
        seen.pnc,
        registration.inliers.float(),
        seen.valid,
        known.library,
        registration.T_object_camera,
    )
    truth = torch.arange(len(known.library))
    right = (fits.objective.argmin(-1) == truth).float().mean()
    z = transform(registration.T_object_camera, seen.points)
    alone = least_squares(known.decoder, z, seen.valid, known.library.codes, known.library)
    assert right >= 0.85
    assert right > (alone.coefficients.argmax(-1) == truth).float().mean()
    T = fits.T_object_camera[truth, truth]
    before = add_s(registration.T_object_camera, seen.T_object_camera, known.shapes)
    assert (add_s(T, seen.T_object_camera, known.shapes) < 0.5 * before).mean() >= 0.85


def test_outliers_and_padding_do_not_decide(known) -> None:
    _, z = half_seen(known, Noise(0.001), seed=8)
    valid = torch.ones(z.shape[:2]).bool()
    plain = least_squares(
        known.decoder, z, valid, known.library.codes, known.library, ActiveShapeSettings(points=500)
    )
    batch = len(z)
    padded = least_squares(
        known.decoder,
        torch.cat((z, torch.full((batch, 40, 3), torch.nan), torch.zeros(batch, 60, 3)), 1),
        torch.cat((valid, torch.ones(batch, 40).bool(), torch.zeros(batch, 60).bool()), 1),
        known.library.codes,
        known.library,
        ActiveShapeSettings(points=300),
    )
    assert torch.equal(plain.coefficients, padded.coefficients)
    torch.testing.assert_close(plain.objective, padded.objective, atol=1e-9, rtol=1e-3)
