"""Is the shape unique? Degeneracy by eigenvalues, and by the library shapes that fit as well."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from crisp_ros.correction.active_shape import LibraryFits, distance_matrix
from crisp_ros.correction.certificate import Condition, condition, quantile_residual
from crisp_ros.correction.residuals import usable
from crisp_ros.correction.surface import SurfacePoints
from crisp_ros.geometry.chamfer import chamfer_distance
from crisp_ros.geometry.se3 import invert, transform
from crisp_ros.network.decoder import ShapeDecoder
from crisp_ros.network.library import ShapeLibrary


class Degeneracy(NamedTuple):
    """How well the points fix the coefficients of eq. (10); near zero: they do not.

    eigenvalue: (B,) the paper's lambda_min(F^T F), square metres; it grows with the number of
    points and is zero for a perfect fit too. tangent_eigenvalue: (B,) the least eigenvalue of
    Q^T D F^T F D Q / n, with Q a basis of the directions that keep the coefficients' sum: zero only
    where two shapes, or mixtures, have the same distances at every point. Infinite for a library of
    one shape.
    """

    eigenvalue: Tensor
    tangent_eigenvalue: Tensor


class Explanations(NamedTuple):
    """Which library shapes explain an object.

    residual: (B, K) metres, the p-quantile of |sdf| of each shape at its own best pose.
    certified: (B, K) bool, those within eps. apart: (B, K) metres, Chamfer distance (mean of both
    directions) between the fitted shape and the estimate, where both stand. degenerate: (B,) bool,
    some certified shape is more than eps apart from the estimate.
    """

    residual: Tensor
    certified: Tensor
    apart: Tensor
    degenerate: Tensor


@torch.no_grad()
def degeneracy(
    decoder: ShapeDecoder, points: Tensor, valid: Tensor, library: ShapeLibrary
) -> Degeneracy:
    """The eigenvalues that say whether points determine a mixture of library shapes.

    Args:
        decoder: f_d.
        points: (B, N, 3) object frame, metres; several views of an object may be pooled here.
        valid: (B, N) bool.
        library: K shapes; the network's own code is left out, as it is near to some of them.
    """
    valid = usable(points, valid)
    safe = torch.where(valid[..., None], points, 0.0)
    F = distance_matrix(decoder, safe, library.codes).double()
    F = torch.where(valid[..., None], F, torch.zeros_like(F))
    eigenvalue = torch.linalg.eigvalsh(F.transpose(-1, -2) @ F)[:, 0]
    scaled = (F / library.diameters.double()) @ _sum_free_basis(F.shape[-1], F)
    gram = scaled.transpose(-1, -2) @ scaled / valid.sum(-1).clamp_min(1)[:, None, None]
    if F.shape[-1] == 1:
        tangent = torch.full_like(eigenvalue, torch.inf)
    else:
        tangent = torch.linalg.eigvalsh(gram)[:, 0]
    return Degeneracy(eigenvalue.clamp_min(0), tangent.clamp_min(0))


@torch.no_grad()
def explanations(
    decoder: ShapeDecoder,
    points: Tensor,
    valid: Tensor,
    fits: LibraryFits,
    library: ShapeLibrary,
    library_surfaces: SurfacePoints,
    estimates: SurfacePoints,
    T_object_camera: Tensor,
    quantile: float,
    threshold_m: float,
) -> Explanations:
    """Every library shape whose best fit also certifies, and whether one is a different shape.

    Args:
        decoder: f_d.
        points: (B, N, 3) depth points, camera frame, metres.
        valid: (B, N) bool.
        fits: of `library_fits`, with K shapes.
        library: those K shapes.
        library_surfaces: points (K, M, 3) on them, object frame.
        estimates: points (B, M, 3) on the estimated shapes, object frame.
        T_object_camera: (B, 4, 4) the estimated poses.
        quantile: p of the certificate.
        threshold_m: eps of the certificate, metres.
    """
    residual = quantile_residual(
        decoder, points[:, None], valid[:, None], fits.T_object_camera, library.codes, quantile
    )
    certified = residual <= threshold_m
    dtype = library_surfaces.points.dtype
    fitted = transform(invert(fits.T_object_camera.to(dtype)), library_surfaces.points)
    estimated = transform(invert(T_object_camera.to(dtype)), estimates.points)
    apart = chamfer_distance(
        fitted, library_surfaces.valid, estimated[:, None], estimates.valid[:, None]
    )
    return Explanations(residual, certified, apart, (certified & (apart > threshold_m)).any(-1))


def known_shape(residual: Tensor, threshold_m: Tensor | float, library: ShapeLibrary) -> Condition:
    """The condition that some library shape explains the object; if not, it is unknown.

    Args:
        residual: (B, K) metres, of each shape at its own best pose.
        threshold_m: eps, metres, or (B,) of each object.
        library: those K shapes.
    """
    best = residual.min(dim=-1)
    names = [library.names[k] for k in best.indices.tolist()]
    told = condition(
        "known shape", best.values <= threshold_m, best.values, lambda r: f"off by {1e3 * r:.3g} mm"
    )
    reasons = tuple(
        reason and f"unknown object: the nearest library shape, {name}, is {reason}"
        for reason, name in zip(told.reasons, names, strict=True)
    )
    return told._replace(reasons=reasons)


def _sum_free_basis(size: int, like: Tensor) -> Tensor:
    """An orthonormal basis (K, K - 1) of the vectors whose entries sum to zero."""
    ones = torch.ones(size, 1, dtype=like.dtype, device=like.device)
    return torch.linalg.qr(ones, mode="complete").Q[:, 1:]
