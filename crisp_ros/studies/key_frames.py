"""Key frames of a rotating mug, estimated with a network: when is the flag raised? (Fig. 9)"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import roma
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from crisp_ros.benchmark.sphere_tracing import ShapeView, Viewpoint, shape_view
from crisp_ros.correction.active_shape import library_fits
from crisp_ros.correction.certificate import CertificateSettings
from crisp_ros.correction.correspondences import ObjectPoints
from crisp_ros.correction.degeneracy import degeneracy, explanations
from crisp_ros.correction.hypotheses import Hypotheses
from crisp_ros.correction.prepared_library import PreparedLibrary
from crisp_ros.geometry.se3 import transform
from crisp_ros.network.checkpoint import Model
from crisp_ros.network.library import SurfaceColors
from crisp_ros.observation.frame import Camera, Frame
from crisp_ros.observation.observe import ObservationSettings
from crisp_ros.pipeline import Estimator, EstimatorSettings
from crisp_ros.studies.study_error import StudyError

_SIDE_PX, _WIDTH_M, _REACH_M = 320, 0.3, 0.12  # of a view around the mug
_BACKGROUND = 110
_POINTS = 1024  # of all key frames, that are compared with the library


class KeyFrame(NamedTuple):
    """One frame of the rotating mug.

    Attributes:
        angle: of the rotation about the mug's axis, radians, zero with the handle hidden.
        coordinates_error_m: median error of the coordinates of the depth points, from the network
            and the symmetry of the shape that depth and print choose.
        rotation_error: of the corrected pose, radians.
        certified: and estimated as the mug; the frame is a key frame.
        tangent: eigenvalue for the mug and its twin, with the corrected coordinates of all key
            frames so far; NaN before the first one.
        explaining: shapes of the library with the twin that certify in every key frame so far.
        degenerate: one of these would not certify on the whole surface of the mug.
    """

    angle: float
    coordinates_error_m: float
    rotation_error: float
    certified: bool
    tangent: float
    explaining: tuple[str, ...]
    degenerate: bool

    def to_json(self) -> dict[str, Any]:
        """The figures as JSON values, angles in degrees."""
        return {
            "turn_deg": float(np.rad2deg(self.angle)),
            "coordinates_error_mm": 1e3 * self.coordinates_error_m,
            "rotation_error_deg": float(np.rad2deg(self.rotation_error)),
            "certified": self.certified,
            "tangent": None if np.isnan(self.tangent) else self.tangent,
            "explaining": list(self.explaining),
            "degenerate": self.degenerate,
        }


class MugViews(NamedTuple):
    """The library's mug, seen by a colour and depth camera that walks round it.

    Attributes:
        mug: row of the library.
        centre: (x, y) of the mug's axis, object frame, metres.
        angles: radians, zero with the handle hidden.
        elevation: of the camera above the mug, radians.
        distance_m: of the camera.
        noise_m: standard deviation of depth.
        seed: of the noise.
    """

    mug: int
    centre: tuple[float, float]
    angles: Sequence[float]
    elevation: float
    distance_m: float
    noise_m: float
    seed: int


def key_frames(
    model: Model,
    views: MugViews,
    pair: PreparedLibrary,
    known: PreparedLibrary,
    certificate: CertificateSettings,
    on_view: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[KeyFrame, ...]:
    """Estimate the mug in each view, and ask after each key frame whether its shape is unique.

    A key frame is one whose estimate is the certified mug. Its coordinates Z* = R x + t, with the
    pose that the corrector finds from the network's coordinates, are pooled with the earlier ones.
    A shape explains the frames if it certifies in each: pooled points would outvote the one frame
    that shows the handle.

    Args:
        model: with the mug's colours in its library.
        views: of the mug.
        pair: the mug and its twin.
        known: the library with the twin, the mug in the same row.
        certificate: p and eps.
        on_view: called with the views done and their number.

    Raises:
        StudyError: the library has no colours of the mug.
    """
    colors = model.library.colors[views.mug]
    if colors is None:
        raise StudyError("the model's library has no colours of the mug: name a model that has")
    settings = EstimatorSettings(
        observation=ObservationSettings(seed=views.seed),
        certificate=certificate,
        masks=None,  # those of rendered views are exact
        shape_tables=False,
    )
    estimator = Estimator(model, settings)
    generator = torch.Generator().manual_seed(views.seed)
    found: list[KeyFrame] = []
    evidence = _Evidence(pair, known, views.mug, certificate)
    for angle in views.angles:
        view = Viewpoint(
            np.pi - angle,
            views.elevation,
            views.distance_m,
            (*views.centre, 0.0),
            _WIDTH_M,
            _SIDE_PX,
        )
        code = model.library.codes[views.mug]
        frame = _frame(shape_view(model.network.decoder, code, view, _REACH_M), view, colors)
        noise = views.noise_m * torch.randn(frame.depth.shape, generator=generator).numpy()
        frame = Frame(
            frame.rgb,
            np.where(frame.depth > 0, frame.depth + noise, 0.0).astype(np.float32),
            frame.labels,
            frame.camera,
        )
        found.append(_key_frame(estimator, frame, view, angle, evidence))
        on_view(len(found), len(views.angles))
    return tuple(found)


class _Evidence:
    """Collector of what key frames say of the shape."""

    def __init__(
        self,
        pair: PreparedLibrary,
        known: PreparedLibrary,
        mug: int,
        certificate: CertificateSettings,
    ) -> None:
        self._pair, self._known, self._certificate = pair, known, certificate
        self._mug = known.shapes(torch.tensor([mug]))
        self.mug = mug
        self._z: list[Tensor] = []
        self._certified = torch.ones(len(known), dtype=torch.bool)
        self._differs = torch.zeros(len(known), dtype=torch.bool)

    def add(self, estimator: Estimator, hypotheses: Hypotheses) -> None:
        """Add a key frame, as an object of the estimator."""
        points, _, _, valid = hypotheses.correspondences
        z = transform(hypotheses.T_object_camera, points)
        self._z.append(z[valid])
        correspondences = hypotheses.correspondences._replace(pnc=z, weights=valid.to(z.dtype))
        fits = library_fits(
            estimator.field,
            correspondences,
            self._known,
            hypotheses.T_object_camera,
            self._known.codes[:1],
        )
        posed = hypotheses._replace(shapes=self._mug)
        found = explanations(estimator.field, posed, fits, self._known, self._certificate)
        self._certified &= found.certified[0]
        self._differs |= found.whole_residual[0] > self._certificate.threshold_m

    def tangent(self, estimator: Estimator) -> float:
        """The eigenvalue of the pair, with all points; NaN without any."""
        if not self._z:
            return float("nan")
        z = torch.cat(self._z)
        z = z[:: max(1, len(z) // _POINTS)][None]
        points = ObjectPoints.of(z, torch.ones(z.shape[:2], dtype=torch.bool))
        return float(degeneracy(estimator.field, points, self._pair).tangent_eigenvalue[0])

    @property
    def explaining(self) -> tuple[str, ...]:
        """Names of the shapes that certify in every key frame; empty without any."""
        names, certified = self._known.names, self._certified.tolist()
        return tuple(n for n, c in zip(names, certified, strict=True) if c and self._z)

    @property
    def degenerate(self) -> bool:
        """Whether one of these is not the mug, as far as its whole surface is concerned."""
        return bool(self._z) and bool((self._certified & self._differs).any())


def _key_frame(
    estimator: Estimator, frame: Frame, view: Viewpoint, angle: float, evidence: _Evidence
) -> KeyFrame:
    """Estimate a frame, and add it to the evidence if it is a key frame."""
    (solution,) = estimator.trace(frame).solutions
    seen, T = solution.observations, solution.correction.T_object_camera
    valid = seen.valid[0]
    truth = transform(view.T_object_camera.to(seen.points), seen.points[0][valid])
    predicted = solution.correspondences.pnc[0][valid]
    rotation = roma.rotmat_geodesic_distance(T[0, :3, :3], view.T_object_camera[:3, :3].to(T))
    named = int(solution.correction.shapes.index[0]) == evidence.mug
    certified = named and bool(solution.verification.certificate.certified[0])
    if certified:
        evidence.add(estimator, solution.hypotheses)
    error = (predicted - truth).norm(dim=-1).median()
    return KeyFrame(
        angle,
        float(error),
        float(rotation),
        certified,
        evidence.tangent(estimator),
        evidence.explaining,
        evidence.degenerate,
    )


def _frame(seen: ShapeView, view: Viewpoint, colors: SurfaceColors) -> Frame:
    """The view as a frame with exact depth, label 1 on the mug."""
    side, T = view.side_px, view.T_object_camera
    rgb = np.full((side * side, 3), _BACKGROUND, np.uint8)
    hit = seen.hit.numpy()
    _, nearest = cKDTree(colors.points.numpy()).query(seen.points[seen.hit].numpy(), k=4)
    painted = colors.rgb.numpy()[nearest].mean(1)
    facing = (seen.normals[seen.hit] @ T[:3, :3])[:, 2].neg().clamp(0, 1).numpy()
    rgb[hit] = (painted * (0.55 + 0.45 * facing[:, None])).round().clip(0, 255)
    rotation = T[:3, :3]
    camera_points = (seen.points - T[:3, 3]) @ rotation
    depth = np.where(hit, camera_points[:, 2].numpy(), 0.0).astype(np.float32)
    focal = side * view.distance_m / view.width_m
    return Frame(
        rgb.reshape(side, side, 3),
        depth.reshape(side, side),
        hit.reshape(side, side).astype(np.int32),
        Camera(focal, focal, (side - 1) / 2, (side - 1) / 2, side, side),
    )
