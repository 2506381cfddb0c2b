"""The corrector: Lemma 5, alternation, choices and errors."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from observed import Noise, add_s, observe

from crisp_ros.correction.active_shape import ActiveShapeSettings
from crisp_ros.correction.corrector import CorrectorSettings, correct
from crisp_ros.correction.pose_lm import SecondOrderSettings
from crisp_ros.geometry.registration import align, register
from crisp_ros.geometry.se3 import transform

ANY_SHAPE = CorrectorSettings(shape_ratio=math.inf)
NAMES = ("box", "mug", "bracket", "bar")
DISTURBED = Noise(0.002, 0.05, 0.004, 0.1, along_ray=0.02, turn=0.15)


@pytest.mark.parametrize("solver", ["gradient", "second_order"])
@pytest.mark.parametrize("shape", ["none", "projected_gradient", "lsq"])
def test_improves_pose_and_objective(known, solver, shape) -> None:
    shapes = known.named(*NAMES)
    seen = observe(shapes, DISTURBED, seed=1, count=250)
    before = register(*seen[:3])
    found = correct(
        known.decoder,
        *seen[:3],
        known.codes(*NAMES),
        known.library,
        CorrectorSettings(solver=solver, shape=shape),
    )
    errors = add_s(found.T_object_camera, seen.T_object_camera, shapes)
    start = add_s(before.T_object_camera, seen.T_object_camera, shapes)
    assert np.median(errors) < 0.5 * np.median(start)
    assert found.iterations.min() > 0
    assert torch.isfinite(found.objective).all()


@pytest.fixture(scope="module")
def corrected(known):
    seen = observe(known.named(*NAMES), DISTURBED, seed=2, count=120)
    valid = seen.valid.clone()
    valid[:, 100:] = False
    found = correct(known.decoder, seen.points, seen.pnc, valid, known.codes(*NAMES), known.library)
    return seen, valid, found


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.0, 0.02))
def test_lemma_5(known, corrected, seed: int, size: float) -> None:
    """Z* = R* X + t*: it aligns to the same pose, with nothing left over, so (5) and (7) agree.

    Any Z of (7) that aligns to the optimal pose becomes this Z* by Delta = R* X + t* - Z.
    """
    seen, valid, found = corrected
    weights = valid.float()
    again = align(seen.points, found.pnc, weights)
    assert (again.rmse < 1e-5).all()
    moved = transform(found.T_object_camera, seen.points)
    torch.testing.assert_close(found.pnc[valid], moved[valid])
    noise = size * torch.randn(found.pnc.shape, generator=torch.Generator().manual_seed(seed))
    aligned = align(seen.points, found.pnc + noise, weights)
    z = seen.points @ aligned.rotation.mT + aligned.translation[:, None]
    delta = z - (found.pnc + noise)
    shifted = align(seen.points, found.pnc + noise + delta, weights)
    # The shift leaves the pose, hence the objective of (7), as it was, and meets (5)'s constraint.
    torch.testing.assert_close(shifted.rotation, aligned.rotation, atol=1e-4, rtol=0)
    torch.testing.assert_close(shifted.translation, aligned.translation, atol=1e-4, rtol=0)
    assert (shifted.rmse < 1e-4).all()


def test_points_that_are_not_valid_come_back_as_zero(corrected) -> None:
    _, valid, found = corrected
    assert (found.pnc[~valid] == 0).all()


def test_a_wrong_code_is_replaced_by_the_right_shape(known) -> None:
    names = ("box", "sphere", "bracket", "bar", "capsule")
    seen = observe(known.named(*names), Noise(0.002, 0.05, 0.004, 0.1, along_ray=0.01), seed=3)
    wrong = known.codes("sphere", "bar", "capsule", "box", "bracket")
    found = correct(known.decoder, *seen[:3], wrong, known.library, ANY_SHAPE)
    assert torch.equal(found.codes, known.codes(*names))
    kept = correct(known.decoder, *seen[:3], wrong, None, CorrectorSettings(shape="none"))
    assert torch.equal(kept.codes, wrong)
    assert (found.objective < kept.objective).all()


def test_where_the_network_doubts_or_its_shape_explains_nothing_the_depth_decides(known) -> None:
    seen = observe(known.named("box", "box"), Noise(0.002, 0.05, 0.004, 0.1), seed=3)
    box, bar = known.codes("box"), known.codes("bar")
    codes = torch.cat((0.1 * box + 0.9 * bar, 0.45 * box + 0.55 * bar))
    trusting = CorrectorSettings(unexplained_above_m=math.inf)
    found = correct(known.decoder, *seen[:3], codes, known.library, trusting)
    assert torch.equal(found.codes, torch.cat((bar, box)))
    for open_minded in (CorrectorSettings(), ANY_SHAPE):
        found = correct(known.decoder, *seen[:3], codes, known.library, open_minded)
        assert torch.equal(found.codes, torch.cat((box, box)))
        errors = add_s(found.T_object_camera, seen.T_object_camera, known.named("box", "box"))
        assert (errors < 0.003).all()


def test_restarts_bring_home_what_is_still_far_and_leave_the_others(known) -> None:
    shapes = known.named("mug", "mug", "mug")
    seen = observe(shapes, Noise(0.001, 0.0, 0.002, turn=0.9), seed=8)
    good = observe(shapes, Noise(0.001, 0.0, 0.002), seed=8)
    pnc = torch.cat((good.pnc[:1], seen.pnc[1:]))
    codes = known.codes("mug", "mug", "mug")
    ends = [
        correct(
            known.decoder,
            seen.points,
            pnc,
            seen.valid,
            codes,
            None,
            CorrectorSettings(
                shape="none", restarts=n, second_order=SecondOrderSettings(evaluations=6)
            ),
        )
        for n in (0, 3)
    ]
    near = ends[0].objective <= CorrectorSettings().restart_above_m ** 2
    assert near.any() and not near.all()
    assert torch.equal(ends[1].T_object_camera[near], ends[0].T_object_camera[near])
    assert (ends[1].objective[~near] < 0.5 * ends[0].objective[~near]).any()
    assert (ends[1].objective <= ends[0].objective).all()


def test_the_networks_shape_stays_where_the_depth_cannot_tell(known) -> None:
    """From behind, mug and cup look alike: each network's answer is kept."""
    seen = observe(
        known.named("mug", "mug"), Noise(0.001, 0, 0.002), seed=4, views=[(-1, 0, 0.3)] * 2
    )
    named = known.codes("mug", "cup")
    found = correct(known.decoder, *seen[:3], named, known.library)
    assert torch.equal(found.codes, named)


def test_mixtures_are_used_where_asked_for(known) -> None:
    seen = observe(known.named("box", "bar"), Noise(0.001, 0, 0.002), seed=5, count=200)
    mixed = dataclasses.replace(
        ANY_SHAPE, active_shape=ActiveShapeSettings(one_hot=False), rounds=2
    )
    found = correct(known.decoder, *seen[:3], known.codes("bar", "box"), known.library, mixed)
    one_hot = correct(known.decoder, *seen[:3], known.codes("bar", "box"), known.library, ANY_SHAPE)
    assert (found.objective <= one_hot.objective * 1.05).all()


def test_a_batch_equals_its_members_and_repeats(known) -> None:
    seen = observe(known.named(*NAMES), DISTURBED, seed=6, count=150)
    registration = register(*seen[:3])
    codes = known.codes(*NAMES)
    together = correct(known.decoder, *seen[:3], codes, known.library, registration=registration)
    again = correct(known.decoder, *seen[:3], codes, known.library, registration=registration)
    for a, b in zip(together, again, strict=True):
        assert torch.equal(a, b)
    for b in range(len(NAMES)):
        one = slice(b, b + 1)
        alone = correct(
            known.decoder,
            *(part[one] for part in seen[:3]),
            codes[one],
            known.library,
            registration=type(registration)(*(part[one] for part in registration)),
        )
        torch.testing.assert_close(
            alone.T_object_camera[0], together.T_object_camera[b], atol=3e-4, rtol=0
        )
        assert torch.equal(alone.codes[0], together.codes[b])


def test_no_objects_and_nothing_valid_are_survived(known) -> None:
    none = correct(
        known.decoder,
        torch.zeros(0, 9, 3),
        torch.zeros(0, 9, 3),
        torch.zeros(0, 9).bool(),
        known.library.codes[:0],
        known.library,
    )
    assert none.T_object_camera.shape == (0, 4, 4)
    junk = torch.full((1, 60, 3), torch.nan)
    blind = correct(
        known.decoder, junk, junk, torch.ones(1, 60).bool(), known.codes("box"), known.library
    )
    assert torch.isfinite(blind.T_object_camera).all()
    assert torch.equal(blind.codes, known.codes("box"))


def test_errors_say_what_to_do(known) -> None:
    x, valid = torch.zeros(1, 5, 3), torch.ones(1, 5).bool()
    with pytest.raises(ValueError, match="needs a shape library.*set shape to 'none'"):
        correct(known.decoder, x, x, valid, known.codes("box"), None)
    with pytest.raises(ValueError, match=r"expected both \(B, N, 3\)"):
        correct(known.decoder, x, x[:, :3], valid, known.codes("box"), known.library)
    with pytest.raises(ValueError, match=r"expected \(B, N\)"):
        correct(known.decoder, x, x, valid[:, :3], known.codes("box"), known.library)
    with pytest.raises(ValueError, match="'newton'"):
        CorrectorSettings(solver="newton")
    with pytest.raises(ValueError, match="'cvxpy'"):
        CorrectorSettings(shape="cvxpy")
    with pytest.raises(ValueError, match="at least 1"):
        CorrectorSettings(rounds=0)


def test_an_object_stops_alternating_where_nothing_is_gained(known) -> None:
    seen = observe(known.named(*NAMES), Noise(0.001, 0.0, 0.003), seed=9, count=150)
    mixing = CorrectorSettings(solver="gradient", shape="projected_gradient", rounds=1)

    def corrected(rounds, tolerance, rows=slice(None)):
        chosen = dataclasses.replace(mixing, rounds=rounds, round_tolerance=tolerance)
        parts = [part[rows] for part in seen[:3]]
        return correct(known.decoder, *parts, known.codes(*NAMES)[rows], known.library, chosen)

    always = corrected(5, -1.0)
    stopping = corrected(5, 0.05)
    assert (stopping.iterations <= always.iterations).all()
    assert (stopping.iterations < always.iterations).any()
    assert (stopping.objective <= corrected(1, 0.05).objective + 1e-9).all()
    for b in range(len(NAMES)):
        alone = corrected(5, 0.05, slice(b, b + 1))
        assert alone.iterations[0] == stopping.iterations[b]
        torch.testing.assert_close(alone.objective[0], stopping.objective[b], rtol=1e-3, atol=1e-9)


@pytest.mark.parametrize("one_hot", [True, False])
def test_the_networks_own_code_is_a_column_where_asked_for(known, one_hot) -> None:
    """A shape that the library lacks: only the network's code explains it."""
    names = [name for name in known.library.names if name != "bracket"]
    rows = [known.library.names.index(name) for name in names]
    lacking = dataclasses.replace(
        known.library,
        names=tuple(names),
        codes=known.library.codes[rows],
        lower=known.library.lower[rows],
        upper=known.library.upper[rows],
        symmetries=tuple(known.library.symmetries[row] for row in rows),
    )
    seen = observe(known.named("bracket"), Noise(0.0005, 0.0, 0.001), seed=5, count=200)
    own = known.codes("bracket")
    found = {
        column: correct(
            known.decoder,
            *seen[:3],
            own,
            lacking,
            dataclasses.replace(
                ANY_SHAPE,
                rounds=3,
                active_shape=ActiveShapeSettings(one_hot=one_hot, own_code=column),
            ),
        )
        for column in (False, True)
    }
    assert found[True].objective[0] < 0.25 * found[False].objective[0]
    torch.testing.assert_close(found[True].codes, own, atol=0.1, rtol=0)
