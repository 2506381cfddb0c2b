"""The road from a camera frame to certified object poses and shapes."""

from __future__ import annotations

import dataclasses
import logging
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import roma
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from crisp_ros.correction.certificate import (
    Certificate,
    CertificateSettings,
    Condition,
    certify,
    withheld,
)
from crisp_ros.correction.corrector import Correction, CorrectorSettings, correct
from crisp_ros.correction.covariance import CovarianceSettings, pose_covariance
from crisp_ros.correction.library_check import (
    Alternatives,
    Fitted,
    LibraryCheckSettings,
    alternatives,
    known_shapes,
)
from crisp_ros.correction.surface import SurfacePoints, library_surfaces, surface_points
from crisp_ros.correction.visibility import VisibilitySettings, visibility_conditions
from crisp_ros.geometry.isosurface import (
    IsosurfaceSettings,
    SignedDistanceFunction,
    TriangleMesh,
    extract_meshes,
)
from crisp_ros.geometry.registration import Registration, RegistrationSettings, register
from crisp_ros.geometry.se3 import from_rotation_translation, invert, transform
from crisp_ros.network.checkpoint import Model
from crisp_ros.network.decoder import ShapeDecoder
from crisp_ros.network.library import ShapeLibrary
from crisp_ros.network.model import NetworkOutput
from crisp_ros.observation.frame import Frame
from crisp_ros.observation.objects import Observations, ObservationSettings, Rejected, observe

STAGES = ("observe", "network", "registration", "correction", "certificate", "covariance", "answer")

_BOX_POINTS = 192  # on a surface whose box is looked for; the mesher's margin covers what they miss

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EstimatorSettings:
    """Settings of the `Estimator`, one part a stage.

    Attributes:
        observation, registration, corrector, certificate, isosurface: of the stages.
        corrector: None leaves the network's answer as it is. Where a model has no shape library
            the corrector keeps the network's shapes.
        visibility: the certificate also demands that the shape stays out of space seen to be empty;
            None leaves that out, as the paper does.
        known_shapes: an object that no library shape explains is named as unknown; None leaves that
            out.
        alternatives: every certified object is compared with all library shapes: is it degenerate?
            This takes a multiple of all the rest; trackers do it now and then, from all views.
        covariance: of the poses; None leaves them unknown.
        network_batch: crops in one pass of the network.
        bfloat16: the network's convolutions run in bfloat16, nearly twice as fast on a CPU or GPU
            that has it and slower on one that has not.
        cached_meshes: most meshes that are kept.
    """

    observation: ObservationSettings = field(default_factory=ObservationSettings)
    registration: RegistrationSettings = field(default_factory=RegistrationSettings)
    corrector: CorrectorSettings | None = field(default_factory=CorrectorSettings)
    certificate: CertificateSettings = field(default_factory=CertificateSettings)
    visibility: VisibilitySettings | None = field(default_factory=VisibilitySettings)
    known_shapes: LibraryCheckSettings | None = field(default_factory=LibraryCheckSettings)
    alternatives: LibraryCheckSettings | None = None
    covariance: CovarianceSettings | None = field(default_factory=CovarianceSettings)
    isosurface: IsosurfaceSettings = field(default_factory=IsosurfaceSettings)
    network_batch: int = 16
    bfloat16: bool = False
    cached_meshes: int = 64

    def __post_init__(self) -> None:
        if self.network_batch < 1 or self.cached_meshes < 1:
            raise ValueError(
                f"network_batch {self.network_batch}, cached_meshes {self.cached_meshes}: "
                "expected at least 1"
            )


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
        unknown: no library shape explains the depth points; `reason` says so.
        degenerate: a library shape that differs from this one by more than eps would be certified
            as well.
        smallest_eigenvalue: how well the points fix the shape (`Degeneracy.tangent_eigenvalue`);
            NaN where this and `degenerate` were not computed.
        size_ratio: of distances between depth points to those between their network coordinates,
            the median; far from 1 for all objects, it tells of a wrong unit of depth. NaN if
            unknown.
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
    unknown: bool = False
    degenerate: bool = False
    smallest_eigenvalue: float = math.nan


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


class Solution(NamedTuple):
    """Everything that was computed on the way for B objects, on the estimator's device.

    observations: labels, crops, points and pixels of these objects. maps: PNC maps (B, 3, S', S')
    metres. pnc: (B, N, 3) read from them at the points' pixels. codes: (B, C) of the network.
    registration: the first poses. correction: corrected poses, codes and pnc. lower, upper: (B, 3)
    corners of the shapes' boxes. certificate: the verdict. unknown: (B,) bool, no library shape
    explains them. alternatives: of the certified ones, else not degenerate and NaN; covariance: (B,
    6, 6) of the poses; both None where they were not asked for.
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


class Trace(NamedTuple):
    """An estimate together with what led to it; `solutions` holds each estimated object once."""

    estimate: FrameEstimate
    solutions: tuple[Solution, ...]


class Estimator:
    """Estimates pose and shape of every labelled object of a frame, all objects at once."""

    def __init__(
        self,
        model: Model,
        settings: EstimatorSettings | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        """Takes a model into use.

        Args:
            model: its network and library are moved to `device`.
            settings: see `EstimatorSettings`.
            device: where everything but the observation runs.
        """
        settings = settings or EstimatorSettings()
        if model.library is None and settings.corrector is not None:
            kept = dataclasses.replace(settings.corrector, shape="none")
            settings = dataclasses.replace(settings, corrector=kept)
        self.settings = settings
        self.device = torch.device(device)
        self._network = model.network.to(self.device).eval()
        self._library = model.library.to(self.device) if model.library is not None else None
        self._library_surfaces: SurfacePoints | None = None
        self.model = model
        self.model_version = model_version(model)
        self._adopted: tuple[Mapping[str, Tensor], str] | None = None
        self._meshes: OrderedDict[tuple[bytes, float], TriangleMesh] = OrderedDict()
        self._mesh_lock = threading.Lock()

    def __reduce__(self) -> tuple[object, ...]:
        """Pickles as what it was made of, for another process to estimate with."""
        return type(self), (self.model, self.settings, self.device)

    @property
    def decoder(self) -> ShapeDecoder:
        """The model's shape decoder, on the estimator's device."""
        return self._network.decoder

    @property
    def library(self) -> ShapeLibrary | None:
        """The model's known shapes, on the estimator's device; None where it has none."""
        return self._library

    def estimate(self, frame: Frame) -> FrameEstimate:
        """Pose and shape of every labelled object.

        An object that cannot be estimated is rejected with the reason, and harms no other.
        """
        return self.trace(frame).estimate

    @torch.no_grad()
    def trace(self, frame: Frame) -> Trace:
        """`estimate` with all intermediate results, for debugging and for self-training."""
        self._take_adopted()
        clock = _Clock(self.device)
        with clock.stage("observe"):
            observations = observe(frame, self.settings.observation, self._network.crop_size)
            parts = list(_parts(observations, self.settings.network_batch))
        rejected = list(observations.rejected)
        solutions: list[Solution] = []
        for part in parts:
            self._solve(part, frame, clock, solutions, rejected)
        with clock.stage("answer"):
            objects = [e for solution in solutions for e in self._estimates(solution)]
        estimate = FrameEstimate(
            objects=tuple(sorted(objects, key=lambda e: e.label)),
            rejected=tuple(sorted(rejected)),
            stage_ms=clock.milliseconds,
            model_version=self.model_version,
        )
        return Trace(estimate, tuple(solutions))

    def adopt(self, heads: Mapping[str, Tensor], version: str) -> None:
        """Has the next frame, and those after it, be estimated with other heads.

        A frame is estimated with one set of weights from beginning to end. May be called from
        another thread than `estimate`.

        Args:
            heads: parameters of the network's `pnc_head.` and `shape_head.`; not changed later.
            version: becomes `model_version` with them.
        """
        self._adopted = (heads, version)

    def _take_adopted(self) -> None:
        adopted = self._adopted
        if adopted is None or adopted[1] == self.model_version:
            return
        heads, version = adopted
        parameters = dict(self._network.named_parameters())
        for name, value in heads.items():
            parameters[name].copy_(value)
        self.model_version = version

    def warm_up(self) -> None:
        """Runs the network and the decoder once, so that the first frame is not the slow one."""
        size = self._network.crop_size
        with torch.no_grad():
            output = self._answer(torch.full((1, 3, size, size), 0.5, device=self.device))
            points = torch.zeros(1, self.settings.observation.points, 3, device=self.device)
            self._network.decoder.sdf_and_gradient(points, output.code)

    def mesh(self, estimate: ObjectEstimate) -> TriangleMesh:
        """The surface of an estimate, object frame; see `meshes`."""
        return self.meshes([estimate])[0]

    def meshes(
        self, estimates: Sequence[ObjectEstimate], grown_m: float = 0.0
    ) -> list[TriangleMesh]:
        """The surfaces of estimates, object frame, metres, watertight; empty where there is none.

        Made on demand, those that are new at once, and kept by shape code. May be called from
        another thread than `estimate`.

        Args:
            estimates: of objects.
            grown_m: the surface is where the signed distance has this value, not zero: outside the
                shape by so much.
        """

        def key(estimate: ObjectEstimate) -> tuple[bytes, float]:
            return estimate.code.tobytes(), grown_m

        with self._mesh_lock:
            new = {key(e): e for e in estimates if key(e) not in self._meshes}
            if new:
                made = self._extracted(list(new.values()), grown_m)
                self._meshes.update(zip(new, made, strict=True))
            found = []
            for estimate in estimates:
                self._meshes.move_to_end(key(estimate))
                found.append(self._meshes[key(estimate)])
            while len(self._meshes) > self.settings.cached_meshes:
                self._meshes.popitem(last=False)
            return found

    def _extracted(self, estimates: Sequence[ObjectEstimate], grown_m: float) -> list[TriangleMesh]:
        codes = torch.from_numpy(np.stack([e.code for e in estimates])).to(self.device)
        lower = torch.from_numpy(np.stack([e.lower for e in estimates])).float().to(self.device)
        upper = torch.from_numpy(np.stack([e.upper for e in estimates])).float().to(self.device)
        sdf = decoded_shapes(self._network.decoder, codes)

        def grown(points: Tensor, shape_index: Tensor) -> Tensor:
            return sdf(points, shape_index) - grown_m

        return extract_meshes(grown, lower - grown_m, upper + grown_m, self.settings.isosurface)

    def _solve(
        self,
        observations: Observations,
        frame: Frame,
        clock: _Clock,
        solutions: list[Solution],
        rejected: list[Rejected],
    ) -> None:
        """Appends the solution of a batch; where that fails, of its objects one by one."""
        try:
            solution = self._solution(observations, frame, clock, rejected)
        except Exception as error:  # one object's failure, whatever it is, must not be the others'
            labels = observations.labels.tolist()
            if len(labels) == 1:
                _log.exception("object %d could not be estimated", labels[0])
                reason = f"solver failed: {type(error).__name__}: {error}"
                rejected.append(Rejected(labels[0], reason))
                return
            for part in _parts(observations, 1):
                self._solve(part, frame, clock, solutions, rejected)
            return
        if solution is not None:
            solutions.append(solution)

    def _solution(
        self, observations: Observations, frame: Frame, clock: _Clock, rejected: list[Rejected]
    ) -> Solution | None:
        with clock.stage("network"):
            observations = _on(observations, self.device)
            output = self._answer(observations.crops)
            pnc = self._coordinates(output.pnc, observations)
            usable = torch.isfinite(output.code).all(-1) & (
                torch.isfinite(pnc).all(-1) | ~observations.valid
            ).all(-1)
            refused = [
                Rejected(label, "the network's output is not finite")
                for label in observations.labels[~usable].tolist()
            ]
            observations = _selected(observations, usable)
            maps, pnc, codes = output.pnc[usable], pnc[usable], output.code[usable]
        if len(codes) == 0:
            rejected.extend(refused)
            return None
        points, valid = observations.points, observations.valid
        with clock.stage("registration"):
            registration = register(points, pnc, valid, self.settings.registration)
        with clock.stage("correction"):
            correction = self._corrected(points, pnc, valid, codes, registration)
            shapes = self._shapes(correction.codes, correction.pnc, valid)
        with clock.stage("certificate"):
            certificate = self._certificate(observations, frame, correction, shapes)
            fitted = Fitted(
                points,
                pnc,
                registration.inliers.to(points.dtype),
                valid,
                registration.T_object_camera.to(points.dtype),
                correction.T_object_camera,
                correction.codes,
            )
            certificate, unknown = self._known(certificate, fitted, registration)
            others = self._alternatives(certificate, fitted, shapes)
        with clock.stage("covariance"):
            covariance = self._covariance(points, pnc, valid, registration, correction)
        # Refused only now: where anything above fails, the objects are tried again one by one.
        rejected.extend(refused)
        return Solution(
            observations,
            maps,
            pnc,
            codes,
            registration,
            correction,
            shapes.lower,
            shapes.upper,
            certificate,
            unknown,
            others,
            covariance,
        )

    def _answer(self, crops: Tensor) -> NetworkOutput:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.settings.bfloat16):
            output = self._network(crops)
        return NetworkOutput(output.pnc.float(), output.code.float())

    def _coordinates(self, maps: Tensor, observations: Observations) -> Tensor:
        """Object-frame coordinates (B, N, 3) of the points, metres."""
        return pnc_at_pixels(maps, observations.pixels, observations.boxes)

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
            z = torch.where(valid[..., None], transform(T, points), 0.0)
            unknown = points.new_full((len(points),), torch.nan)
            return Correction(T, codes, z, unknown, torch.zeros_like(unknown, dtype=torch.long))
        return correct(
            self._network.decoder,
            points,
            pnc,
            valid,
            codes,
            self._library,
            self.settings.corrector,
            registration,
        )

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
        found = surface_points(self._network.decoder, codes, *searched, count=_BOX_POINTS)
        low = torch.where(found.valid[..., None], found.points, torch.inf).amin(1)
        high = torch.where(found.valid[..., None], found.points, -torch.inf).amax(1)
        taken = ((nearest < 0) & (low < high).all(-1))[:, None]
        return _Shapes(torch.where(taken, low, lower), torch.where(taken, high, upper), nearest)

    def _surfaces(self, codes: Tensor, shapes: _Shapes) -> SurfacePoints:
        """Points on the estimated shapes; those of the library are made once."""
        decoder = self._network.decoder
        if self._library is None or (shapes.library_index < 0).any():
            return surface_points(decoder, codes, shapes.lower, shapes.upper)
        points, valid = self._surfaces_of_library()
        return SurfacePoints(points[shapes.library_index], valid[shapes.library_index])

    def _surfaces_of_library(self) -> SurfacePoints:
        if self._library_surfaces is None:
            self._library_surfaces = library_surfaces(self._network.decoder, self._library)
        return self._library_surfaces

    def _certificate(
        self, observations: Observations, frame: Frame, correction: Correction, shapes: _Shapes
    ) -> Certificate:
        conditions: Sequence[Condition] = ()
        if self.settings.visibility is not None:
            conditions = visibility_conditions(
                self._surfaces(correction.codes, shapes),
                correction.T_object_camera,
                observations.labels,
                torch.from_numpy(frame.depth).to(self.device),
                torch.from_numpy(frame.labels).to(self.device),
                frame.camera,
                self.settings.visibility,
            )
        return certify(
            self._network.decoder,
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
            self._network.decoder, fitted, tested, self._library, certificate.threshold, settings
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
                self._network.decoder,
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
            self._network.decoder,
            points,
            pnc,
            registration.inliers.to(points.dtype),
            valid,
            correction.codes,
            correction.T_object_camera,
            self.settings.covariance,
        )

    def _estimates(self, solution: Solution) -> Iterator[ObjectEstimate]:
        T_object_camera = solution.correction.T_object_camera.double().cpu()
        # Projected in float64, so that the result is a rotation to machine precision.
        rotation = roma.special_procrustes(T_object_camera[:, :3, :3])
        T = invert(from_rotation_translation(rotation, T_object_camera[:, :3, 3])).numpy()
        codes = solution.correction.codes.float().cpu().numpy()
        lower = solution.lower.double().cpu().numpy()
        upper = solution.upper.double().cpu().numpy()
        verdict = solution.certificate
        certified, residual, score = (
            part.tolist() for part in (verdict.certified, verdict.residual, verdict.score)
        )
        threshold = verdict.threshold.tolist()
        share = solution.registration.inlier_share.tolist()
        count = solution.observations.valid.sum(-1).tolist()
        ratio = _size_ratio(solution).tolist()
        covariance = solution.covariance
        covariance = None if covariance is None else covariance.cpu().numpy()
        unknown, other = solution.unknown.tolist(), solution.alternatives
        degenerate = [False] * len(unknown) if other is None else other.degenerate.tolist()
        eigenvalue = (
            [math.nan] * len(unknown) if other is None else other.tangent_eigenvalue.tolist()
        )
        for i, label in enumerate(solution.observations.labels.tolist()):
            yield ObjectEstimate(
                label=label,
                T_camera_object=T[i].copy(),
                code=codes[i].copy(),
                certified=certified[i],
                residual_m=residual[i],
                quantile=self.settings.certificate.quantile,
                threshold_m=threshold[i],
                score=score[i],
                reason=verdict.reasons[i],
                inlier_share=share[i],
                n_points=count[i],
                lower=lower[i].copy(),
                upper=upper[i].copy(),
                covariance=None if covariance is None else covariance[i].copy(),
                size_ratio=ratio[i],
                unknown=unknown[i],
                degenerate=degenerate[i],
                smallest_eigenvalue=eigenvalue[i],
            )


def _size_ratio(solution: Solution) -> Tensor:
    """See `ObjectEstimate`; (B,)."""
    points, valid = solution.observations.points, solution.observations.valid
    shift = points.shape[1] // 3  # scan order: far enough away to be another part of the object

    def spans(values: Tensor) -> Tensor:
        return torch.linalg.norm(values - values.roll(shift, 1), dim=-1)

    pairs = valid & valid.roll(shift, 1)
    ratios = spans(points) / spans(solution.pnc).clamp_min(1e-6)
    return torch.where(pairs, ratios, torch.nan).nanmedian(-1).values


def pnc_at_pixels(maps: Tensor, pixels: Tensor, boxes: Tensor) -> Tensor:
    """The PNC at image pixels, interpolated between the pixels of the maps.

    Args:
        maps: (B, 3, S', S') of the crops, any resolution.
        pixels: (B, N, 2), u and v in the image.
        boxes: (B, 3), left, top and side of the crops, px.

    Returns:
        (B, N, 3).
    """
    corner, side = boxes[:, None, :2], boxes[:, None, 2:]
    grid = 2 * (pixels + 0.5 - corner) / side - 1
    read = functional.grid_sample(
        maps, grid[:, None].to(maps.dtype), padding_mode="border", align_corners=False
    )
    return read[:, :, 0].transpose(1, 2)


def decoded_shapes(decoder: ShapeDecoder, codes: Tensor) -> SignedDistanceFunction:
    """The signed distance functions of shape codes (B, C), as `extract_meshes` wants them."""

    def sdf(points: Tensor, shape_index: Tensor) -> Tensor:
        counts = torch.bincount(shape_index, minlength=len(codes)).tolist()
        parts = points.split(counts)
        pairs = zip(parts, codes, strict=True)
        return torch.cat([decoder.sdf(part, code) for part, code in pairs if len(part) > 0])

    return sdf


class _Clock:
    """Adds up the wall time of stages; waits for the device at both ends of each."""

    def __init__(self, device: torch.device) -> None:
        self.milliseconds = dict.fromkeys(STAGES, 0.0)
        self._wait: Callable[[], None] = (
            (lambda: torch.cuda.synchronize(device)) if device.type == "cuda" else (lambda: None)
        )

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        self._wait()
        start = time.perf_counter()
        try:
            yield
        finally:
            self._wait()
            self.milliseconds[name] += 1e3 * (time.perf_counter() - start)


def model_version(model: Model) -> str:
    """The version that a model's maker gave it, with the start of its checksum."""
    parts = (str(model.header.get("version", "")), str(model.header.get("sha256", ""))[:12])
    return "-".join(part for part in parts if part) or "unsaved"


def _selected(observations: Observations, which: Tensor | slice) -> Observations:
    tensors = (v[which] for v in observations if isinstance(v, Tensor))
    return Observations(*tensors, rejected=())


def _on(observations: Observations, device: torch.device) -> Observations:
    tensors = (v.to(device) for v in observations if isinstance(v, Tensor))
    return Observations(*tensors, rejected=())


def _parts(observations: Observations, size: int) -> Iterator[Observations]:
    for start in range(0, len(observations.labels), size):
        yield _selected(observations, slice(start, start + size))
