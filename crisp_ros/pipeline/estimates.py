"""Estimates of the objects of a frame."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crisp_ros.correction.shape_source import ShapeSource
from crisp_ros.observation.observe import Rejected


@dataclass(frozen=True, eq=False)
class ObjectEstimate:
    """Pose and shape of one object.

    Attributes:
        label: of the object in the frame.
        T_camera_object: (4, 4) float64, object frame to camera optical frame, metres.
        code: (C,) float32 shape code.
        certified: the certificate of observable correctness holds.
        residual_m: the `quantile` of the distances of depth points to the estimated surface.
        quantile: p of the certificate.
        threshold_m: eps of the certificate.
        score: in [0, 1], at least 1/2 exactly where certified.
        reason: why it is not certified, "" where it is.
        inlier_share: of the points whose network coordinates agree with the first pose.
        n_points: depth points used.
        lower, upper: (3,) float64 corners of the shape's box, object frame, metres.
        covariance: (6, 6) float64 of the pose, None where it is not known: x, y, z of the object
            frame's origin, rotation about X, Y, Z through it, along the camera's axes; metres and
            radians (see `pose_covariance`).
        depth_scale: factor by which depth is too large, as the width of the object's mask shows;
            NaN where the object is partly hidden, or its shape is not of the library.
        unknown: no library shape explains the depth points, or the object is not certified and
            the network's coordinates do not agree on its pose and size; `reason` says which.
        degenerate: a library shape would be certified as well that would not be if the whole
            surface were seen.
        smallest_eigenvalue: how well the points fix the shape (`Degeneracy.tangent_eigenvalue`);
            NaN where this and `degenerate` were not computed.
        size_ratio: of distances between depth points to those between their network coordinates,
            the median; far from 1 for all objects, the unit of depth is wrong. NaN if
            unknown.
        shape_index: row of the shape in the library; -1 where it is not one of the library.
        shape_source: where the shape comes from: "library", "active", "network" or "prior", see
            `ShapeSource`.
        orientation_certified: the estimate is certified, and no other orientation that the library
            knows of agrees with depth and print as well.
        orientation_reason: why the orientation of a certified estimate is not, "" where it is.
    """

    label: int
    T_camera_object: NDArray[np.float64]
    code: NDArray[np.float32]
    certified: bool
    residual_m: float
    quantile: float
    threshold_m: float
    score: float
    reason: str
    inlier_share: float
    n_points: int
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    covariance: NDArray[np.float64] | None = None
    size_ratio: float = math.nan
    depth_scale: float = math.nan
    unknown: bool = False
    degenerate: bool = False
    smallest_eigenvalue: float = math.nan
    shape_index: int = -1
    shape_source: str = ShapeSource.LIBRARY.text
    orientation_certified: bool = False
    orientation_reason: str = ""


@dataclass(frozen=True, eq=False)
class FrameEstimate:
    """The objects of one frame.

    Attributes:
        objects: estimates in ascending order of their labels.
        rejected: labels without an estimate, and why.
        stage_ms: wall time of each of `STAGES`, milliseconds.
        model_version: of the model that was used.
    """

    objects: tuple[ObjectEstimate, ...]
    rejected: tuple[Rejected, ...]
    stage_ms: dict[str, float]
    model_version: str
