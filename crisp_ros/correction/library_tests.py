"""The library's shapes tried on objects: is none of them near, and is another one as near?"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from crisp_ros.correction.active_shape import ActiveShapeSettings, LibraryFits, library_fits
from crisp_ros.correction.certificate import Condition, quantile_residual
from crisp_ros.correction.degeneracy import degeneracy, explanations, known_shape
from crisp_ros.correction.pose_lm import SecondOrderSettings
from crisp_ros.correction.residuals import evenly_chosen, usable
from crisp_ros.correction.surface import SurfacePoints
from crisp_ros.geometry.se3 import transform
from crisp_ros.network.decoder import ShapeDecoder
from crisp_ros.network.library import ShapeLibrary

_CHAMFER_POINTS = 128


@dataclass(frozen=True)
class LibraryCheckSettings:
    """Settings of `known_shapes` and `alternatives`.

    Attributes:
        share: a library shape explains an object when this share of its depth points lies within
            eps of it: less than the certificate's p, so that a mask that takes in some of what
            lies beside the object does not make it unknown.
        inlier_share: nothing is said of objects of whose points less than this share agrees with
            the network on a pose: other shapes would be fitted from a wrong one.
        points: depth points of an object that are compared, chosen evenly.
        fits, pose: of the library's shapes; coarser than those of the corrector.
    """

    share: float = 0.95
    inlier_share: float = 0.4
    points: int = 192
    fits: ActiveShapeSettings = field(
        default_factory=lambda: ActiveShapeSettings(
            coarse_points=40, coarse_evaluations=5, tried_shapes=4
        )
    )
    pose: SecondOrderSettings = field(default_factory=SecondOrderSettings)

    def __post_init__(self) -> None:
        if not (0.0 < self.share <= 1.0 and self.points >= 1):
            raise ValueError(
                f"share {self.share}, points {self.points}: expected 0 to 1, and at least 1"
            )


class Fitted(NamedTuple):
    """B objects as they were estimated.

    points: (B, N, 3) depth points, camera frame, metres. pnc: (B, N, 3) their object coordinates,
    with weights (B, N). valid: (B, N) bool. start: (B, 4, 4) T_object_camera from which other
    shapes are fitted. T_object_camera: (B, 4, 4), and codes (B, C) of the estimates.
    """

    points: Tensor
    pnc: Tensor
    weights: Tensor
    valid: Tensor
    start: Tensor
    T_object_camera: Tensor
    codes: Tensor

    def rows(self, which: Tensor) -> Fitted:
        """Some of the objects."""
        return Fitted(*(part[which] for part in self))


class Alternatives(NamedTuple):
    """What else an object may be.

    degenerate: (B,) bool, see `Explanations`. tangent_eigenvalue: (B,), see `Degeneracy`.
    """

    degenerate: Tensor
    tangent_eigenvalue: Tensor


@torch.no_grad()
def known_shapes(
    decoder: ShapeDecoder,
    objects: Fitted,
    tested: Tensor,
    library: ShapeLibrary,
    threshold_m: Tensor,
    settings: LibraryCheckSettings | None = None,
) -> Condition:
    """The condition that some library shape explains each object; if none does, it is unknown.

    The library is tried only on objects that their own estimate does not explain.

    Args:
        decoder: f_d.
        objects: B of them.
        tested: (B,) bool, those for which the question makes sense; it holds for the others.
        library: the known shapes.
        threshold_m: (B,) eps of the certificate, metres.
        settings: see `LibraryCheckSettings`.
    """
    settings = settings or LibraryCheckSettings()
    points, valid = _thinned(objects.points, objects.valid, settings.points)
    own = quantile_residual(
        decoder, points, valid, objects.T_object_camera, objects.codes, settings.share
    )
    rows = (tested & (own > threshold_m)).nonzero().squeeze(-1)
    held, value, reasons = torch.ones_like(tested), own.clone(), [""] * len(own)
    if len(rows) > 0:
        fits = _fits(decoder, objects.rows(rows), library, settings)
        residual = quantile_residual(
            decoder,
            points[rows, None],
            valid[rows, None],
            fits.T_object_camera,
            library.codes,
            settings.share,
        )
        told = known_shape(residual, threshold_m[rows], library)
        held[rows], value[rows] = told.held, told.value
        for row, reason in zip(rows.tolist(), told.reasons, strict=True):
            reasons[row] = reason
    return Condition("known shape", held, value, tuple(reasons))


@torch.no_grad()
def alternatives(
    decoder: ShapeDecoder,
    objects: Fitted,
    surfaces: SurfacePoints,
    library: ShapeLibrary,
    library_surfaces: SurfacePoints,
    quantile: float,
    threshold_m: float,
    settings: LibraryCheckSettings | None = None,
) -> Alternatives:
    """Whether a library shape other than the estimated one would get the certificate as well.

    Args:
        decoder: f_d.
        objects: B of them; the points of several views may be pooled, in the object frame.
        surfaces: points (B, M, 3) on the estimated shapes.
        library: K shapes.
        library_surfaces: points (K, M, 3) on them.
        quantile, threshold_m: p and eps of the certificate.
        settings: see `LibraryCheckSettings`.
    """
    settings = settings or LibraryCheckSettings()
    fits = _fits(decoder, objects, library, settings)
    points, valid = _thinned(objects.points, objects.valid, settings.points)
    found = explanations(
        decoder,
        points,
        valid,
        fits,
        library,
        _fewer(library_surfaces),
        _fewer(surfaces),
        objects.T_object_camera,
        quantile,
        threshold_m,
    )
    z = transform(objects.T_object_camera.to(points.dtype), points)
    fixed = degeneracy(decoder, z, valid, library)
    return Alternatives(found.degenerate, fixed.tangent_eigenvalue.to(points.dtype))


def _fits(
    decoder: ShapeDecoder, objects: Fitted, library: ShapeLibrary, settings: LibraryCheckSettings
) -> LibraryFits:
    return library_fits(
        decoder,
        objects.points,
        objects.pnc,
        objects.weights,
        objects.valid,
        library,
        objects.start,
        settings.fits,
        settings.pose,
    )


def _thinned(points: Tensor, valid: Tensor, count: int) -> tuple[Tensor, Tensor]:
    valid = usable(points, valid)
    chosen = evenly_chosen(valid, min(count, points.shape[1]))
    rows = torch.arange(len(points), device=points.device)[:, None]
    return points[rows, chosen], valid[rows, chosen]


def _fewer(surfaces: SurfacePoints) -> SurfacePoints:
    """Every so manieth point, spread as evenly as all of them."""
    step = max(1, surfaces.points.shape[1] // _CHAMFER_POINTS)
    return SurfacePoints(surfaces.points[:, ::step], surfaces.valid[:, ::step])
