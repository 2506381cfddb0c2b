"""Is the shape unique? Degeneracy by eigenvalues, and by the library shapes that fit as well."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from crisp_ros.correction.active_shape import LibraryFits, distance_matrix
from crisp_ros.correction.certificate import CertificateSettings, quantile_residual
from crisp_ros.correction.correspondences import ObjectPoints, Shapes
from crisp_ros.correction.hypotheses import Hypotheses
from crisp_ros.correction.prepared_library import PreparedLibrary
from crisp_ros.correction.shape_field import ShapeField
from crisp_ros.geometry.se3 import invert, transform

_SURFACE_POINTS = 128


class Degeneracy(NamedTuple):
    """Measures of how well the points determine the coefficients of eq. (10).

    Attributes:
        eigenvalue: (B,) the paper's lambda_min(F^T F), square metres; it grows with the number of
            points and is zero for a perfect fit too.
        tangent_eigenvalue: (B,) the least eigenvalue of Q^T D F^T F D Q / n, with Q a basis of the
            directions that keep the coefficients' sum: zero only where two shapes, or mixtures,
            have the same distances at every point. Infinite for a library of one shape.
    """

    eigenvalue: Tensor
    tangent_eigenvalue: Tensor


class Explanations(NamedTuple):
    """Library shapes that explain an object.

    Attributes:
        residual: (B, M) metres, the p-quantile of |sdf| of each shape at its own best pose.
        certified: (B, M) bool, those within eps.
        whole_residual: (B, M) metres, the p-quantile of |sdf| of one of both on the whole surface
            of the other, the larger of both directions.
        degenerate: (B,) bool, some shape is certified on the points seen, and would not be if the
            whole surface of the estimate, or its own, were seen: its whole residual is above eps.
    """

    residual: Tensor
    certified: Tensor
    whole_residual: Tensor
    degenerate: Tensor


@torch.no_grad()
def degeneracy(field: ShapeField, points: ObjectPoints, library: PreparedLibrary) -> Degeneracy:
    """The eigenvalues that say whether points determine a mixture of library shapes.

    Args:
        field: f_d.
        points: of B objects; several views of an object may be pooled.
        library: K shapes; the network's own code is left out, as it is near to some of them.
    """
    points = points.sanitized()
    valid = points.valid
    F = distance_matrix(field, points.points, library.all_shapes).double()
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
    field: ShapeField,
    hypotheses: Hypotheses,
    fits: LibraryFits,
    library: PreparedLibrary,
    certificate: CertificateSettings,
) -> Explanations:
    """Find every library shape whose best fit certifies, and whether one is a different shape.

    Args:
        field: f_d.
        hypotheses: B of them.
        fits: of `library_fits` to the same objects, with M shapes.
        library: the known shapes.
        certificate: p and eps.
    """
    points, _, _, valid = hypotheses.correspondences
    residual = quantile_residual(
        field,
        points[:, None],
        valid[:, None],
        fits.T_object_camera,
        fits.shapes,
        certificate.quantile,
    )
    certified = residual <= certificate.threshold_m
    of_library = library.surfaces.subsample(_SURFACE_POINTS).rows(fits.shapes.index)
    estimates = library.surfaces_of(hypotheses.shapes).subsample(_SURFACE_POINTS)
    dtype = of_library.points.dtype
    fitted = transform(invert(fits.T_object_camera.to(dtype)), of_library.points)
    estimated = transform(invert(hypotheses.T_object_camera.to(dtype)), estimates.points)
    # A mean distance hides a part that one shape has and the other lacks, such as a handle.
    of_estimate = _on_surface(
        field, fits.shapes, fits.T_object_camera, estimated[:, None], estimates.valid[:, None]
    )
    own = hypotheses.shapes.unsqueeze(1)
    of_other = _on_surface(
        field, own, hypotheses.T_object_camera[:, None], fitted, of_library.valid
    )
    whole = torch.maximum(
        *(r.nanquantile(certificate.quantile, -1) for r in (of_estimate, of_other))
    )
    other = certified & (whole > certificate.threshold_m)
    return Explanations(residual, certified, whole, other.any(-1))


def _on_surface(
    field: ShapeField, shapes: Shapes, T_object_camera: Tensor, points: Tensor, valid: Tensor
) -> Tensor:
    """|sdf| (B, M, N) of shapes at points (B, M, N, 3) of the scene, NaN where not valid."""
    distances = field.sdf(transform(T_object_camera.to(points.dtype), points), shapes).abs()
    return torch.where(valid, distances, torch.nan)


def _sum_free_basis(size: int, like: Tensor) -> Tensor:
    """An orthonormal basis (K, K - 1) of the vectors whose entries sum to zero."""
    ones = torch.ones(size, 1, dtype=like.dtype, device=like.device)
    return torch.linalg.qr(ones, mode="complete").Q[:, 1:]
