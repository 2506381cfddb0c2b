"""From the observations of a frame's objects to certified poses and shapes, a batch at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from crisp_ros.correction.certificate import Certificate, Condition, certify, withheld
from crisp_ros.correction.corrector import Correction, correct
from crisp_ros.correction.covariance import pose_covariance
from crisp_ros.correction.library_tests import Alternatives, Fitted, alternatives, known_shapes
from crisp_ros.correction.near_symmetries import near_symmetries
from crisp_ros.correction.surface import SurfacePoints, library_surfaces, surface_points
from crisp_ros.correction.symmetry_search import Posed, best_turns
from crisp_ros.correction.visibility import Images, images_of, visibility_conditions
from crisp_ros.geometry.registration import Registration, register
from crisp_ros.geometry.se3 import transform
from crisp_ros.network.library import ShapeLibrary
from crisp_ros.network.maps import crop_grid, read_maps
from crisp_ros.network.model import CrispNetwork, NetworkOutput
from crisp_ros.observation.frame import Frame
from crisp_ros.observation.observe import Observations, Rejected
from crisp_ros.pipeline.settings import EstimatorSettings
from crisp_ros.pipeline.stage_clock import StageClock

_BOX_POINTS = 192  # on a surface whose box is looked for; the mesher's margin covers what they miss


class Solution(NamedTuple):
    """Everything that was computed on the way for B objects, on the solver's device.

    observations: labels, crops, points and pixels of these objects. maps: PNC maps (B, 3, S', S')
    metres. pnc: (B, N, 3) read from them at the points' pixels, and registration: the first poses;
    both turned where the depth image shows the object turned. codes: (B, C) of the network.
    correction: corrected poses, codes and pnc. lower, upper: (B, 3) corners of the shapes' boxes.
    certificate: the verdict. unknown: (B,) bool, no library shape explains them. alternatives: of
    the certified ones, else not degenerate and NaN; covariance: (B, 6, 6) of the poses; both None
    where they were not asked for.
    """

    observations: Observations
    maps: Tensor
    pnc: Tensor
    codes: Tensor
    registration: Registration
    correction: Correction
    lower: Tensor
    upper: Tensor
    certificate: Certificate
    unknown: Tensor
    alternatives: Alternatives | None
    covariance: Tensor | None


class _Shapes(NamedTuple):
    """Boxes (B, 3) lower and upper, metres; library_index (B,), -1 where the code is not in it."""

    lower: Tensor
    upper: Tensor
    library_index: Tensor


class Solver:
    """Solves for pose and shape of observed objects, all of a batch at once.

    Attributes:
        settings: may be replaced between frames.
    """

    def __init__(
        self,
        network: CrispNetwork,
        library: ShapeLibrary | None,
        settings: EstimatorSettings,
        device: torch.device,
    ) -> None:
        """Takes a network and its library into use.

        Args:
            network: in evaluation mode.
            library: the known shapes; None where the corrector keeps the network's.
            settings: see `EstimatorSettings`.
            device: where network and library are.
        """
        self.settings = settings
        self._network, self._decoder, self._library = network, network.decoder, library
        self._device = device
        self._library_surfaces: SurfacePoints | None = None
        self._near_symmetries = {-1: torch.zeros(0, 4, 4, device=device)}

    def answer(self, crops: Tensor) -> NetworkOutput:
        """What the network says about crops (B, 3, S, S), in single precision."""
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self.settings.bfloat16):
            output = self._network(crops)
        return NetworkOutput(output.pnc.float(), output.code.float())

    def prepare(self) -> None:
        """Finds what is found once for the library, about 0.06 s a shape."""
        if self._library is not None and self._turns_are_tried():
            for index in range(len(self._library)):
                self._near_symmetries_of(index)

    def coordinates(self, maps: Tensor, observations: Observations) -> Tensor:
        """The points' coordinates (B, N, 3) in the object frame, metres, from PNC maps."""
        return read_maps(maps, crop_grid(observations.pixels, observations.boxes))

    def solution(
        self, observations: Observations, frame: Frame, clock: StageClock
    ) -> tuple[Solution | None, list[Rejected]]:
        """The solution of a batch, and the objects for which the network's output is not finite.

        Args:
            observations: of B objects.
            frame: that they are of.
            clock: of the stages.

        Returns:
            The solution, None where no object is left for it; and those left out.
        """
        with clock.stage("network"):
            observations = observations.to(self._device)
            output = self.answer(observations.crops)
            pnc = self.coordinates(output.pnc, observations)
            usable = torch.isfinite(output.code).all(-1) & (
                torch.isfinite(pnc).all(-1) | ~observations.valid
            ).all(-1)
            rejected = [
                Rejected(label, "the network's output is not finite")
                for label in observations.labels[~usable].tolist()
            ]
            observations = observations.rows(usable)
            maps, pnc, codes = output.pnc[usable], pnc[usable], output.code[usable]
        if len(codes) == 0:
            return None, rejected
        points, valid = observations.points, observations.valid
        images = images_of(frame, self._device)
        with clock.stage("registration"):
            registration = register(points, pnc, valid, self.settings.registration)
        with clock.stage("correction"):
            correction = self._corrected(points, pnc, valid, codes, registration)
            shapes = self._shapes(correction.codes, correction.pnc, valid)
            pnc, registration, correction = self._turned(
                observations, images, pnc, registration, correction, shapes
            )
        with clock.stage("certificate"):
            certificate = self._certificate(observations, images, correction, shapes)
            fitted = Fitted(
                points=points,
                pnc=pnc,
                weights=registration.inliers.to(points.dtype),
                valid=valid,
                start=registration.T_object_camera.to(points.dtype),
                T_object_camera=correction.T_object_camera,
                codes=correction.codes,
            )
            certificate, unknown = self._known(certificate, fitted, registration)
            others = self._alternatives(certificate, fitted, shapes)
        with clock.stage("covariance"):
            covariance = self._covariance(points, pnc, valid, registration, correction)
        solution = Solution(
            observations=observations,
            maps=maps,
            pnc=pnc,
            codes=codes,
            registration=registration,
            correction=correction,
            lower=shapes.lower,
            upper=shapes.upper,
            certificate=certificate,
            unknown=unknown,
            alternatives=others,
            covariance=covariance,
        )
        return solution, rejected

    def _corrected(
        self,
        points: Tensor,
        pnc: Tensor,
        valid: Tensor,
        codes: Tensor,
        registration: Registration,
    ) -> Correction:
        if self.settings.corrector is None:
            T = registration.T_object_camera
            not_known = points.new_full((len(points),), torch.nan)
            return Correction(
                T_object_camera=T,
                codes=codes,
                pnc=torch.where(valid[..., None], transform(T, points), 0.0),
                objective=not_known,
                iterations=torch.zeros_like(not_known, dtype=torch.long),
            )
        return correct(
            self._decoder,
            points,
            pnc,
            valid,
            codes,
            self._library,
            self.settings.corrector,
            registration,
        )

    def _turned(
        self,
        observations: Observations,
        images: Images,
        pnc: Tensor,
        registration: Registration,
        correction: Correction,
        shapes: _Shapes,
    ) -> tuple[Tensor, Registration, Correction]:
        """All as if the network had said which way the objects are turned, see `best_turns`."""
        if self._library is None or not self._turns_are_tried():
            return pnc, registration, correction
        index = shapes.library_index.masked_fill(~registration.converged, -1).tolist()
        turns = [self._near_symmetries_of(i) for i in index]
        rows = torch.tensor([i for i, part in enumerate(turns) if len(part) > 0], dtype=torch.long)
        if len(rows) == 0:
            return pnc, registration, correction
        rows = rows.to(self._device)
        surfaces = self._surfaces_of_library()
        found = best_turns(
            self._decoder,
            Posed(
                points=observations.points[rows],
                valid=observations.valid[rows],
                codes=correction.codes[rows],
                T_object_camera=correction.T_object_camera[rows],
                surfaces=SurfacePoints(*(part[shapes.library_index[rows]] for part in surfaces)),
                labels=observations.labels[rows],
            ),
            [part for part in turns if len(part) > 0],
            images,
            self.settings.turns,
        )
        rows = rows[found.rows]
        first = registration.T_object_camera
        z = transform(found.T_object_camera, observations.points[rows])
        z = torch.where(observations.valid[rows][..., None], z, 0.0)
        corrected = correction._replace(
            T_object_camera=correction.T_object_camera.index_copy(0, rows, found.T_object_camera),
            pnc=correction.pnc.index_copy(0, rows, z),
            objective=correction.objective.index_copy(0, rows, found.objective),
        )
        turned = first.index_copy(0, rows, found.turns.to(first) @ first[rows])
        pnc = pnc.index_copy(0, rows, transform(found.turns, pnc[rows]))
        return pnc, registration._replace(T_object_camera=turned), corrected

    def _turns_are_tried(self) -> bool:
        return self.settings.turns is not None and self.settings.corrector is not None

    def _near_symmetries_of(self, index: int) -> Tensor:
        """Of a library shape, found when first asked for; -1, for another shape, has none."""
        if index not in self._near_symmetries:
            self._near_symmetries[index] = near_symmetries(
                self._decoder, self._library, self._surfaces_of_library(), index
            )
        return self._near_symmetries[index]

    def _shapes(self, codes: Tensor, pnc: Tensor, valid: Tensor) -> _Shapes:
        """Where the shapes come from, and their boxes: the library's own, or those found."""
        nearest = torch.full((len(codes),), -1, device=codes.device)
        if self._library is not None:
            distance, nearest = torch.cdist(codes, self._library.codes).min(dim=-1)
            lower, upper = self._library.lower[nearest], self._library.upper[nearest]
            unknown = distance > 1e-6 * (1 + codes.norm(dim=-1))
            nearest = nearest.masked_fill(unknown, -1)
            if not unknown.any():
                return _Shapes(lower, upper, nearest)
            room = 0.25 * (upper - lower).amax(-1, keepdim=True)
            searched = lower - room, upper + room
        else:
            # The hidden part reaches about as far from the origin as the visible one.
            reach = torch.where(valid[..., None], pnc, 0.0).abs().amax((1, 2))[:, None]
            reach = (1.5 * reach).clamp_min(0.01).expand(-1, 3)
            lower, upper = searched = -reach, reach
        found = surface_points(self._decoder, codes, *searched, count=_BOX_POINTS)
        low = torch.where(found.valid[..., None], found.points, torch.inf).amin(1)
        high = torch.where(found.valid[..., None], found.points, -torch.inf).amax(1)
        taken = ((nearest < 0) & (low < high).all(-1))[:, None]
        return _Shapes(torch.where(taken, low, lower), torch.where(taken, high, upper), nearest)

    def _surfaces(self, codes: Tensor, shapes: _Shapes) -> SurfacePoints:
        """Points on the estimated shapes; those of the library are made once."""
        decoder = self._decoder
        if self._library is None or (shapes.library_index < 0).any():
            return surface_points(decoder, codes, shapes.lower, shapes.upper)
        points, valid = self._surfaces_of_library()
        return SurfacePoints(points[shapes.library_index], valid[shapes.library_index])

    def _surfaces_of_library(self) -> SurfacePoints:
        if self._library_surfaces is None:
            self._library_surfaces = library_surfaces(self._decoder, self._library)
        return self._library_surfaces

    def _certificate(
        self, observations: Observations, images: Images, correction: Correction, shapes: _Shapes
    ) -> Certificate:
        conditions: Sequence[Condition] = ()
        if self.settings.visibility is not None:
            conditions = visibility_conditions(
                self._surfaces(correction.codes, shapes),
                correction.T_object_camera,
                observations.labels,
                images,
                self.settings.visibility,
            )
        return certify(
            self._decoder,
            observations.points,
            observations.valid,
            correction.T_object_camera,
            correction.codes,
            self.settings.certificate,
            torch.linalg.norm(shapes.upper - shapes.lower, dim=-1),
            conditions,
        )

    def _known(
        self, certificate: Certificate, fitted: Fitted, registration: Registration
    ) -> tuple[Certificate, Tensor]:
        """The certificate that names unknown objects, and which these are.

        Without a pose to start from, or with too few points, no shape would fit: nothing is said.
        """
        settings = self.settings.known_shapes
        if settings is None or self._library is None:
            return certificate, torch.zeros_like(certificate.certified)
        tested = registration.converged & (registration.inlier_share >= settings.inlier_share)
        tested &= fitted.valid.sum(-1) >= self.settings.certificate.minimum_points
        known = known_shapes(
            self._decoder, fitted, tested, self._library, certificate.threshold, settings
        )
        return withheld(certificate, known), ~known.held

    def _alternatives(
        self, certificate: Certificate, fitted: Fitted, shapes: _Shapes
    ) -> Alternatives | None:
        settings = self.settings.alternatives
        if settings is None or self._library is None:
            return None
        rows = certificate.certified.nonzero().squeeze(-1)
        degenerate = torch.zeros_like(certificate.certified)
        eigenvalue = torch.full_like(certificate.residual, torch.nan)
        if len(rows) > 0:
            surfaces = self._surfaces(fitted.codes, shapes)
            found = alternatives(
                self._decoder,
                fitted.rows(rows),
                SurfacePoints(surfaces.points[rows], surfaces.valid[rows]),
                self._library,
                self._surfaces_of_library(),
                self.settings.certificate.quantile,
                self.settings.certificate.threshold_m,
                settings,
            )
            degenerate[rows], eigenvalue[rows] = found.degenerate, found.tangent_eigenvalue
        return Alternatives(degenerate, eigenvalue)

    def _covariance(
        self,
        points: Tensor,
        pnc: Tensor,
        valid: Tensor,
        registration: Registration,
        correction: Correction,
    ) -> Tensor | None:
        if self.settings.covariance is None:
            return None
        return pose_covariance(
            self._decoder,
            points,
            pnc,
            registration.inliers.to(points.dtype),
            valid,
            correction.codes,
            correction.T_object_camera,
            self.settings.covariance,
        )
