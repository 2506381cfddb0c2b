"""Estimates of the objects of a frame."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from crisp_ros.correction.shape_source import ShapeSource
from crisp_ros.geometry.isosurface import TriangleMesh
from crisp_ros.observation.observe import Rejected


class ObservedHull(NamedTuple):
    """Convex hull of what was seen of an object, closed towards its support and along the view.

    Attributes:
        T_camera_hull: (4, 4) float64 of its frame, at the middle of its box, z up, metres.
        mesh: in that frame.
    """

    T_camera_hull: NDArray[np.float64]
    mesh: TriangleMesh


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
        of_prior_model: the code is one of the decoder of the estimator's second model, that with
            the prior.
        shape_source: where the shape comes from: "library", "active", "network" or "prior", see
            `ShapeSource`; "observed" of what `observed` returns.
        orientation_certified: the estimate is certified, and no other orientation that the library
            knows of agrees with depth and print as well.
        orientation_reason: why the orientation of a certified estimate is not, "" where it is.
        hull: of what was seen of an unknown object; None of others, and where not wanted.
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
    of_prior_model: bool = False
    shape_source: str = ShapeSource.LIBRARY.text
    orientation_certified: bool = False
    orientation_reason: str = ""
    hull: ObservedHull | None = None

    @property
    def is_observed(self) -> bool:
        """Whether pose and box are those of the hull."""
        return self.shape_source == ShapeSource.OBSERVED.text

    def observed(self) -> ObjectEstimate:
        """The estimate with the hull in place of the shape, where there is one.

        It is never certified, and its residual is infinite: nothing was fitted.
        """
        if self.hull is None or self.certified:
            return self
        vertices = self.hull.mesh.vertices.astype(np.float64)
        return dataclasses.replace(
            self,
            T_camera_object=self.hull.T_camera_hull,
            lower=vertices.min(axis=0),
            upper=vertices.max(axis=0),
            covariance=None,
            residual_m=math.inf,
            score=0.0,
            shape_index=-1,
            shape_source=ShapeSource.OBSERVED.text,
        )


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
