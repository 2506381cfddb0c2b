"""Solution of a batch of objects, and changes of it by motions of the objects."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from crisp_ros.correction.corrector import Correction
from crisp_ros.correction.correspondences import Correspondences
from crisp_ros.correction.hypotheses import Hypotheses
from crisp_ros.correction.library_tests import Ambiguity
from crisp_ros.correction.orientation import Orientations
from crisp_ros.correction.verification import Verification
from crisp_ros.geometry.registration import Registration
from crisp_ros.geometry.se3 import transform
from crisp_ros.observation.observe import Observations


class Solution(NamedTuple):
    """Everything that was computed on the way for B objects, on the solver's device.

    Attributes:
        observations: labels, crops, points and pixels of these objects.
        maps: PNC maps (B, 3, S', S') of the network, metres.
        correspondences: the depth points, and the coordinates read from the maps at their pixels;
            moved by a near symmetry of the shape where the depth image shows the object there.
        codes: (B, C) of the network.
        registration: the poses from the coordinates alone, moved likewise.
        correction: corrected poses, shapes with boxes, and coordinates.
        verification: the verdict.
        orientations: which of the orientations that depth cannot tell apart the objects have; None
            where not wanted.
        ambiguity: of the certified ones, else not degenerate and NaN; None where not wanted.
        covariance: (B, 6, 6) of the poses; None where not wanted.
    """

    observations: Observations
    maps: Tensor
    correspondences: Correspondences
    codes: Tensor
    registration: Registration
    correction: Correction
    verification: Verification
    orientations: Orientations | None
    ambiguity: Ambiguity | None
    covariance: Tensor | None

    @property
    def hypotheses(self) -> Hypotheses:
        """Pose and shape of the objects with the measurements."""
        return hypotheses_of(
            self.observations, self.correspondences, self.registration, self.correction
        )


def hypotheses_of(
    observations: Observations,
    correspondences: Correspondences,
    registration: Registration,
    correction: Correction,
) -> Hypotheses:
    """Pose and shape of objects at a stage of the solver, with the measurements."""
    share = registration.inlier_share
    return Hypotheses(
        correspondences,
        correction.T_object_camera,
        correction.shapes,
        observations.labels,
        registration.T_object_camera.to(correspondences.points.dtype),
        torch.where(registration.converged, share, torch.zeros_like(share)),
    )


class MovedObjects(NamedTuple):
    """Objects of a batch that get a symmetric pose.

    Attributes:
        rows: (M,) of the batch.
        motions: (M, 4, 4) of the object frame.
        T_object_camera: (M, 4, 4) the new poses.
        objective: (M,) square metres, at these.
    """

    rows: Tensor
    motions: Tensor
    T_object_camera: Tensor
    objective: Tensor

    def apply(
        self,
        correspondences: Correspondences,
        registration: Registration,
        correction: Correction,
    ) -> tuple[Correspondences, Registration, Correction]:
        """All as if the network had given coordinates after the motions."""
        rows, T = self.rows, self.T_object_camera
        z = transform(T, correspondences.points[rows])
        z = torch.where(correspondences.valid[rows][..., None], z, 0.0)
        correction = correction._replace(
            T_object_camera=correction.T_object_camera.index_copy(0, rows, T),
            pnc=correction.pnc.index_copy(0, rows, z),
            objective=correction.objective.index_copy(0, rows, self.objective),
        )
        first = registration.T_object_camera
        first = first.index_copy(0, rows, self.motions.to(first) @ first[rows])
        pnc = transform(self.motions, correspondences.pnc[rows])
        correspondences = correspondences._replace(pnc=correspondences.pnc.index_copy(0, rows, pnc))
        return correspondences, registration._replace(T_object_camera=first), correction
