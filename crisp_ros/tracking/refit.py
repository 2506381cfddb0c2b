"""Refit of estimates to the shapes of their tracks, with the certificate tested again."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import roma
import torch

from crisp_ros.correction.certificate import Certificate, CertificateSettings, certify, condition
from crisp_ros.correction.covariance import pose_covariance
from crisp_ros.correction.pose_lm import SecondOrderSettings, refine
from crisp_ros.correction.surface import SurfacePoints, surface_points
from crisp_ros.correction.visibility import (
    VisibilitySettings,
    images_of,
    visibility_conditions,
)
from crisp_ros.geometry.se3 import from_rotation_translation, invert, transform
from crisp_ros.network.decoder import ShapeDecoder
from crisp_ros.pipeline import ObjectEstimate
from crisp_ros.tracking.depth_points import DepthPoints
from crisp_ros.tracking.track import Detection, Track


@torch.no_grad()
def refit_to_track_shape(
    decoder: ShapeDecoder,
    detections: Sequence[Detection],
    depth: DepthPoints | None,
    certificate: CertificateSettings,
    visibility: VisibilitySettings | None,
    pose: SecondOrderSettings | None,
) -> list[ObjectEstimate | None]:
    """Fit each detection to its track's shape, and test the certificate again.

    The fit starts at the estimate's own pose, which is also its prior. The conditions of free space
    and silhouette are tested where the frame is known. The covariance is computed for estimates
    that have one.

    Args:
        decoder: f_d.
        detections: tracks with their estimates.
        depth: points of the frame.
        certificate: of the estimator.
        visibility: of the estimator.
        pose: of the solver; None leaves poses and covariances as they are.

    Returns:
        An estimate for each detection, None where there are no points.
    """
    fitted: list[ObjectEstimate | None] = [None] * len(detections)
    known = [i for i, s in enumerate(detections) if depth and s.estimate.label in depth.labels]
    if depth is None or not known:
        return fitted
    tracks, estimates = zip(*(detections[i] for i in known), strict=True)
    rows = torch.tensor([depth.labels.index(e.label) for e in estimates])
    rows = rows.to(depth.points.device)
    points, valid = depth.points[rows], depth.valid[rows]
    shapes = [track.shape for track in tracks]
    codes = torch.from_numpy(np.stack([s.code for s in shapes])).to(points)
    T_camera_object = torch.from_numpy(np.stack([e.T_camera_object for e in estimates]))
    T = invert(T_camera_object).to(points)
    start = T
    if pose is not None:
        z, weights = transform(T, points), valid.to(points.dtype)
        T = refine(decoder, points, z, weights, valid, codes, T, pose).T_object_camera
    conditions = [
        condition("registration", depth.registered[rows], depth.registered[rows], _no_pose)
    ]
    if visibility is not None and depth.frame is not None:
        conditions += visibility_conditions(
            _surfaces(decoder, tracks, codes),
            T,
            torch.tensor([e.label for e in estimates], device=points.device),
            images_of(depth.frame, points.device),
            visibility,
        )
    sizes = codes.new_tensor([float(np.linalg.norm(s.upper - s.lower)) for s in shapes])
    verdict = certify(decoder, points, valid, T, codes, certificate, sizes, conditions)
    covariances = [e.covariance for e in estimates]
    if pose is not None and any(e.covariance is not None for e in estimates):
        # The network's coordinates are those of its own pose, which an equivalent one may replace.
        own = invert(depth.T_object_camera[rows])
        coordinates = transform(start, transform(own, depth.coordinates[rows]))
        weights = depth.weights[rows]
        covariance = pose_covariance(decoder, points, coordinates, weights, valid, codes, T)
        covariances = list(covariance.cpu().numpy())
    poses = T_camera_object.numpy()
    if pose is not None:
        T = T.double().cpu()
        rotation = roma.special_procrustes(T[:, :3, :3])
        poses = invert(from_rotation_translation(rotation, T[:, :3, 3])).numpy()
    for i, estimate, shape, pose_found, covariance_found, told in zip(
        known, estimates, shapes, poses, covariances, _told(verdict, certificate), strict=True
    ):
        fitted[i] = dataclasses.replace(
            estimate,
            T_camera_object=pose_found.copy(),
            code=shape.code,
            lower=shape.lower,
            upper=shape.upper,
            covariance=covariance_found,
            **(told | _still_unknown(estimate, bool(told["certified"]))),
        )
    return fitted


def _still_unknown(estimate: ObjectEstimate, certified: bool) -> dict[str, object]:
    """An object that no library shape explains stays unknown, unless the track's shape does."""
    if certified or not estimate.unknown:
        return {"unknown": False}
    return {"reason": estimate.reason}


def _told(verdict: Certificate, settings: CertificateSettings) -> list[dict[str, object]]:
    names = ("certified", "residual_m", "threshold_m", "score")
    parts = (verdict.certified, verdict.residual, verdict.threshold, verdict.score)
    values = zip(*(part.tolist() for part in parts), verdict.reasons, strict=True)
    return [
        {**dict(zip((*names, "reason"), row, strict=True)), "quantile": settings.quantile}
        for row in values
    ]


def _no_pose(_: object) -> str:
    return "no pose: too few points agree with the network"


def _surfaces(decoder: ShapeDecoder, tracks: Sequence[Track], codes: torch.Tensor) -> SurfacePoints:
    """Points on the tracks' shapes, which are kept until the shapes change."""
    missing = [i for i, track in enumerate(tracks) if track.surface is None]
    if missing:
        lower, upper = (
            codes.new_tensor(np.stack([getattr(tracks[i].shape, side) for i in missing]))
            for side in ("lower", "upper")
        )
        found = surface_points(decoder, codes[missing], lower, upper)
        for row, i in enumerate(missing):
            tracks[i].surface = SurfacePoints(
                found.points[row : row + 1].clone(), found.valid[row : row + 1].clone()
            )
    surfaces = [track.surface for track in tracks if track.surface is not None]
    return SurfacePoints(
        torch.cat([s.points for s in surfaces]), torch.cat([s.valid for s in surfaces])
    )
