"""Batched solver: observations of a frame's objects to certified poses and shapes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from crisp_ros.correction.certificate import Condition, with_condition
from crisp_ros.correction.corrector import CorrectorSettings
from crisp_ros.correction.correspondences import Correspondences, Shapes
from crisp_ros.correction.hypotheses import Hypotheses
from crisp_ros.correction.length_scale import length_scale, with_scaled_lengths
from crisp_ros.correction.library_tests import Ambiguity, ambiguity_of_certified
from crisp_ros.correction.orientation import Orientations, add_ambiguity
from crisp_ros.correction.prepared_library import PreparedLibrary
from crisp_ros.correction.shape_choice import ShapeChooser, with_shape_mode
from crisp_ros.correction.shape_field import ShapeField
from crisp_ros.correction.surface import SurfacePoints
from crisp_ros.correction.verification import Verification, Verifier
from crisp_ros.correction.visibility import Images
from crisp_ros.geometry.registration import register
from crisp_ros.geometry.scaled_registration import register_with_scale
from crisp_ros.network.cpu_threads import multithreaded
from crisp_ros.network.maps import crop_grid, read_maps
from crisp_ros.network.model import CrispNetwork, NetworkOutput
from crisp_ros.network.precision import in_precision
from crisp_ros.network.shape_prior import ShapePrior
from crisp_ros.observation.observe import Observations, Rejected
from crisp_ros.pipeline.added_shapes import AddedShapeSearch, ExpectedObject
from crisp_ros.pipeline.named_shapes import NamedShapes, NamedShapeSearch
from crisp_ros.pipeline.object_correction import correct_objects
from crisp_ros.pipeline.pose_resolution import PoseResolver
from crisp_ros.pipeline.prior_correction import PriorShapes
from crisp_ros.pipeline.settings import EstimatorSettings
from crisp_ros.pipeline.solution import KnownShapes, PlacedObjects, Scene, Solution
from crisp_ros.pipeline.stage_clock import StageClock


class _Verdict(NamedTuple):
    """Placed objects, which of the orientations that look alike they have, and the verdict."""

    placed: PlacedObjects
    orientations: Orientations | None
    verification: Verification

    @property
    def certified(self) -> Tensor:
        """Mask of the certified objects, (B,) bool."""
        return self.verification.certificate.certified

    def with_found(self, rows: Sequence[int]) -> _Verdict:
        """The verdict where some objects were found by depth alone."""
        if self.orientations is None:
            return self
        return self._replace(orientations=self.orientations.with_print_needed(rows))

    def under(self, condition: Condition) -> _Verdict:
        """The verdict under one more condition of the certificate."""
        certificate = with_condition(self.verification.certificate, condition)
        return self._replace(verification=self.verification._replace(certificate=certificate))


class Solver:
    """Solves for pose and shape of observed objects, all of a batch at once.

    Attributes:
        settings: may be replaced between frames.
        prior_shapes: of the model's prior; None where it has none.
    """

    def __init__(
        self,
        network: CrispNetwork,
        field: ShapeField,
        library: PreparedLibrary | None,
        settings: EstimatorSettings,
        device: torch.device,
        prior: ShapePrior | None = None,
    ) -> None:
        """Take a network and its library into use.

        Args:
            network: in evaluation mode.
            field: f_d.
            library: the known shapes; None where the corrector keeps the network's.
            settings: see `EstimatorSettings`.
            device: where all of these are.
            prior: over shapes, or None where the model has none.
        """
        self.settings = settings
        self.prior_shapes = None if prior is None else PriorShapes(field, prior)
        self._network, self._field, self._library = network, field, library
        self._trained = library and library.trained
        self._device = device
        self._lengths = 1.0 if library is None else length_scale(library.diameters)

    @property
    def _corrector(self) -> CorrectorSettings | None:
        """The settings of the corrector in the shape mode."""
        corrector = with_scaled_lengths(self.settings.corrector, self._lengths)
        return corrector and with_shape_mode(corrector, self.settings.shape_mode)

    @property
    def _returns_library_shapes(self) -> bool:
        corrector = self._corrector
        return bool(self._library and corrector and corrector.returns_library_shapes)

    @property
    def _shape_field(self) -> ShapeField:
        """The field; that for library shapes alone where the corrector returns no others."""
        return self._field.for_library() if self._returns_library_shapes else self._field

    def infer(self, crops: Tensor) -> NetworkOutput:
        """The network's answer to crops (B, C, S, S), as float32."""
        with multithreaded(), in_precision(self.settings.precision, self._device):
            output = self._network(crops)
        return NetworkOutput(output.pnc.float(), output.code.float())

    def prepare(self, on_shape: Callable[[int, int], None]) -> None:
        """Find what is found once for the library, about 0.1 s a shape.

        Only what the settings use is found, and nothing where no estimate has a library shape.

        Args:
            on_shape: called after every shape with the number done and that of all.
        """
        corrector, printed = self._corrector, self.settings.orientation is not None
        if self._library is None or corrector is None or corrector.shape == "none":
            return
        if printed or self.settings.symmetry_search is not None:
            self._library.prepare(on_shape, printed)

    def coordinates(self, maps: Tensor, observations: Observations) -> Tensor:
        """The points' coordinates (B, N, 3) in the object frame, metres, from PNC maps."""
        return read_maps(maps, crop_grid(observations.pixels, observations.boxes))

    def solution(
        self,
        observations: Observations,
        images: Images,
        clock: StageClock,
        T_fixed_camera: Tensor | None = None,
        expected: Sequence[ExpectedObject] = (),
    ) -> tuple[Solution | None, list[Rejected]]:
        """The solution of a batch, and the objects for which the network's output is not finite.

        Args:
            observations: of B objects.
            images: of their frame, on the solver's device.
            clock: of the stages.
            T_fixed_camera: (4, 4) camera in a frame in which objects rest; None for a lone image.
            expected: objects of the frame before, if they are known.

        Returns:
            The solution, None where no object is left for it; and those left out.
        """
        with clock.stage("network"):
            observations, output, pnc, rejected = self._infer_finite(observations)
        if len(output.code) == 0:
            return None, rejected
        with clock.stage("registration"):
            output, found = self._register(observations, output, pnc)
        with clock.stage("correction"):
            placed = self._place(observations, images, output.code, found, T_fixed_camera)
            if self._known is not self._library:
                seen = observations.labels, output.code, images, expected
                placed = self._added_shapes.apply(placed, *seen)
            scene = self._scene(observations, images, placed)
            placed = self._resolved(scene, placed)
        verdict = self._verdict(scene, placed, clock)
        with clock.stage("correction"):
            seen = observations.labels, output.code, images, verdict.certified, expected
            named = self._named_shapes and self._named_shapes.apply(verdict.placed, *seen)
            if named and named.found:
                scene = self._scene(observations, images, named.placed)
        if named:
            verdict = self._after_search(named, scene, verdict, clock)
        placed, orientations, verification = verdict
        hypotheses = placed.hypotheses(observations.labels)
        with clock.stage("certificate"):
            ambiguity = self._find_ambiguity(hypotheses, verification.certificate.certified)
        if self.takes_prior:
            self.prior_shapes.record(verification.certificate.certified, T_fixed_camera)
        with clock.stage("covariance"):
            covariance = self._covariance(scene, hypotheses, orientations)
        solution = Solution(
            observations=observations,
            maps=output.pnc,
            codes=output.code,
            verification=verification,
            orientations=orientations,
            ambiguity=ambiguity,
            covariance=covariance,
            **placed._asdict(),
        )
        return solution, rejected

    def _verifier(self, scene: Scene) -> Verifier:
        # Shapes from other sources than the library have no tables.
        field = self._field if scene.known.outside else self._shape_field
        return Verifier(field, self._library, self.settings.verification)

    def _resolved(self, scene: Scene, placed: PlacedObjects) -> PlacedObjects:
        """All at the poses that the depth image supports."""
        placed = self._poses.resolve_symmetries(scene, placed)
        return placed if self.takes_prior else self._poses.refine_against_empty_space(scene, placed)

    def _verdict(self, scene: Scene, placed: PlacedObjects, clock: StageClock) -> _Verdict:
        """The verdict on placed objects, at the orientations that the print shows."""
        with clock.stage("correction"):
            orientations, placed = self._poses.resolve_orientations(scene, placed)
        with clock.stage("certificate"):
            hypotheses = placed.hypotheses(scene.observations.labels)
            more, known = (), None
            if self.takes_prior:
                more, known = self.prior_shapes.conditions, self.prior_shapes.awaited
            verification = self._verifier(scene).verify(
                hypotheses, scene.images, known, scene.surfaces, more
            )
        return _Verdict(placed, orientations, verification)

    def _after_search(
        self, named: NamedShapes, scene: Scene, verdict: _Verdict, clock: StageClock
    ) -> _Verdict:
        """The verdict with what the search for named shapes has changed."""
        if named.found:
            verdict = self._verdict(scene, named.placed, clock).with_found(named.found)
        return verdict if named.decided is None else verdict.under(named.decided)

    def _covariance(
        self, scene: Scene, hypotheses: Hypotheses, orientations: Orientations | None
    ) -> Tensor | None:
        covariance = self._verifier(scene).covariance(hypotheses)
        if covariance is None or orientations is None:
            return covariance
        return add_ambiguity(covariance, hypotheses.T_object_camera, orientations.alternatives)

    def _place(
        self,
        observations: Observations,
        images: Images,
        codes: Tensor,
        found: PlacedObjects,
        T_fixed_camera: Tensor | None,
    ) -> PlacedObjects:
        """Shapes and poses of the objects, from the source that the settings name."""
        correspondences, registration, _ = found
        if self.takes_prior:
            what = correspondences, observations.labels, images, self.settings.prior_shapes
            guesses = None
            if self._network.predicts_coordinates:
                guesses = self.prior_shapes.guesses(codes, registration)
            correction = self.prior_shapes.correct(*what, T_fixed_camera, guesses)
            return found._replace(correction=correction)
        shapes, settings = Shapes.of_codes(codes), self._corrector
        correction = correct_objects(
            self._shape_field, correspondences, shapes, registration, self._known, settings
        )
        return self._choose_shapes(
            observations, images, codes, found._replace(correction=correction)
        )

    def _infer_finite(
        self, observations: Observations
    ) -> tuple[Observations, NetworkOutput, Tensor, list[Rejected]]:
        """The objects with a finite answer, that answer, the points' coordinates, and the rest."""
        observations = observations.to(self._device)
        output = self.infer(observations.crops)
        pnc = self.coordinates(output.pnc, observations)
        usable = torch.isfinite(output.code).all(-1) & (
            torch.isfinite(pnc).all(-1) | ~observations.valid
        ).all(-1)
        if bool(usable.all()):
            return observations._replace(rejected=()), output, pnc, []
        rejected = [
            Rejected(label, "the network's output is not finite")
            for label in observations.labels[~usable].tolist()
        ]
        rows = usable.nonzero().squeeze(-1)
        output = NetworkOutput(output.pnc[rows], output.code[rows])
        return observations.rows(rows), output, pnc[rows], rejected

    def _register(
        self, observations: Observations, output: NetworkOutput, pnc: Tensor
    ) -> tuple[NetworkOutput, PlacedObjects]:
        """The output in metres, and the first poses, before any correction."""
        points, valid, settings = observations.points, observations.valid, self.settings
        if self._network.has_normalised_shapes:
            registration, size = register_with_scale(points, pnc, valid, settings.registration)
            output, pnc = self._network.in_metres(output, size), pnc * size[:, None, None]
        else:
            registration = register(points, pnc, valid, settings.registration)
        weights = registration.inliers.to(points.dtype)
        correspondences = Correspondences(points, pnc, weights, valid)
        return output, PlacedObjects(correspondences, registration, None)

    @property
    def takes_prior(self) -> bool:
        """Whether shapes come from the prior."""
        mode = self.settings.shape_mode
        wanted = mode == "prior" or (mode == "auto" and self._library is None)
        return wanted and self.prior_shapes is not None and self._corrector is not None

    def _choose_shapes(
        self, observations: Observations, images: Images, codes: Tensor, placed: PlacedObjects
    ) -> PlacedObjects:
        """All with shapes from other sources than the library, where they are better."""
        if self.settings.shape_mode != "auto" or not self._returns_library_shapes:
            return placed
        chooser, hypotheses = self._chooser(self._known), placed.hypotheses(observations.labels)
        chosen = chooser.choose(hypotheses, codes, images, placed.correction)
        return placed._replace(correction=chosen)

    def _chooser(self, library: PreparedLibrary) -> ShapeChooser:
        choice = with_scaled_lengths(self.settings.shape_choice, self._lengths)
        return ShapeChooser(self._field, library, self._corrector, choice)

    @property
    def _known(self) -> PreparedLibrary | None:
        """The shapes that are tried from the network's coordinates; others are searched for."""
        searched = self._returns_library_shapes and self.settings.shape_mode in ("library", "auto")
        return self._trained if searched else self._library

    @property
    def _added_shapes(self) -> AddedShapeSearch:
        """The search for shapes that were added to the library after the training."""
        field, library = self._field, self._library
        verifier = Verifier(field, library, self.settings.verification)
        search = with_scaled_lengths(self.settings.added_shapes, self._lengths)
        return AddedShapeSearch(field, self._trained, verifier, self._chooser(library), search)

    @property
    def _named_shapes(self) -> NamedShapeSearch | None:
        """The search for the shapes that the network names; None where there is none."""
        settings = self.settings.named_shapes
        mode_has_library = self.settings.shape_mode in ("library", "auto")
        if settings is None or not mode_has_library or not self._returns_library_shapes:
            return None
        verifier = Verifier(self._field, self._library, self.settings.verification)
        search = with_scaled_lengths(settings, self._lengths)
        empty_space = with_scaled_lengths(self.settings.empty_space, self._lengths)
        chooser = self._chooser(self._library)
        return NamedShapeSearch(self._field, self._known, chooser, verifier, search, empty_space)

    @property
    def _poses(self) -> PoseResolver:
        return PoseResolver(
            self._field,
            self._shape_field,
            self._library,
            self.settings,
            self._lengths,
            self._device,
        )

    def _scene(self, observations: Observations, images: Images, placed: PlacedObjects) -> Scene:
        """The scene of the placed objects, after one transfer of their shapes to the host."""
        shapes, converged = placed.correction.shapes, placed.registration.converged
        index, has_pose = torch.stack((shapes.index, converged.long())).tolist()
        known = KnownShapes(index, [bool(flag) for flag in has_pose])
        return Scene(observations, images, known, self._surfaces(shapes, known))

    def _surfaces(self, shapes: Shapes, known: KnownShapes) -> SurfacePoints | None:
        """Points on the shapes; None where there is no library, or nothing asks for them."""
        settings = self.settings
        if self.takes_prior:
            return None if settings.visibility is None else self.prior_shapes.surfaces(shapes)
        asked = (
            settings.visibility,
            settings.orientation,
            settings.symmetry_search,
            settings.empty_space,
        )
        if self._library is None or all(part is None for part in asked):
            return None
        return self._library.surfaces_of(shapes, known.outside)

    def _find_ambiguity(self, hypotheses: Hypotheses, certified: Tensor) -> Ambiguity | None:
        settings, library = self.settings, self._library
        if settings.ambiguity is None or library is None:
            return None
        return ambiguity_of_certified(
            self._field, hypotheses, certified, library, settings.certificate, settings.ambiguity
        )
