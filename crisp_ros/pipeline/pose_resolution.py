"""Resolution of poses: among near symmetries, against empty space, and by the print of shapes."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from crisp_ros.correction.appearance import CropView
from crisp_ros.correction.empty_space_refinement import refine_against_empty_space
from crisp_ros.correction.hypotheses import Hypotheses
from crisp_ros.correction.length_scale import with_scaled_lengths
from crisp_ros.correction.orientation import Orientations, resolve_orientations
from crisp_ros.correction.pose_lm import PoseLmSettings, refine_pose
from crisp_ros.correction.prepared_library import PreparedLibrary
from crisp_ros.correction.residuals import ANY_FALL
from crisp_ros.correction.shape_field import ShapeField
from crisp_ros.correction.symmetry_motions import without_twist
from crisp_ros.correction.symmetry_search import (
    Rivals,
    resolve_near_symmetries,
    rivals_by_object,
)
from crisp_ros.geometry.se3 import transform
from crisp_ros.pipeline.settings import EstimatorSettings
from crisp_ros.pipeline.solution import MovedObjects, PlacedObjects, Scene

_AFTER_ROTATION = PoseLmSettings(ray_offsets_m=(), move=ANY_FALL)


@dataclass(frozen=True)
class PoseResolver:
    """Decides between poses that the depth points alone cannot tell apart.

    Attributes:
        field: f_d.
        library_field: f_d for library shapes.
        library: the known shapes; without them nothing is decided.
        settings: see `EstimatorSettings`.
        lengths: factor of the lengths in the settings.
        device: where all of these are.
    """

    field: ShapeField
    library_field: ShapeField
    library: PreparedLibrary | None
    settings: EstimatorSettings
    lengths: float
    device: torch.device

    @property
    def _resolves_symmetries(self) -> bool:
        return self.settings.symmetry_search is not None and self.settings.corrector is not None

    def resolve_symmetries(self, scene: Scene, placed: PlacedObjects) -> PlacedObjects:
        """All as if the network had given the near symmetry of each pose that the depth supports.

        See `resolve_near_symmetries`.
        """
        if self.library is None or not self._resolves_symmetries:
            return placed
        near = {
            i: self.library.near_symmetries(index)
            for i, (index, has_pose) in enumerate(zip(*scene.known, strict=True))
            if index >= 0 and has_pose
        }
        candidates = [i for i, motions in near.items() if len(motions) > 0]
        if not candidates:
            return placed
        rows = torch.tensor(candidates, device=self.device)
        found = resolve_near_symmetries(
            self.library_field,
            placed.hypotheses(scene.observations.labels).rows(rows),
            scene.surfaces.rows(rows),
            [near[i] for i in candidates],
            scene.images,
            with_scaled_lengths(self.settings.symmetry_search, self.lengths),
        )
        if len(found.rows) == 0:
            return placed
        return MovedObjects(rows[found.rows], *found[1:]).apply(placed)

    def refine_against_empty_space(self, scene: Scene, placed: PlacedObjects) -> PlacedObjects:
        """All with poses that are out of space seen to be empty, where depth allows that.

        See `refine_against_empty_space`.
        """
        settings = self.settings
        off = settings.empty_space is None or settings.corrector is None
        if off or scene.surfaces is None:
            return placed
        field = self.field if scene.known.outside else self.library_field
        hypotheses = placed.hypotheses(scene.observations.labels)
        scaled = with_scaled_lengths(settings.empty_space, self.lengths)
        found = refine_against_empty_space(field, hypotheses, scene.surfaces, scene.images, scaled)
        return placed.with_poses(found)

    def resolve_orientations(
        self, scene: Scene, placed: PlacedObjects
    ) -> tuple[Orientations | None, PlacedObjects]:
        """All as if the network had given the orientations that the print shows.

        See `resolve_orientations`.
        """
        settings = self.settings.orientation
        if self.library is None or settings is None:
            return None, placed
        observations, images, known, _ = scene
        hypotheses = placed.hypotheses(observations.labels)
        parts = observations.crops[:, :3], observations.boxes, observations.labels
        found = resolve_orientations(
            self.library,
            hypotheses,
            [CropView(*part) for part in zip(*parts, strict=True)],
            images,
            self._rivals(scene, hypotheses),
            settings,
            known.index,
        )
        if not found.moved:
            return found, placed
        rows = torch.tensor(found.moved, device=self.device)
        motions = found.motions[rows]
        some = placed.correspondences.rows(rows)
        some = some._replace(pnc=transform(motions, some.pnc))
        start = motions @ placed.correction.T_object_camera[rows]
        shapes = placed.correction.shapes.rows(rows)
        step = refine_pose(self.library_field, some, shapes, start, _AFTER_ROTATION)
        symmetries = [self.library.orientations(known.index[i]) for i in found.moved]
        T_object_camera = without_twist(step.T_object_camera, start, symmetries)
        moved = MovedObjects(rows, motions, T_object_camera, step.objective)
        return found, moved.apply(placed)

    def _rivals(self, scene: Scene, hypotheses: Hypotheses) -> list[Rivals]:
        """The near symmetries of each object that the depth image does not contradict."""
        near = {
            i: self.library.near_symmetries(index)
            for i, index in enumerate(scene.known.index)
            if index >= 0
        }
        what = self.library_field, hypotheses, scene.surfaces, near, scene.images
        settings = with_scaled_lengths(self.settings.symmetry_search, self.lengths)
        return rivals_by_object(*what, settings)
