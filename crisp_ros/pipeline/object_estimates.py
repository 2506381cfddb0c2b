"""Conversion of a solution on the device to the estimates of objects on the host."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import roma
import torch
from numpy.typing import NDArray
from torch import Tensor

from crisp_ros.correction.correspondences import Correspondences
from crisp_ros.correction.shape_source import ShapeSource
from crisp_ros.correction.verification import Verification
from crisp_ros.geometry.se3 import from_rotation_translation, invert
from crisp_ros.pipeline.estimates import ObjectEstimate
from crisp_ros.pipeline.solution import Solution


def object_estimates(solution: Solution, quantile: float) -> Iterator[ObjectEstimate]:
    """The estimates of a solution's objects, on the host.

    Args:
        solution: of a batch.
        quantile: p of the certificate.
    """
    shapes = solution.correction.shapes
    T = rigid_inverses(solution.correction.T_object_camera)
    codes, lower, upper = (
        part.to(dtype).cpu().numpy()
        for part, dtype in (
            (shapes.codes, torch.float32),
            (shapes.lower, torch.float64),
            (shapes.upper, torch.float64),
        )
    )
    columns = {
        "label": solution.observations.labels,
        "shape_index": shapes.index,
        "inlier_share": solution.registration.inlier_share,
        "n_points": solution.observations.valid.sum(-1),
        "size_ratio": _size_ratio(solution.correspondences),
    }
    orientation = solution.orientations
    if orientation is not None:
        certified = solution.verification.certificate.certified
        columns["orientation_certified"] = certified & orientation.clear.held
    if solution.ambiguity is not None:
        columns["degenerate"] = solution.ambiguity.degenerate
        columns["smallest_eigenvalue"] = solution.ambiguity.tangent_eigenvalue
    values = {name: column.tolist() for name, column in columns.items()}
    covariance = None if solution.covariance is None else solution.covariance.cpu().numpy()
    sources = [ShapeSource(source).text for source in solution.correction.sources.tolist()]
    for i, verdict in enumerate(verdicts(solution.verification)):
        yield ObjectEstimate(
            T_camera_object=T[i].copy(),
            code=codes[i].copy(),
            shape_source=sources[i],
            quantile=quantile,
            lower=lower[i].copy(),
            upper=upper[i].copy(),
            covariance=None if covariance is None else covariance[i].copy(),
            orientation_reason="" if orientation is None else orientation.clear.reasons[i],
            **verdict,
            **{name: column[i] for name, column in values.items()},
        )


def verdicts(verification: Verification) -> list[dict[str, Any]]:
    """The fields of `ObjectEstimate` that a verification decides, for each of its objects."""
    certificate = verification.certificate
    columns = {
        "certified": certificate.certified,
        "residual_m": certificate.residual,
        "threshold_m": certificate.threshold,
        "score": certificate.score,
        "unknown": verification.unknown,
    }
    rows = zip(*(column.tolist() for column in columns.values()), strict=True)
    return [
        dict(zip(columns, row, strict=True)) | {"reason": reason}
        for row, reason in zip(rows, certificate.reasons, strict=True)
    ]


def rigid_inverses(T_object_camera: Tensor) -> NDArray[np.float64]:
    """The poses T_camera_object (B, 4, 4) of T_object_camera, exact rotations, on the host."""
    T = T_object_camera.double().cpu()
    # Projected in float64, so that the result is a rotation to machine precision.
    rotation = roma.special_procrustes(T[:, :3, :3])
    return invert(from_rotation_translation(rotation, T[:, :3, 3])).numpy()


def _size_ratio(correspondences: Correspondences) -> Tensor:
    """See `ObjectEstimate`; (B,)."""
    points, pnc, _, valid = correspondences
    shift = points.shape[1] // 3  # scan order: far enough away to be another part of the object

    def spans(values: Tensor) -> Tensor:
        return torch.linalg.norm(values - values.roll(shift, 1), dim=-1)

    pairs = valid & valid.roll(shift, 1)
    ratios = spans(points) / spans(pnc).clamp_min(1e-6)
    return torch.where(pairs, ratios, torch.nan).nanmedian(-1).values
