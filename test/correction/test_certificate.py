"""The certificate: what it accepts, and everything that it must refuse."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from observed import Noise, Observed, observe

from crisp_ros.correction.certificate import (
    Certificate,
    CertificateSettings,
    certify,
    condition,
    quantile_residual,
    score,
    with_condition,
)
from crisp_ros.correction.correspondences import Shapes
from crisp_ros.geometry.se3 import exp

NAMES = ("box", "mug", "bracket", "bar")


@pytest.fixture(scope="module")
def seen(known) -> Observed:
    return observe(known.named(*NAMES), Noise(0.001), seed=1)


def verdict(known, seen: Observed, names=NAMES, settings=None, conditions=(), **changed):
    """The certificate of shapes by name; the rest of the hypotheses may be changed."""
    observed = {part: changed.pop(part) for part in ("points", "valid") if part in changed}
    hypotheses = seen.hypotheses(known.shapes_of(*names))._replace(**changed)
    correspondences = hypotheses.correspondences._replace(**observed)
    hypotheses = hypotheses._replace(correspondences=correspondences)
    return certify(known.field, hypotheses, settings, conditions)


def test_accepts_the_truth(known, seen) -> None:
    found = verdict(known, seen)
    assert found.certified.all()
    assert found.reasons == ("",) * 4
    assert (found.score >= 0.5).all() and (found.margin > 0).all()
    assert (found.residual < 0.01).all()


def test_refuses_the_wrong_object(known, seen) -> None:
    found = verdict(known, seen, ("sphere", "bar", "capsule", "cup"))
    assert not found.certified.any()
    assert all(reason.startswith("q98 ") and reason.endswith("> 10 mm") for reason in found.reasons)
    assert (found.score < 0.5).all() and (found.margin < 0).all()


@pytest.mark.parametrize(
    "xi", [(0.03, 0, 0, 0, 0, 0), (0, 0, -0.03, 0, 0, 0), (0, 0, 0, 0.7, 0.7, 0)]
)
def test_refuses_the_wrong_pose(known, seen, xi) -> None:
    moved = exp(torch.tensor(xi, dtype=torch.float32)) @ seen.T_object_camera.float()
    assert verdict(known, seen, T_object_camera=moved).certified.sum() <= 1


def test_padding_neither_helps_nor_harms(known, seen) -> None:
    plain = verdict(known, seen)
    padded = verdict(
        known,
        seen,
        points=torch.cat((seen.points, torch.zeros(4, 100, 3)), 1),
        valid=torch.cat((seen.valid, torch.zeros(4, 100).bool()), 1),
    )
    torch.testing.assert_close(plain.residual, padded.residual)
    assert torch.equal(plain.certified, padded.certified)


def test_refuses_the_empty_and_the_few(known, seen) -> None:
    nothing = verdict(known, seen, valid=torch.zeros_like(seen.valid))
    assert not nothing.certified.any()
    assert nothing.reasons[0] == "0 depth points < 50"
    assert (nothing.score == 0).all() and torch.isinf(nothing.residual).all()
    few = seen.valid.clone()
    few[:, 49:] = False
    assert verdict(known, seen, valid=few).reasons[0] == "49 depth points < 50"


def test_refuses_a_batch_of_none(known, seen) -> None:
    nothing = seen.hypotheses(known.shapes_of(*NAMES)).rows(slice(0))
    none = certify(known.field, nothing)
    assert none.certified.shape == (0,) and none.reasons == ()


def test_refuses_a_patch_that_spans_too_little(known, seen) -> None:
    near = (seen.points - seen.points[:, :1]).norm(dim=-1) < 0.008
    patch = torch.where(near[..., None], seen.points, seen.points[:, :1])
    found = verdict(known, seen, points=patch)
    assert not found.certified.any()
    assert all("of the shape" in reason for reason in found.reasons)


@pytest.mark.parametrize("distance", [0.3, 11.0, 1e6, float("nan"), float("inf")])
def test_refuses_points_that_do_not_fit_however_far_off(known, seen, distance: float) -> None:
    points = seen.points.clone()
    points[:, :12] -= distance  # 3 % of 400, towards the camera
    found = verdict(known, seen, points=points)
    assert not found.certified.any()
    few = seen.points.clone()
    few[:, :8] -= distance  # 2 %, which p = 0.98 allows
    assert verdict(known, seen, points=few).certified.all()


def test_refuses_what_is_not_finite(known, seen) -> None:
    T = seen.T_object_camera.float().clone()
    T[0, 0, 3] = torch.nan
    shapes = known.shapes_of(*NAMES)
    shapes.codes[1, 7] = torch.inf
    found = verdict(known, seen, T_object_camera=T, shapes=shapes)
    assert found.certified.tolist() == [False, False, True, True]
    assert found.reasons[0] == found.reasons[1] == "pose or shape code is not finite"
    assert torch.isfinite(found.score).all()


def test_the_threshold_may_follow_the_size(known, seen) -> None:
    found = verdict(known, seen, settings=CertificateSettings(threshold_share=0.05))
    sizes = known.shapes_of(*NAMES).diameters
    torch.testing.assert_close(found.threshold, (0.05 * sizes).clamp_max(0.01))


def test_shapes_without_a_box_have_no_size(known, seen) -> None:
    """Neither their coverage nor a threshold that follows the size is tested."""
    unsized = Shapes.of_codes(known.codes(*NAMES))
    relative = CertificateSettings(threshold_share=1e-6, minimum_coverage=10.0)
    assert not verdict(known, seen, settings=relative).certified.any()
    found = verdict(known, seen, settings=relative, shapes=unsized)
    assert found.certified.all() and (found.threshold == relative.threshold_m).all()


def test_further_conditions_refuse_by_name(known, seen) -> None:
    value = torch.tensor([0.0, 0.5, 0.0, 0.0])
    extra = condition("free space", value < 0.1, value, lambda v: f"{v:.0%} in the air")
    found = verdict(known, seen, conditions=[extra])
    assert found.certified.tolist() == [True, False, True, True]
    assert found.reasons == ("", "50% in the air", "", "")
    assert found.score[1] < 0.5 and found.margin[1] > 0


def test_a_condition_added_later_counts_like_the_others(known, seen) -> None:
    value = torch.tensor([0.0, 0.5, 0.5, 0.0])
    extra = condition("known shape", value < 0.1, value, lambda v: f"{v:.0%} unknown")
    names = ("box", "mug", "capsule", "cup")
    plain = verdict(known, seen, names)
    at_once, later = verdict(known, seen, names, conditions=[extra]), with_condition(plain, extra)
    for name in Certificate._fields[:-1]:
        assert torch.equal(getattr(at_once, name), getattr(later, name)), name
    # Its reason comes before those of the fit, which were found first.
    assert at_once.reasons[:2] == later.reasons[:2] == ("", "50% unknown")
    assert later.reasons[2] == "50% unknown" and at_once.reasons[2].startswith("q98")


def test_conditions_can_be_excepted_and_selected() -> None:
    value = torch.tensor([0.0, 0.5, 0.7])
    strict = condition("known shape", value < 0.1, value, lambda v: f"{v:.0%} unknown")
    free = strict.unless(torch.tensor([False, True, False]))
    assert free.held.tolist() == [True, True, False]
    assert free.reasons == ("", "", "70% unknown") and torch.equal(free.value, value)
    assert strict.held.tolist() == [True, False, False]
    some = strict.rows(torch.tensor([2, 0]))
    assert some.held.tolist() == [False, True] and some.reasons == ("70% unknown", "")
    assert some.value.tolist() == pytest.approx([0.7, 0.0])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 0.1), min_size=1, max_size=60), st.floats(0.5, 1.0))
def test_quantile_equals_the_count(distances: list[float], p: float) -> None:
    """The residual is the least r for which the share of points within r reaches p."""
    d = np.sort(np.array(distances, dtype=np.float32))
    expected = next(r for r in d if (d <= r).mean() >= p - 1e-6 / len(d))
    points = torch.zeros(1, len(d), 3)
    points[0, :, 2] = torch.tensor(d)
    shape = Shapes.of_codes(torch.zeros(1, 1))
    valid = torch.ones(1, len(d)).bool()
    found = quantile_residual(_Plane(), points, valid, torch.eye(4)[None], shape, p)
    assert found.item() == pytest.approx(float(expected))


class _Plane:
    def sdf(self, points: torch.Tensor, shapes: Shapes) -> torch.Tensor:
        return points[..., 2]


@settings(max_examples=50, deadline=None)
@given(st.floats(-100, 1), st.floats(-100, 1))
def test_the_score_follows_the_margin(a: float, b: float) -> None:
    low, high = sorted((a, b))
    margins = torch.tensor([low, high], dtype=torch.float64)
    found = score(margins, margins >= 0)
    assert 0 <= found[0] <= found[1] <= 1
    assert (found >= 0.5).tolist() == (margins >= 0).tolist()
