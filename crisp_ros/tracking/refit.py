"""Refit of estimates to the shapes of their tracks, with the certificate tested again."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import roma
import torch

from crisp_ros.correction.certificate import Certificate, CertificateSettings, certify, condition
from crisp_ros.correction.correspondences import Correspondences, Shapes
from crisp_ros.correction.covariance import pose_covariance
from crisp_ros.correction.hypotheses import Hypotheses
from crisp_ros.correction.pose_lm import PoseLmSettings, refine_pose
from crisp_ros.correction.shape_field import ShapeField
from crisp_ros.correction.surface import SurfacePoints, surface_points
from crisp_ros.correction.visibility import (
    VisibilitySettings,
    images_of,
    visibility_conditions,
)
from crisp_ros.geometry.se3 import from_rotation_translation, invert, transform
from crisp_ros.pipeline import ObjectEstimate
from crisp_ros.tracking.depth_points import DepthPoints
from crisp_ros.tracking.track import Detection, Track


@torch.no_grad()
def refit_to_track_shape(
    field: ShapeField,
    detections: Sequence[Detection],
    depth: DepthPoints | None,
    certificate: CertificateSettings,
    visibility: VisibilitySettings | None,
    pose: PoseLmSettings | None,
) -> list[ObjectEstimate | None]:
    """Fit each detection to its track's shape, and test the certificate again.

    The fit starts at the estimate's own pose, which is also its prior. The conditions of free space
    and silhouette are tested where the frame is known. The covariance is computed for estimates
    that have one.

    Args:
        field: f_d.
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
    rows_of_shapes = (
        torch.from_numpy(np.stack([getattr(s, name) for s in shapes])).to(points)
        for name in ("code", "lower", "upper")
    )
    index = torch.tensor([s.shape_index for s in shapes], device=points.device)
    described = Shapes(*rows_of_shapes, index)
    T_camera_object = torch.from_numpy(np.stack([e.T_camera_object for e in estimates]))
    T = invert(T_camera_object).to(points)
    start = T
    if pose is not None:
        observed = Correspondences.of_points(points, valid).aligned_to(T)
        T = refine_pose(field, observed, described, T, pose).T_object_camera
    labels = torch.tensor([e.label for e in estimates], device=points.device)
    conditions = [
        condition("registration", depth.registered[rows], depth.registered[rows], _no_pose)
    ]
    if visibility is not None and depth.frame is not None:
        conditions += visibility_conditions(
            _surfaces(field, tracks, described),
            T,
            labels,
            images_of(depth.frame, points.device),
            visibility,
        )
    # The network's coordinates are those of its own pose, which an equivalent one may replace.
    own = invert(depth.T_object_camera[rows])
    coordinates = transform(start, transform(own, depth.coordinates[rows]))
    share = depth.registered[rows].to(points.dtype)
    hypotheses = Hypotheses(
        Correspondences(points, coordinates, depth.weights[rows], valid),
        T,
        described,
        labels,
        start,
        share,
    )
    verdict = certify(field, hypotheses, certificate, conditions)
    covariances = [e.covariance for e in estimates]
    if pose is not None and any(e.covariance is not None for e in estimates):
        covariances = list(pose_covariance(field, hypotheses).cpu().numpy())
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
            shape_index=shape.shape_index,
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


def _surfaces(field: ShapeField, tracks: Sequence[Track], shapes: Shapes) -> SurfacePoints:
    """Points on the tracks' shapes, which are kept until the shapes change."""
    missing = [i for i, track in enumerate(tracks) if track.surface is None]
    if missing:
        found = surface_points(field, shapes.rows(torch.tensor(missing)))
        for row, i in enumerate(missing):
            tracks[i].surface = SurfacePoints(
                found.points[row : row + 1].clone(), found.valid[row : row + 1].clone()
            )
    surfaces = [track.surface for track in tracks if track.surface is not None]
    return SurfacePoints(
        torch.cat([s.points for s in surfaces]), torch.cat([s.valid for s in surfaces])
    )
