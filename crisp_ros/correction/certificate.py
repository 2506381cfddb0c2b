"""The certificate of observable correctness, eq. (12): do the depth points lie on the estimate?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from crisp_ros.correction.correspondences import Shapes, finite_and_valid
from crisp_ros.correction.hypotheses import Hypotheses
from crisp_ros.correction.reasons import Reasons, Values
from crisp_ros.correction.residuals import masked_median
from crisp_ros.correction.shape_field import ShapeField
from crisp_ros.geometry.cuda_graphs import run_captured
from crisp_ros.geometry.se3 import transform

_JUST_BELOW_HALF = 0.499
_FIT = 3  # place of the fit among the conditions of eq. (12)


class Condition(NamedTuple):
    """One named condition of a certificate, for B objects.

    Attributes:
        name: of the condition.
        held: (B,) bool.
        value: (B,) what was compared.
        reasons: B of them, why the condition does not hold, "" where it does.
    """

    name: str
    held: Tensor
    value: Tensor
    reasons: Sequence[str]

    def rows(self, which: Tensor) -> Condition:
        """The condition of some of the objects, by their indices (M,)."""
        reasons = tuple(self.reasons[i] for i in which.tolist())
        return Condition(self.name, self.held[which], self.value[which], reasons)

    @classmethod
    def concatenate(cls, parts: Sequence[Condition]) -> Condition:
        """Join the same condition of several batches of objects."""
        reasons = tuple(reason for part in parts for reason in part.reasons)
        held, value = (torch.cat([getattr(p, name) for p in parts]) for name in ("held", "value"))
        return cls(parts[0].name, held, value, reasons)

    def unless(self, excepted: Tensor) -> Condition:
        """The condition that this one holds or the object is excepted, (B,) bool."""
        free = Reasons(
            (excepted,), lambda values: [" " * flag for flag in values[0]], len(excepted)
        )
        reasons = Reasons.combined(
            (self.reasons, free),
            lambda parts: ["" if other else reason for reason, other in zip(*parts, strict=True)],
        )
        return self._replace(held=self.held | excepted, reasons=reasons)


class Certificate(NamedTuple):
    """The verdict on B objects.

    Attributes:
        certified: (B,) bool.
        residual: (B,) metres, the p-quantile of |f_d(R x_i + t | h)|, infinite where there is
            nothing to measure.
        threshold: (B,) metres, eps.
        margin: (B,) 1 - residual / eps: one for a perfect fit, zero at the limit, negative beyond.
        score: (B,) in [0, 1], see `score`.
        reasons: B of them, why the certificate is withheld, "" where it is granted.
    """

    certified: Tensor
    residual: Tensor
    threshold: Tensor
    margin: Tensor
    score: Tensor
    reasons: Sequence[str]


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
    field: ShapeField,
    hypotheses: Hypotheses,
    settings: CertificateSettings | None = None,
    conditions: Sequence[Condition] = (),
) -> Certificate:
    """Certify each object whose p-quantile of |f_d(R x_i + t | h)| is at most eps.

    Only valid points count, so padding neither helps nor harms; a valid point that is not finite,
    or lies however far off, is a point that does not fit. Of shapes without a box neither the
    coverage nor the relative threshold is tested.

    Args:
        field: f_d.
        hypotheses: B of them.
        settings: see `CertificateSettings`.
        conditions: further conditions that must hold too (free space, silhouette, known shape).
    """
    settings = settings or CertificateSettings()
    sizes = hypotheses.shapes.diameters
    threshold = _thresholds(sizes, settings)
    checks = [*_eq12_conditions(field, hypotheses, sizes, threshold, settings), *conditions]
    residual = checks[_FIT].value
    margin = 1.0 - residual / threshold
    certified = torch.stack([check.held for check in checks]).all(0)
    reasons = Reasons.combined([check.reasons for check in checks], first_of_each)
    return Certificate(certified, residual, threshold, margin, score(margin, certified), reasons)


@torch.no_grad()
def eq12_conditions(
    field: ShapeField, hypotheses: Hypotheses, settings: CertificateSettings | None = None
) -> tuple[Condition, ...]:
    """The conditions on pose, shape and depth points of `certify`, the fit as the last one.

    Args: as those of `certify`.
    """
    settings = settings or CertificateSettings()
    sizes = hypotheses.shapes.diameters
    return _eq12_conditions(field, hypotheses, sizes, _thresholds(sizes, settings), settings)


def _eq12_conditions(
    field: ShapeField,
    hypotheses: Hypotheses,
    sizes: Tensor,
    threshold: Tensor,
    settings: CertificateSettings,
) -> tuple[Condition, ...]:
    points, _, _, valid = hypotheses.correspondences
    T, shapes = hypotheses.T_object_camera, hypotheses.shapes
    residual = quantile_residual(field, points, valid, T, shapes, settings.quantile)
    return (
        _is_finite(T, shapes.codes),
        _has_points(valid, settings),
        _is_covered(points, valid, sizes, settings),
        _fits(residual, threshold, settings),
    )


def _thresholds(sizes: Tensor, settings: CertificateSettings) -> Tensor:
    """The eps (B,) of shapes with diameters (B,), metres."""
    threshold = torch.full_like(sizes, settings.threshold_m)
    if settings.threshold_share > 0:
        relative = (settings.threshold_share * sizes).nan_to_num(torch.inf)
        threshold = torch.minimum(threshold, relative)
    return threshold


def with_condition(certificate: Certificate, condition: Condition) -> Certificate:
    """The certificate under one more condition, whose reason comes before all others.

    Args:
        certificate: of B objects.
        condition: of the same objects.
    """
    certified = certificate.certified & condition.held
    return certificate._replace(
        certified=certified,
        score=score(certificate.margin, certified),
        reasons=Reasons.combined((condition.reasons, certificate.reasons), first_of_each),
    )


def first_of_each(parts: Sequence[Sequence[str]]) -> list[str]:
    """The first reason that each object has, of several for each."""
    return [next((text for text in texts if text), "") for texts in zip(*parts, strict=True)]


def score(margin: Tensor, certified: Tensor) -> Tensor:
    """Score 1 / (1 + (1 - margin)^2): 1 for a perfect fit, 1/2 at the limit, falling to 0.

    An object whose certificate is withheld for another reason than its fit stays below 1/2, so that
    a score of at least 1/2 means exactly: certified.
    """
    value = 1.0 / (1.0 + (1.0 - margin).square())
    return torch.where(certified, value, value.clamp_max(_JUST_BELOW_HALF))


@torch.no_grad()
def quantile_residual(
    field: ShapeField,
    points: Tensor,
    valid: Tensor,
    T_object_camera: Tensor,
    shapes: Shapes,
    quantile: float,
) -> Tensor:
    """The least r (...) such that a share `quantile` of the valid points has |sdf| <= r.

    Infinite where no point is valid, or where too many are not finite.

    Args:
        field: f_d.
        points: (..., N, 3) camera frame, metres.
        valid: (..., N) bool.
        T_object_camera: (..., 4, 4).
        shapes: (...,); all leading dimensions broadcast.
        quantile: p in (0, 1].
    """
    constants, rows = (field, quantile), (points, valid, T_object_camera, shapes)
    same_rows = points.ndim == 3 and len(points) == len(T_object_camera) == len(shapes.codes)
    if same_rows and shapes.codes.ndim == 2:
        return run_captured(_quantile_residual, constants, *rows)[0]
    return _quantile_residual(*constants, *rows)[0]


def _quantile_residual(field: ShapeField, quantile: float, *rows: tuple | Tensor) -> tuple[Tensor]:
    points, valid, T_object_camera, shapes = rows
    finite = torch.isfinite(points).all(-1)
    safe = torch.where(finite[..., None], points, 0.0)
    distance = field.sdf(transform(T_object_camera.to(points.dtype), safe), shapes).abs()
    distance = torch.where(torch.isfinite(distance) & finite, distance, torch.inf)
    ordered = torch.where(valid, distance, torch.inf).sort(dim=-1).values
    count = valid.sum(-1, keepdim=True).expand(*ordered.shape[:-1], 1)
    # The tolerance keeps p * n on its integer where the product is one, as in 0.98 * 50.
    rank = (quantile * count - 1e-6).ceil().long() - 1
    residual = ordered.gather(-1, rank.clamp_min(0)).squeeze(-1)
    return (torch.where(count.squeeze(-1) > 0, residual, torch.inf),)


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
    used = finite_and_valid(points, valid)
    count = used.sum(-1, keepdim=True).clamp_min(1)
    kept = torch.where(used[..., None], points, 0.0)
    offset = torch.where(
        used[..., None], points - kept.sum(1, keepdim=True) / count[..., None], 0.0
    )
    # The median is not stretched by a few far points, as a mean would be.
    square = offset.square().sum(-1)
    spread = masked_median(square, used).sqrt()
    coverage = 2 * spread / sizes
    least = settings.minimum_coverage
    return condition(
        "coverage",
        (coverage >= least) | coverage.isnan(),
        coverage,
        lambda value: f"points span {100 * value:.0f} % < {100 * least:.0f} % of the shape",
    )


def _fits(residual: Tensor, threshold: Tensor, settings: CertificateSettings) -> Condition:
    name = f"q{100 * settings.quantile:.3g}"

    def write(values: Values) -> list[str]:
        return [
            "" if r <= limit else f"{name} {1e3 * r:.3g} mm > {1e3 * limit:.3g} mm"
            for r, limit in zip(*values, strict=True)
        ]

    reasons = Reasons((residual, threshold), write, len(residual))
    return Condition("fit", residual <= threshold, residual, reasons)


def condition(name: str, held: Tensor, value: Tensor, explain: Callable[[float], str]) -> Condition:
    """A condition whose reason is `explain(value)` wherever it does not hold."""

    def write(values: Values) -> list[str]:
        return ["" if ok else explain(number) for ok, number in zip(*values, strict=True)]

    return Condition(name, held, value, Reasons((held, value), write, len(held)))
