"""The certificate of observable correctness, eq. (12): do the depth points lie on the estimate?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from crisp_ros.geometry.se3 import transform
from crisp_ros.network.decoder import ShapeDecoder

_JUST_BELOW_HALF = 0.499


class Condition(NamedTuple):
    """One named condition of a certificate, for a batch of objects.

    held: (B,) bool. value: (B,) what was compared. reasons: for each object why it does not hold,
    "" where it does.
    """

    name: str
    held: Tensor
    value: Tensor
    reasons: tuple[str, ...]


class Certificate(NamedTuple):
    """The verdict on a batch of objects.

    certified: (B,) bool. residual: (B,) metres, the p-quantile of |f_d(R x_i + t | h)|, infinite
    where there is nothing to measure. threshold: (B,) metres, eps. margin: (B,) 1 - residual / eps:
    one for a perfect fit, zero at the limit, negative beyond. score: (B,) in [0, 1], see `score`.
    reasons: for each object why it is refused, "" where it is certified.
    """

    certified: Tensor
    residual: Tensor
    threshold: Tensor
    margin: Tensor
    score: Tensor
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class CertificateSettings:
    """Settings of `certify`; the paper's values for YCBV (SPE3R: 0.97 and 0.02).

    Attributes:
        quantile: p, the share of points that must fit.
        threshold_m: eps, metres.
        threshold_share: eps as a share of the shape's size as well; the smaller of both holds.
            Zero leaves the size out.
        minimum_points: valid points needed.
        minimum_coverage: how far the points must spread, as a share of the shape's size: their
            median distance from their middle over half the diagonal of the shape's box.
    """

    quantile: float = 0.98
    threshold_m: float = 1e-2
    threshold_share: float = 0.0
    minimum_points: int = 50
    minimum_coverage: float = 0.12


@torch.no_grad()
def certify(
    decoder: ShapeDecoder,
    points: Tensor,
    valid: Tensor,
    T_object_camera: Tensor,
    codes: Tensor,
    settings: CertificateSettings | None = None,
    sizes: Tensor | None = None,
    conditions: Sequence[Condition] = (),
) -> Certificate:
    """Certifies each object whose p-quantile of |f_d(R x_i + t | h)| is at most eps.

    Only valid points count, so padding neither helps nor harms; a valid point that is not finite,
    or lies however far off, is a point that does not fit.

    Args:
        decoder: f_d.
        points: (B, N, 3) depth points, camera frame, metres.
        valid: (B, N) bool.
        T_object_camera: (B, 4, 4) estimated poses.
        codes: (B, C) estimated shapes.
        settings: see `CertificateSettings`.
        sizes: (B,) diagonals of the estimated shapes' boxes, metres; without them neither the
            coverage nor the relative threshold is tested.
        conditions: further conditions that must hold too (free space, silhouette, known shape).
    """
    settings = settings or CertificateSettings()
    residual = quantile_residual(decoder, points, valid, T_object_camera, codes, settings.quantile)
    threshold = torch.full_like(residual, settings.threshold_m)
    if sizes is not None and settings.threshold_share > 0:
        threshold = torch.minimum(threshold, settings.threshold_share * sizes)
    margin = 1.0 - residual / threshold
    checks = [_is_finite(T_object_camera, codes), _has_points(valid, settings)]
    if sizes is not None:
        checks.append(_is_covered(points, valid, sizes, settings))
    checks.append(_fits(residual, threshold, settings))
    checks.extend(conditions)
    certified = torch.stack([check.held for check in checks]).all(0)
    reasons = tuple(
        next((reason for reason in reasons if reason), "")
        for reasons in zip(*(check.reasons for check in checks), strict=True)
    )
    return Certificate(certified, residual, threshold, margin, score(margin, certified), reasons)


def withheld(certificate: Certificate, unless: Condition) -> Certificate:
    """The certificate under one more condition, whose reason comes before all others.

    Args:
        certificate: of B objects.
        unless: of the same objects.
    """
    certified = certificate.certified & unless.held
    pairs = zip(unless.reasons, certificate.reasons, strict=True)
    return certificate._replace(
        certified=certified,
        score=score(certificate.margin, certified),
        reasons=tuple(first or other for first, other in pairs),
    )


def score(margin: Tensor, certified: Tensor) -> Tensor:
    """The score 1 / (1 + (1 - margin)^2): 1 for a perfect fit, 1/2 at the limit, falling to 0.

    An object that is refused for another reason than its fit stays below 1/2, so that a score of at
    least 1/2 says exactly: certified.
    """
    value = 1.0 / (1.0 + (1.0 - margin).square())
    return torch.where(certified, value, value.clamp_max(_JUST_BELOW_HALF))


@torch.no_grad()
def quantile_residual(
    decoder: ShapeDecoder,
    points: Tensor,
    valid: Tensor,
    T_object_camera: Tensor,
    codes: Tensor,
    quantile: float,
) -> Tensor:
    """The least r (...) such that a share `quantile` of the valid points has |sdf| <= r.

    Infinite where no point is valid, or where too many are not finite.

    Args:
        decoder: f_d.
        points: (..., N, 3) camera frame, metres.
        valid: (..., N) bool.
        T_object_camera: (..., 4, 4).
        codes: (..., C); all leading dimensions broadcast.
        quantile: p in (0, 1].
    """
    finite = torch.isfinite(points).all(-1)
    safe = torch.where(finite[..., None], points, 0.0)
    distance = decoder.sdf(transform(T_object_camera.to(points.dtype), safe), codes).abs()
    distance = torch.where(torch.isfinite(distance) & finite, distance, torch.inf)
    ordered = torch.where(valid, distance, torch.inf).sort(dim=-1).values
    count = valid.sum(-1, keepdim=True).expand(*ordered.shape[:-1], 1)
    # The tolerance keeps p * n on its integer where the product is one, as in 0.98 * 50.
    rank = (quantile * count - 1e-6).ceil().long() - 1
    residual = ordered.gather(-1, rank.clamp_min(0)).squeeze(-1)
    return torch.where(count.squeeze(-1) > 0, residual, torch.inf)


def _is_finite(T_object_camera: Tensor, codes: Tensor) -> Condition:
    held = torch.isfinite(T_object_camera).flatten(1).all(-1) & torch.isfinite(codes).all(-1)
    return condition("finite", held, held, lambda _: "pose or shape code is not finite")


def _has_points(valid: Tensor, settings: CertificateSettings) -> Condition:
    count = valid.sum(-1)
    least = settings.minimum_points
    return condition(
        "points", count >= least, count, lambda value: f"{value} depth points < {least}"
    )


def _is_covered(
    points: Tensor, valid: Tensor, sizes: Tensor, settings: CertificateSettings
) -> Condition:
    used = valid & torch.isfinite(points).all(-1)
    count = used.sum(-1, keepdim=True).clamp_min(1)
    kept = torch.where(used[..., None], points, 0.0)
    offset = torch.where(
        used[..., None], points - kept.sum(1, keepdim=True) / count[..., None], 0.0
    )
    # The median is not stretched by a few far points, as a mean would be.
    square = offset.square().sum(-1)
    spread = torch.where(used, square, torch.nan).nanmedian(-1).values.nan_to_num(0.0).sqrt()
    coverage = 2 * spread / sizes
    least = settings.minimum_coverage
    return condition(
        "coverage",
        coverage >= least,
        coverage,
        lambda value: f"points span {100 * value:.0f} % < {100 * least:.0f} % of the shape",
    )


def _fits(residual: Tensor, threshold: Tensor, settings: CertificateSettings) -> Condition:
    name = f"q{100 * settings.quantile:.3g}"
    limits = (1e3 * threshold).tolist()
    reasons = tuple(
        "" if r <= limit else f"{name} {r:.3g} mm > {limit:.3g} mm"
        for r, limit in zip((1e3 * residual).tolist(), limits, strict=True)
    )
    return Condition("fit", residual <= threshold, residual, reasons)


def condition(name: str, held: Tensor, value: Tensor, explain: Callable[[float], str]) -> Condition:
    """A condition whose reason is `explain(value)` wherever it does not hold."""
    reasons = tuple(
        "" if ok else explain(number)
        for ok, number in zip(held.tolist(), value.tolist(), strict=True)
    )
    return Condition(name, held, value, reasons)
