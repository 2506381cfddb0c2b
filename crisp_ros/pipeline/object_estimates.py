"""From a solution on the device to the estimates that are told."""

from __future__ import annotations

import math
from collections.abc import Iterator

import roma
import torch
from torch import Tensor

from crisp_ros.geometry.se3 import from_rotation_translation, invert
from crisp_ros.pipeline.estimates import ObjectEstimate
from crisp_ros.pipeline.solver import Solution


def object_estimates(solution: Solution, quantile: float) -> Iterator[ObjectEstimate]:
    """The estimates of a solution's objects, on the host.

    Args:
        solution: of a batch.
        quantile: p of the certificate.
    """
    T_object_camera = solution.correction.T_object_camera.double().cpu()
    # Projected in float64, so that the result is a rotation to machine precision.
    rotation = roma.special_procrustes(T_object_camera[:, :3, :3])
    T = invert(from_rotation_translation(rotation, T_object_camera[:, :3, 3])).numpy()
    codes = solution.correction.codes.float().cpu().numpy()
    lower = solution.lower.double().cpu().numpy()
    upper = solution.upper.double().cpu().numpy()
    verdict = solution.certificate
    certified, residual, score = (
        part.tolist() for part in (verdict.certified, verdict.residual, verdict.score)
    )
    threshold = verdict.threshold.tolist()
    share = solution.registration.inlier_share.tolist()
    count = solution.observations.valid.sum(-1).tolist()
    ratio = _size_ratio(solution).tolist()
    covariance = solution.covariance
    covariance = None if covariance is None else covariance.cpu().numpy()
    unknown, other = solution.unknown.tolist(), solution.alternatives
    degenerate = [False] * len(unknown) if other is None else other.degenerate.tolist()
    eigenvalue = [math.nan] * len(unknown) if other is None else other.tangent_eigenvalue.tolist()
    for i, label in enumerate(solution.observations.labels.tolist()):
        yield ObjectEstimate(
            label=label,
            T_camera_object=T[i].copy(),
            code=codes[i].copy(),
            certified=certified[i],
            residual_m=residual[i],
            quantile=quantile,
            threshold_m=threshold[i],
            score=score[i],
            reason=verdict.reasons[i],
            inlier_share=share[i],
            n_points=count[i],
            lower=lower[i].copy(),
            upper=upper[i].copy(),
            covariance=None if covariance is None else covariance[i].copy(),
            size_ratio=ratio[i],
            unknown=unknown[i],
            degenerate=degenerate[i],
            smallest_eigenvalue=eigenvalue[i],
        )


def _size_ratio(solution: Solution) -> Tensor:
    """See `ObjectEstimate`; (B,)."""
    points, valid = solution.observations.points, solution.observations.valid
    shift = points.shape[1] // 3  # scan order: far enough away to be another part of the object

    def spans(values: Tensor) -> Tensor:
        return torch.linalg.norm(values - values.roll(shift, 1), dim=-1)

    pairs = valid & valid.roll(shift, 1)
    ratios = spans(points) / spans(solution.pnc).clamp_min(1e-6)
    return torch.where(pairs, ratios, torch.nan).nanmedian(-1).values
