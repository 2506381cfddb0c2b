"""The library's shapes tried on objects: does none of them explain it, or another one as well?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from crisp_ros.correction.active_shape import ActiveShapeSettings, LibraryFits, library_fits
from crisp_ros.correction.batch import replace_rows
from crisp_ros.correction.certificate import (
    CertificateSettings,
    Condition,
    condition,
    quantile_residual,
)
from crisp_ros.correction.correspondences import Correspondences, ObjectPoints
from crisp_ros.correction.degeneracy import degeneracy, explanations
from crisp_ros.correction.hypotheses import Hypotheses
from crisp_ros.correction.pose_lm import PoseLmSettings
from crisp_ros.correction.prepared_library import PreparedLibrary
from crisp_ros.correction.reasons import Reasons
from crisp_ros.correction.shape_field import ShapeField
from crisp_ros.geometry.cuda_graphs import run_captured
from crisp_ros.geometry.se3 import transform


@dataclass(frozen=True)
class LibraryTestSettings:
    """Settings of `unknown_object_condition` and `find_ambiguity`.

    Attributes:
        share: a library shape explains an object when this share of its depth points is within
            eps of it: less than the certificate's p, so that a mask that includes a little of the
            object's surroundings does not make it unknown.
        inlier_share: the library is tried on objects of whose points at least this share agrees
            with the network on a pose: other shapes would be fitted from a wrong pose.
        agreed_share: an object without a certificate of whose points less than this share agrees
            with the network on a pose, or whose size does not agree, is unknown.
        points: depth points of an object that are compared, evenly spaced.
        fits: of the library's shapes; coarser than those of the corrector.
        pose: of the same fits.
    """

    share: float = 0.95
    inlier_share: float = 0.4
    agreed_share: float = 0.2
    points: int = 192
    fits: ActiveShapeSettings = field(
        default_factory=lambda: ActiveShapeSettings(
            coarse_points=40, coarse_evaluations=5, tried_shapes=4
        )
    )
    pose: PoseLmSettings = field(default_factory=PoseLmSettings)

    def __post_init__(self) -> None:
        if not (0.0 < self.share <= 1.0 and self.points >= 1):
            raise ValueError(
                f"share {self.share}, points {self.points}: expected 0 to 1, and at least 1"
            )


class Ambiguity(NamedTuple):
    """Alternative shapes of B objects.

    Attributes:
        degenerate: (B,) bool, see `Explanations`.
        tangent_eigenvalue: (B,), see `Degeneracy`.
    """

    degenerate: Tensor
    tangent_eigenvalue: Tensor


@torch.no_grad()
def unknown_object_condition(
    field: ShapeField,
    hypotheses: Hypotheses,
    tested: Tensor,
    library: PreparedLibrary,
    threshold_m: Tensor,
    settings: LibraryTestSettings | None = None,
) -> Condition:
    """The condition that some library shape explains each object; if none does, it is unknown.

    The library is tried only on objects that their own estimate does not explain.

    Args:
        field: f_d.
        hypotheses: B of them.
        tested: (B,) bool, those for which the question makes sense; it holds for the others.
        library: the known shapes.
        threshold_m: (B,) eps of the certificate, metres.
        settings: see `LibraryTestSettings`.
    """
    settings = settings or LibraryTestSettings()
    few = _subsample(hypotheses, settings.points)
    points, _, _, valid = few.correspondences
    own = quantile_residual(field, points, valid, few.T_object_camera, few.shapes, settings.share)
    rows = (tested & (own > threshold_m)).nonzero().squeeze(-1)
    held, value, reasons = torch.ones_like(tested), own.clone(), [""] * len(own)
    if len(rows) > 0:
        fits = _fit_library(field, hypotheses.rows(rows), library, settings)
        residual = quantile_residual(
            field,
            points[rows, None],
            valid[rows, None],
            fits.T_object_camera,
            fits.shapes,
            settings.share,
        )
        best = residual.argmin(-1, keepdim=True)
        nearest = fits.shapes.index.gather(-1, best).squeeze(-1)
        names = [library.names[index] for index in nearest.tolist()]
        found = known_shape_condition(residual.amin(-1), threshold_m[rows], names)
        held[rows], value[rows] = found.held, found.value
        for row, reason in zip(rows.tolist(), found.reasons, strict=True):
            reasons[row] = reason
    return Condition("known shape", held, value, tuple(reasons))


def known_shape_condition(
    residual: Tensor, threshold_m: Tensor | float, names: Sequence[str]
) -> Condition:
    """The condition that the best library shape explains the object.

    Args:
        residual: (B,) metres, of the best shape at its own best pose.
        threshold_m: eps, metres, or (B,) of each object.
        names: B of them, of these shapes.
    """
    found = condition(
        "known shape", residual <= threshold_m, residual, lambda r: f"off by {1e3 * r:.3g} mm"
    )
    reasons = Reasons.combined(
        (found.reasons, names),
        lambda parts: [
            reason and f"unknown object: the nearest library shape, {name}, is {reason}"
            for reason, name in zip(*parts, strict=True)
        ],
    )
    return found._replace(reasons=reasons)


@torch.no_grad()
def find_ambiguity(
    field: ShapeField,
    hypotheses: Hypotheses,
    library: PreparedLibrary,
    certificate: CertificateSettings,
    settings: LibraryTestSettings | None = None,
) -> Ambiguity:
    """Whether a library shape other than the estimated one would get the certificate as well.

    Args:
        field: f_d.
        hypotheses: B of them; the points of several views may be pooled, in the object frame.
        library: K shapes.
        certificate: p and eps.
        settings: see `LibraryTestSettings`.
    """
    settings = settings or LibraryTestSettings()
    fits = _fit_library(field, hypotheses, library, settings)
    few = _subsample(hypotheses, settings.points)
    found = explanations(field, few, fits, library, certificate)
    points, _, _, valid = few.correspondences
    z = transform(few.T_object_camera.to(points.dtype), points)
    fixed = degeneracy(field, ObjectPoints.of(z, valid), library)
    return Ambiguity(found.degenerate, fixed.tangent_eigenvalue.to(points.dtype))


def ambiguity_of_certified(
    field: ShapeField,
    hypotheses: Hypotheses,
    certified: Tensor,
    library: PreparedLibrary,
    certificate: CertificateSettings,
    settings: LibraryTestSettings | None = None,
) -> Ambiguity:
    """`find_ambiguity` of the certified objects; the others are not degenerate, and NaN.

    Args:
        field: f_d.
        hypotheses: B of them.
        certified: (B,) bool.
        library: K shapes.
        certificate: p and eps.
        settings: see `LibraryTestSettings`.
    """
    none = hypotheses.correspondences.points.new_full(certified.shape, torch.nan)
    found = Ambiguity(torch.zeros_like(certified), none)
    rows = certified.nonzero().squeeze(-1)
    if len(rows) == 0:
        return found
    new = find_ambiguity(field, hypotheses.rows(rows), library, certificate, settings)
    return replace_rows(found, rows, new)


def _fit_library(
    field: ShapeField,
    hypotheses: Hypotheses,
    library: PreparedLibrary,
    settings: LibraryTestSettings,
) -> LibraryFits:
    return library_fits(
        field,
        hypotheses.correspondences,
        library,
        hypotheses.T_registered,
        hypotheses.shapes.codes,
        settings.fits,
        settings.pose,
    )


def _subsample(hypotheses: Hypotheses, count: int) -> Hypotheses:
    (few,) = run_captured(_few, (count,), hypotheses.correspondences)
    return hypotheses._replace(correspondences=few)


def _few(count: int, correspondences: Correspondences) -> tuple[Correspondences]:
    return (correspondences.sanitized().subsample(count),)
