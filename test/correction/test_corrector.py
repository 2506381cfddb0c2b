"""The corrector: Lemma 5, alternation, choices and errors."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from known import Known
from observed import Noise, Observed, add_s, observe

from crisp_ros.correction.active_shape import ActiveShapeSettings
from crisp_ros.correction.corrector import Correction, CorrectorSettings, correct
from crisp_ros.correction.correspondences import Correspondences, Shapes
from crisp_ros.correction.pose_lm import PoseLmSettings
from crisp_ros.geometry.registration import align
from crisp_ros.geometry.se3 import transform

ANY_SHAPE = CorrectorSettings(shape_ratio=math.inf)
SHAPE_KEPT = CorrectorSettings(shape="none")
NAMES = ("box", "mug", "bracket", "bar")
DISTURBED = Noise(0.002, 0.05, 0.004, 0.1, along_ray=0.02, rotation=0.15)


def corrected(
    known: Known,
    seen: Observed,
    codes: torch.Tensor,
    settings: CorrectorSettings | None = None,
) -> Correction:
    """Correct codes (B, C) of the network and the registration of its coordinates."""
    return correct(
        known.field,
        seen.correspondences(),
        Shapes.of_codes(codes),
        seen.register().T_object_camera,
        known.prepared,
        settings,
    )


@pytest.mark.parametrize("solver", ["gradient", "second_order"])
@pytest.mark.parametrize("shape", ["none", "projected_gradient", "lsq"])
def test_improves_pose_and_objective(known, solver, shape) -> None:
    shapes = known.named(*NAMES)
    seen = observe(shapes, DISTURBED, seed=1, count=250)
    chosen = CorrectorSettings(solver=solver, shape=shape)
    found = corrected(known, seen, known.codes(*NAMES), chosen)
    errors = add_s(found.T_object_camera, seen.T_object_camera, shapes)
    start = add_s(seen.register().T_object_camera, seen.T_object_camera, shapes)
    assert np.median(errors) < 0.5 * np.median(start)
    assert found.iterations.min() > 0
    assert torch.isfinite(found.objective).all()


@pytest.fixture(scope="module")
def partly_valid(known) -> tuple[Observed, Correction]:
    seen = observe(known.named(*NAMES), DISTURBED, seed=2, count=120)
    seen.valid[:, 100:] = False
    return seen, corrected(known, seen, known.codes(*NAMES))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.0, 0.02))
def test_lemma_5(partly_valid, seed: int, size: float) -> None:
    """Z* = R* X + t*: it aligns to the same pose, with nothing left over, so (5) and (7) agree.

    Any Z of (7) that aligns to the optimal pose becomes this Z* by Delta = R* X + t* - Z.
    """
    seen, found = partly_valid
    valid, weights = seen.valid, seen.valid.float()
    again = align(seen.points, found.pnc, weights)
    moved = transform(found.T_object_camera, seen.points)
    aligned_again = seen.points @ again.rotation.mT + again.translation[:, None]
    assert ((aligned_again - moved)[valid].norm(dim=-1) < 1e-5).all()
    torch.testing.assert_close(found.pnc[valid], moved[valid])
    noise = size * torch.randn(found.pnc.shape, generator=torch.Generator().manual_seed(seed))
    aligned = align(seen.points, found.pnc + noise, weights)
    z = seen.points @ aligned.rotation.mT + aligned.translation[:, None]
    delta = z - (found.pnc + noise)
    shifted = align(seen.points, found.pnc + noise + delta, weights)
    # The shift leaves the pose, hence the objective of (7), as it was, and meets (5)'s constraint.
    torch.testing.assert_close(shifted.rotation, aligned.rotation, atol=1e-4, rtol=0)
    torch.testing.assert_close(shifted.translation, aligned.translation, atol=1e-4, rtol=0)


def test_points_that_are_not_valid_come_back_as_zero(partly_valid) -> None:
    seen, found = partly_valid
    assert (found.pnc[~seen.valid] == 0).all()


def test_a_wrong_code_is_replaced_by_the_right_shape(known) -> None:
    names = ("box", "sphere", "bracket", "bar", "capsule")
    seen = observe(known.named(*names), Noise(0.002, 0.05, 0.004, 0.1, along_ray=0.01), seed=3)
    wrong = known.codes("sphere", "bar", "capsule", "box", "bracket")
    found = corrected(known, seen, wrong, ANY_SHAPE)
    for part, expected in zip(found.shapes, known.shapes_of(*names), strict=True):
        assert torch.equal(part, expected)
    kept = corrected(known, seen, wrong, SHAPE_KEPT)
    assert torch.equal(kept.shapes.codes, wrong) and (kept.shapes.index == -1).all()
    assert (found.objective < kept.objective).all()


def test_the_depth_decides_where_the_network_cannot(known) -> None:
    """Where its code is between two shapes, or the shape that it names explains nothing."""
    seen = observe(known.named("box", "box"), Noise(0.002, 0.05, 0.004, 0.1), seed=3)
    box, bar = known.codes("box"), known.codes("bar")
    codes = torch.cat((0.1 * box + 0.9 * bar, 0.45 * box + 0.55 * bar))
    trusting = CorrectorSettings(unexplained_above_m=math.inf)
    found = corrected(known, seen, codes, trusting)
    assert torch.equal(found.shapes.codes, torch.cat((bar, box)))
    for open_minded in (CorrectorSettings(), ANY_SHAPE):
        found = corrected(known, seen, codes, open_minded)
        assert torch.equal(found.shapes.codes, torch.cat((box, box)))
        assert torch.equal(found.shapes.index, known.shapes_of("box", "box").index)
        errors = add_s(found.T_object_camera, seen.T_object_camera, known.named("box", "box"))
        assert (errors < 0.003).all()


def test_restarts_improve_only_what_is_still_far(known) -> None:
    shapes = known.named("mug", "mug", "mug")
    seen = observe(shapes, Noise(0.001, 0.0, 0.002, rotation=0.9), seed=8)
    good = observe(shapes, Noise(0.001, 0.0, 0.002), seed=8)
    seen = seen._replace(pnc=torch.cat((good.pnc[:1], seen.pnc[1:])))
    codes, hasty = known.codes("mug", "mug", "mug"), PoseLmSettings(evaluations=6)
    ends = [
        corrected(
            known, seen, codes, dataclasses.replace(SHAPE_KEPT, restarts=n, second_order=hasty)
        )
        for n in (0, 3)
    ]
    near = ends[0].objective <= CorrectorSettings().restart_above_m ** 2
    assert near.any() and not near.all()
    assert torch.equal(ends[1].T_object_camera[near], ends[0].T_object_camera[near])
    assert (ends[1].objective[~near] < 0.5 * ends[0].objective[~near]).any()
    assert (ends[1].objective <= ends[0].objective).all()


def test_the_networks_shape_stays_where_depth_cannot_tell(known) -> None:
    """From behind, mug and cup look alike: each network's answer is kept."""
    seen = observe(
        known.named("mug", "mug"), Noise(0.001, 0, 0.002), seed=4, views=[(-1, 0, 0.3)] * 2
    )
    named = known.codes("mug", "cup")
    found = corrected(known, seen, named)
    assert torch.equal(found.shapes.codes, named)
    assert torch.equal(found.shapes.index, known.shapes_of("mug", "cup").index)


def test_mixtures_are_used_where_asked_for(known) -> None:
    seen = observe(known.named("box", "bar"), Noise(0.001, 0, 0.002), seed=5, count=200)
    mixed = dataclasses.replace(
        ANY_SHAPE, active_shape=ActiveShapeSettings(one_hot=False), rounds=2
    )
    found = corrected(known, seen, known.codes("bar", "box"), mixed)
    one_hot = corrected(known, seen, known.codes("bar", "box"), ANY_SHAPE)
    assert (found.objective <= one_hot.objective * 1.05).all()


def test_a_batch_equals_its_members_and_repeats(known) -> None:
    seen = observe(known.named(*NAMES), DISTURBED, seed=6, count=150)
    observed, start = seen.correspondences(), seen.register().T_object_camera
    shapes = Shapes.of_codes(known.codes(*NAMES))
    together = correct(known.field, observed, shapes, start, known.prepared)
    again = correct(known.field, observed, shapes, start, known.prepared)
    for name in ("T_object_camera", "pnc", "objective", "iterations"):
        assert torch.equal(getattr(together, name), getattr(again, name))
    for part, repeated in zip(together.shapes, again.shapes, strict=True):
        assert torch.equal(part, repeated)
    for b in range(len(NAMES)):
        one = slice(b, b + 1)
        alone = correct(
            known.field, observed.rows(one), shapes.rows(one), start[one], known.prepared
        )
        torch.testing.assert_close(
            alone.T_object_camera[0], together.T_object_camera[b], atol=3e-4, rtol=0
        )
        assert torch.equal(alone.shapes.codes[0], together.shapes.codes[b])
        assert torch.equal(alone.shapes.index[0], together.shapes.index[b])


@pytest.mark.parametrize("shape", ["none", "projected_gradient", "lsq"])
def test_no_objects_and_nothing_valid_are_survived(known, shape) -> None:
    chosen = CorrectorSettings(shape=shape)
    nothing = torch.zeros(0, 9, 3)
    seen = Observed(nothing, nothing, torch.zeros(0, 9).bool(), torch.zeros(0, 4, 4))
    none = corrected(known, seen, known.library.codes[:0], chosen)
    assert none.T_object_camera.shape == (0, 4, 4)
    junk = torch.full((1, 60, 3), torch.nan)
    seen = Observed(junk, junk, torch.ones(1, 60).bool(), torch.eye(4)[None])
    blind = corrected(known, seen, known.codes("box"), chosen)
    assert torch.isfinite(blind.T_object_camera).all()
    if shape == "lsq":
        assert torch.equal(blind.shapes.codes, known.codes("box"))


def test_errors_say_what_to_do(known) -> None:
    x, ones, valid = torch.zeros(1, 5, 3), torch.ones(1, 5), torch.ones(1, 5).bool()
    box, T = known.shapes_of("box"), torch.eye(4)[None]

    def refused(observed: Correspondences, library, match: str) -> None:
        with pytest.raises(ValueError, match=match):
            correct(known.field, observed, box, T, library)

    needs = "needs a shape library.*set shape to 'none'"
    refused(Correspondences(x, x, ones, valid), None, needs)
    both = r"expected both \(B, N, 3\)"
    refused(Correspondences(x, x[:, :3], ones, valid), known.prepared, both)
    refused(Correspondences(x, x, ones, valid[:, :3]), known.prepared, r"expected \(B, N\)")
    with pytest.raises(ValueError, match="'newton'"):
        CorrectorSettings(solver="newton")
    with pytest.raises(ValueError, match="'cvxpy'"):
        CorrectorSettings(shape="cvxpy")
    with pytest.raises(ValueError, match="rounds is 0: expected at least 1"):
        CorrectorSettings(rounds=0)
    with pytest.raises(ValueError, match="shape_ratio is nan: expected at least 1"):
        CorrectorSettings(shape_ratio=math.nan)


def test_an_object_stops_alternating_where_nothing_is_gained(known) -> None:
    seen = observe(known.named(*NAMES), Noise(0.001, 0.0, 0.003), seed=9, count=150)
    mixing = CorrectorSettings(solver="gradient", shape="projected_gradient", rounds=1)

    def alternated(rounds: int, tolerance: float, rows=slice(None)) -> Correction:
        chosen = dataclasses.replace(mixing, rounds=rounds, round_tolerance=tolerance)
        some = Observed(*(part[rows] for part in seen))
        return corrected(known, some, known.codes(*NAMES)[rows], chosen)

    always = alternated(5, -1.0)
    stopping = alternated(5, 0.05)
    assert (stopping.iterations <= always.iterations).all()
    assert (stopping.iterations < always.iterations).any()
    assert (stopping.objective <= alternated(1, 0.05).objective + 1e-9).all()
    for b in range(len(NAMES)):
        alone = alternated(5, 0.05, slice(b, b + 1))
        assert alone.iterations[0] == stopping.iterations[b]
        torch.testing.assert_close(alone.objective[0], stopping.objective[b], rtol=1e-3, atol=1e-9)


@pytest.mark.parametrize("one_hot", [True, False])
def test_the_networks_own_code_is_a_column_on_request(known, one_hot) -> None:
    """A shape that the library lacks: only the network's code explains it."""
    lacking = known.without("bracket")
    seen = observe(known.named("bracket"), Noise(0.0005, 0.0, 0.001), seed=5, count=200)
    own = known.codes("bracket")
    found = {
        column: corrected(
            lacking,
            seen,
            own,
            dataclasses.replace(
                ANY_SHAPE,
                rounds=3,
                active_shape=ActiveShapeSettings(one_hot=one_hot, own_code=column),
            ),
        )
        for column in (False, True)
    }
    assert found[True].objective[0] < 0.25 * found[False].objective[0]
    torch.testing.assert_close(found[True].shapes.codes, own, atol=0.1, rtol=0)
    assert found[True].shapes.index.tolist() == [-1]
