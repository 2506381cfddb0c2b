"""Refit of estimates to the shapes of their tracks, verified like the estimator's own."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from crisp_ros.correction.certificate import Condition
from crisp_ros.correction.correspondences import Shapes
from crisp_ros.correction.hypotheses import Hypotheses
from crisp_ros.correction.pose_lm import PoseLmSettings, refine_pose
from crisp_ros.correction.shape_field import ShapeField
from crisp_ros.correction.surface import SurfacePoints
from crisp_ros.correction.verification import Verifier, registration_condition
from crisp_ros.correction.visibility import Images
from crisp_ros.geometry.se3 import invert, transform
from crisp_ros.pipeline import ObjectEstimate, Trace
from crisp_ros.pipeline.object_estimates import host_fields, rigid_inverses
from crisp_ros.tracking.track import Detection, Track, stack_shapes

_NOT_TESTED = "the orientation was not tested at the pose of the track"


class Measurements(NamedTuple):
    """Measurements of the objects of one frame, on the device.

    Attributes:
        hypotheses: (B,) the frame's own estimates with their points.
        known: the condition that some library shape explains each object; None where not tested.
        images: of the frame; None leaves free space and silhouette untested.
    """

    hypotheses: Hypotheses
    known: Condition | None
    images: Images | None

    @classmethod
    def of(cls, trace: Trace) -> Measurements | None:
        """Collect the measurements of a trace, in the order of its estimates; None without any."""
        if not trace.solutions:
            return None
        return cls(trace.hypotheses, trace.known, trace.images)


@torch.no_grad()
def refit_to_track_shape(
    field: ShapeField,
    verifier: Verifier,
    detections: Sequence[Detection],
    measurements: Measurements | None,
    pose: PoseLmSettings | None,
) -> list[ObjectEstimate | None]:
    """Fit each detection to its track's shape, and verify the result.

    The fit starts at the estimate's own pose, which is also its prior; where its shape is one of
    the estimator's second model, whose frames are others, at the pose that the library gave it.

    Args:
        field: f_d.
        verifier: with the estimator's settings.
        detections: tracks with their estimates.
        measurements: of the frame.
        pose: of the solver; None leaves poses and covariances as they are.

    Returns:
        An estimate for each detection, None where there are no measurements.
    """
    measured = [i for i, detection in enumerate(detections) if detection.row is not None]
    fitted: list[ObjectEstimate | None] = [None] * len(detections)
    if measurements is None or not measured:
        return fitted
    tracks, estimates, rows = zip(*(detections[i] for i in measured), strict=True)
    hypotheses = measurements.hypotheses
    device = hypotheses.labels.device
    rows = torch.tensor(rows, device=device)
    known = None if measurements.known is None else measurements.known.rows(rows)
    shapes = stack_shapes([track.shape for track in tracks], device)
    hypotheses = hypotheses.rows(rows)
    start = torch.from_numpy(np.stack([invert(e.T_camera_object) for e in estimates]))
    elsewhere = torch.tensor([e.of_prior_model for e in estimates], device=device)
    start = torch.where(
        elsewhere[:, None, None], hypotheses.T_object_camera, start.to(hypotheses.T_object_camera)
    )
    hypotheses = _with_pose(hypotheses, start, shapes)
    if pose is not None:
        start = hypotheses.T_object_camera
        observed = hypotheses.correspondences.aligned_to(start)
        step = refine_pose(field, observed, shapes, start, pose)
        hypotheses = hypotheses._replace(T_object_camera=step.T_object_camera)
    images = measurements.images
    surfaces = None if images is None else _track_surfaces(verifier, tracks, shapes)
    # The pose of a failed registration is no start for the fit of another shape.
    registered = registration_condition(hypotheses)
    verification = verifier.verify(hypotheses, images, known, surfaces, [registered])
    orientation = {"orientation_certified": False, "orientation_reason": _NOT_TESTED}
    columns = {}
    if pose is not None:
        columns["T_camera_object"] = hypotheses.T_object_camera.double()
        covariance = verifier.covariance(hypotheses)
        if covariance is not None:
            columns["covariance"] = covariance
    changes = [fields | orientation for fields in host_fields(verification, columns)]
    if pose is not None:
        poses = rigid_inverses(np.stack([change["T_camera_object"] for change in changes]))
        for row, change in enumerate(changes):
            change["T_camera_object"] = poses[row].copy()
            change.setdefault("covariance", None)
    for i, track, estimate, change in zip(measured, tracks, estimates, changes, strict=True):
        fitted[i] = dataclasses.replace(estimate, **track.shape_fields(), **change)
    return fitted


def _with_pose(hypotheses: Hypotheses, T_object_camera: torch.Tensor, shapes: Shapes) -> Hypotheses:
    """Give hypotheses other shapes, and equivalent poses (B, 4, 4) with coordinates to match."""
    T = T_object_camera.to(hypotheses.T_object_camera)
    motion = T @ invert(hypotheses.T_object_camera)
    correspondences = hypotheses.correspondences
    return hypotheses._replace(
        correspondences=correspondences._replace(pnc=transform(motion, correspondences.pnc)),
        T_object_camera=T,
        T_registered=motion @ hypotheses.T_registered,
        shapes=shapes,
    )


def _track_surfaces(verifier: Verifier, tracks: Sequence[Track], shapes: Shapes) -> SurfacePoints:
    """Points on the tracks' shapes, which are kept until the shapes change."""
    for i, track in enumerate(tracks):
        if track.surface is None:
            track.surface = verifier.surfaces(shapes.rows(slice(i, i + 1)))
    parts = zip(*(track.surface for track in tracks if track.surface is not None), strict=True)
    return SurfacePoints(*(torch.cat(part) for part in parts))
