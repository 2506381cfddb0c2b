"""The certificate: what it accepts, and everything that it must refuse."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from observed import Noise, observe

from crisp_ros.correction.certificate import (
    CertificateSettings,
    certify,
    condition,
    quantile_residual,
    score,
)
from crisp_ros.geometry.se3 import exp

NAMES = ("box", "mug", "bracket", "bar")


@pytest.fixture(scope="module")
def seen():
    from analytic import household

    shapes = {shape.name: shape for shape in household()}
    return observe([shapes[name] for name in NAMES], Noise(0.001), seed=1)


def verdict(known, seen, names=NAMES, **changed):
    arguments = {
        "points": seen.points,
        "valid": seen.valid,
        "T_object_camera": seen.T_object_camera.float(),
        "codes": known.codes(*names),
        "sizes": known.library.diameters[[known.library.names.index(n) for n in names]],
    } | changed
    return certify(known.decoder, **arguments)


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


def test_refuses_a_batch_of_none(known) -> None:
    none = certify(
        known.decoder,
        torch.zeros(0, 5, 3),
        torch.zeros(0, 5).bool(),
        torch.zeros(0, 4, 4),
        known.library.codes[:0],
    )
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
    codes = known.codes(*NAMES).clone()
    codes[1, 7] = torch.inf
    found = verdict(known, seen, T_object_camera=T, codes=codes)
    assert found.certified.tolist() == [False, False, True, True]
    assert found.reasons[0] == found.reasons[1] == "pose or shape code is not finite"
    assert torch.isfinite(found.score).all()


def test_the_threshold_may_follow_the_size(known, seen) -> None:
    found = verdict(known, seen, settings=CertificateSettings(threshold_share=0.05))
    sizes = known.library.diameters[[known.library.names.index(n) for n in NAMES]]
    torch.testing.assert_close(found.threshold, (0.05 * sizes).clamp_max(0.01))


def test_further_conditions_refuse_by_name(known, seen) -> None:
    value = torch.tensor([0.0, 0.5, 0.0, 0.0])
    extra = condition("free space", value < 0.1, value, lambda v: f"{v:.0%} in the air")
    found = verdict(known, seen, conditions=[extra])
    assert found.certified.tolist() == [True, False, True, True]
    assert found.reasons == ("", "50% in the air", "", "")
    assert found.score[1] < 0.5 and found.margin[1] > 0


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 0.1), min_size=1, max_size=60), st.floats(0.5, 1.0))
def test_quantile_equals_the_count(distances: list[float], p: float) -> None:
    """The residual is the least r for which the share of points within r reaches p."""
    d = np.sort(np.array(distances, dtype=np.float32))
    expected = next(r for r in d if (d <= r).mean() >= p - 1e-6 / len(d))
    points = torch.zeros(1, len(d), 3)
    points[0, :, 2] = torch.tensor(d)
    found = quantile_residual(
        _Plane(), points, torch.ones(1, len(d)).bool(), torch.eye(4)[None], torch.zeros(1, 1), p
    )
    assert found.item() == pytest.approx(float(expected))


class _Plane:
    def sdf(self, points: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        return points[..., 2]


@settings(max_examples=50, deadline=None)
@given(st.floats(-100, 1), st.floats(-100, 1))
def test_the_score_follows_the_margin(a: float, b: float) -> None:
    low, high = sorted((a, b))
    margins = torch.tensor([low, high], dtype=torch.float64)
    found = score(margins, margins >= 0)
    assert 0 <= found[0] <= found[1] <= 1
    assert (found >= 0.5).tolist() == (margins >= 0).tolist()
