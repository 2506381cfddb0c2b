"""Solution of a batch of objects, and changes of it by motions of the objects."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from crisp_ros.correction.corrector import Correction
from crisp_ros.correction.correspondences import Correspondences
from crisp_ros.correction.empty_space_refinement import RefinedPoses
from crisp_ros.correction.hypotheses import Hypotheses
from crisp_ros.correction.library_tests import Ambiguity
from crisp_ros.correction.orientation import Orientations
from crisp_ros.correction.surface import SurfacePoints
from crisp_ros.correction.verification import Verification
from crisp_ros.correction.visibility import Images
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
        placed = PlacedObjects(self.correspondences, self.registration, self.correction)
        return placed.hypotheses(self.observations.labels)


class PlacedObjects(NamedTuple):
    """Pose and shape of B objects at a stage of the solver.

    Attributes: as those of `Solution`.
    """

    correspondences: Correspondences
    registration: Registration
    correction: Correction

    def hypotheses(self, labels: Tensor) -> Hypotheses:
        """The same with the measurements; labels (B,) in the label image."""
        correspondences, registration, correction = self
        share = registration.inlier_share
        return Hypotheses(
            correspondences,
            correction.T_object_camera,
            correction.shapes,
            labels,
            registration.T_object_camera.to(correspondences.points.dtype),
            torch.where(registration.converged, share, torch.zeros_like(share)),
        )

    def with_poses(self, found: RefinedPoses) -> PlacedObjects:
        """The same at other poses, which are no symmetries: the coordinates stay."""
        points, _, _, valid = self.correspondences
        T, moved, objective = found
        z = torch.where(valid[..., None], transform(T, points), 0.0)
        correction = self.correction._replace(
            T_object_camera=T,
            pnc=torch.where(moved[:, None, None], z, self.correction.pnc),
            objective=torch.where(moved, objective, self.correction.objective),
        )
        return self._replace(correction=correction)


class KnownShapes(NamedTuple):
    """The shapes of B objects, on the host.

    Attributes:
        index: in the library; -1 where not one of the library.
        placed: whether the registration has found a pose.
    """

    index: list[int]
    placed: list[bool]

    @property
    def outside(self) -> list[int]:
        """The objects whose shapes are not of the library."""
        return [i for i, index in enumerate(self.index) if index < 0]


class Scene(NamedTuple):
    """Constant data while the objects are placed.

    Attributes:
        observations: of B objects.
        images: that they were seen in.
        known: the shapes on the host.
        surfaces: points on the shapes; None where nothing asks for them.
    """

    observations: Observations
    images: Images
    known: KnownShapes
    surfaces: SurfacePoints | None


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

    def apply(self, placed: PlacedObjects) -> PlacedObjects:
        """All as if the network had given coordinates after the motions."""
        (correspondences, registration, correction), rows = placed, self.rows
        T = self.T_object_camera
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
        return PlacedObjects(
            correspondences, registration._replace(T_object_camera=first), correction
        )
