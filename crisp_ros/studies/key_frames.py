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
from crisp_ros.correction.certificate import CertificateSettings
from crisp_ros.correction.correspondences import ObjectPoints
from crisp_ros.correction.degeneracy import degeneracy
from crisp_ros.correction.hypotheses import Hypotheses
from crisp_ros.correction.library_tests import find_ambiguity
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
        degenerate: the flag for these coordinates, with the whole library and the twin.
    """

    angle: float
    coordinates_error_m: float
    rotation_error: float
    certified: bool
    tangent: float
    degenerate: bool

    def to_json(self) -> dict[str, Any]:
        """The figures as JSON values, angles in degrees."""
        return {
            "turn_deg": float(np.rad2deg(self.angle)),
            "coordinates_error_mm": 1e3 * self.coordinates_error_m,
            "rotation_error_deg": float(np.rad2deg(self.rotation_error)),
            "certified": self.certified,
            "tangent": None if np.isnan(self.tangent) else self.tangent,
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
        shape_tables=False,
    )
    estimator = Estimator(model, settings)
    generator = torch.Generator().manual_seed(views.seed)
    found: list[KeyFrame] = []
    pooled: list[Tensor] = []
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
        found.append(_key_frame(estimator, frame, view, views.mug, angle, pooled, (pair, known)))
        on_view(len(found), len(views.angles))
    return tuple(found)


def _key_frame(
    estimator: Estimator,
    frame: Frame,
    view: Viewpoint,
    mug: int,
    angle: float,
    pooled: list[Tensor],
    libraries: tuple[PreparedLibrary, PreparedLibrary],
) -> KeyFrame:
    """Estimate a frame; the coordinates of a key frame are appended to `pooled`."""
    (solution,) = estimator.trace(frame).solutions
    seen, T = solution.observations, solution.correction.T_object_camera
    valid = seen.valid[0]
    truth = transform(view.T_object_camera.to(seen.points), seen.points[0][valid])
    predicted = solution.correspondences.pnc[0][valid]
    rotation = roma.rotmat_geodesic_distance(T[0, :3, :3], view.T_object_camera[:3, :3].to(T))
    named = int(solution.correction.shapes.index[0]) == mug
    certified = named and bool(solution.verification.certificate.certified[0])
    if certified:
        pooled.append(transform(T[0], seen.points[0][valid]))
    tangent, degenerate = float("nan"), False
    if pooled:
        z = torch.cat(pooled)
        z = z[:: max(1, len(z) // _POINTS)][None]
        everything = torch.ones(z.shape[:2], dtype=torch.bool)
        pair, known = libraries
        fixed = degeneracy(estimator.field, ObjectPoints.of(z, everything), pair)
        tangent = float(fixed.tangent_eigenvalue[0])
        shape = known.shapes(torch.tensor([mug]))
        hypotheses = Hypotheses.of_points(z, everything, shape)
        certificate = estimator.settings.certificate
        degenerate = bool(
            find_ambiguity(estimator.field, hypotheses, known, certificate).degenerate[0]
        )
    error = (predicted - truth).norm(dim=-1).median()
    return KeyFrame(angle, float(error), float(rotation), certified, tangent, degenerate)


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
