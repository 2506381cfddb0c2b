"""Conversion of a solution on the device to the estimates of objects on the host."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from crisp_ros.correction.reasons import Reasons, to_host
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
    shapes, certificate = solution.correction.shapes, solution.verification.certificate
    columns = {
        "label": solution.observations.labels,
        "T_camera_object": solution.correction.T_object_camera.double(),
        "code": shapes.codes.float(),
        "lower": shapes.lower.double(),
        "upper": shapes.upper.double(),
        "shape_index": shapes.index,
        "shape_source": solution.correction.sources,
        "inlier_share": solution.registration.inlier_share,
        "n_points": solution.observations.valid.sum(-1),
        "size_ratio": solution.verification.size_ratios,
    }
    orientation = solution.orientations
    if orientation is not None:
        columns["orientation_certified"] = certificate.certified & orientation.clear.held
    if solution.ambiguity is not None:
        columns["degenerate"] = solution.ambiguity.degenerate
        columns["smallest_eigenvalue"] = solution.ambiguity.tangent_eigenvalue
    if solution.covariance is not None:
        columns["covariance"] = solution.covariance
    fields = host_fields(solution.verification, columns)
    poses = rigid_inverses(np.stack([object_["T_camera_object"] for object_ in fields]))
    for i, object_ in enumerate(fields):
        object_["T_camera_object"] = poses[i].copy()
        object_["shape_source"] = ShapeSource(object_["shape_source"]).text
        reason = "" if orientation is None else orientation.clear.reasons[i]
        yield ObjectEstimate(quantile=quantile, orientation_reason=reason, **object_)


def host_fields(
    verification: Verification, columns: Mapping[str, Tensor] | None = None
) -> list[dict[str, Any]]:
    """The fields of `ObjectEstimate` that a verification decides, after one transfer to the host.

    Args:
        verification: of B objects.
        columns: further fields (B, ...) of these, transferred with them.

    Returns:
        B dictionaries; numbers are those of Python, and others arrays of their own.
    """
    certificate = verification.certificate
    columns = dict(columns or {}) | {
        "certified": certificate.certified,
        "residual_m": certificate.residual,
        "threshold_m": certificate.threshold,
        "score": certificate.score,
        "unknown": verification.unknown,
    }
    reasons = Reasons.of(certificate.reasons)
    values = to_host([*columns.values(), *reasons.tensors])
    texts = reasons.written([value.tolist() for value in values[len(columns) :]])
    rows = zip(*(_rows(value) for value in values[: len(columns)]), strict=True)
    return [
        dict(zip(columns, row, strict=True)) | {"reason": reason}
        for row, reason in zip(rows, texts, strict=True)
    ]


def _rows(values: NDArray[Any]) -> Sequence[Any]:
    """The values (B, ...) of each object, numbers or arrays."""
    return values.tolist() if values.ndim == 1 else [row.copy() for row in values]


def rigid_inverses(T_object_camera: NDArray[np.float64]) -> NDArray[np.float64]:
    """The poses T_camera_object (B, 4, 4) of T_object_camera, with exact rotations."""
    # Projected in float64, so that the result is a rotation to machine precision.
    U, _, Vt = np.linalg.svd(T_object_camera[:, :3, :3])
    U[:, :, 2] *= np.linalg.det(U @ Vt)[:, None]
    return invert(from_rotation_translation(U @ Vt, T_object_camera[:, :3, 3]))
