"""Traces without a network, and a field of analytic shapes: input of the tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from analytic import AnalyticShape, cup, cylinder, household, mug
from analytic_scene import AnalyticDecoder
from numpy.typing import NDArray
from torch import Tensor

from crisp_ros.correction.certificate import Condition
from crisp_ros.correction.correspondences import Correspondences
from crisp_ros.correction.hypotheses import Hypotheses
from crisp_ros.correction.prepared_library import PreparedLibrary
from crisp_ros.correction.shape_field import DecoderField
from crisp_ros.correction.verification import Verification, VerificationSettings
from crisp_ros.correction.visibility import images_of
from crisp_ros.geometry.se3 import invert, transform
from crisp_ros.network.library import ShapeLibrary
from crisp_ros.observation.frame import Frame
from crisp_ros.pipeline import FrameEstimate, ObjectEstimate, Trace
from crisp_ros.tracking.track import stack_shapes
from crisp_ros.tracking.tracker import TrackedFrame, Tracker
from crisp_ros.tracking.tracker_settings import TrackerSettings

SHAPES = household()
CUP = cup(0.04, 0.045, 0.008)
MUG = mug(0.04, 0.045, 0.008, 0.03)
CAN = cylinder(0.033, 0.05, "can")


def library(
    shapes: Sequence[AnalyticShape], symmetries: Sequence[NDArray[np.float64]] | None = None
) -> ShapeLibrary:
    """The analytic shapes as a library; shape k has the k-th unit vector as its code."""
    groups = symmetries or [np.eye(4)[None]] * len(shapes)
    return ShapeLibrary(
        tuple(shape.name for shape in shapes),
        torch.eye(len(shapes)),
        torch.tensor([shape.lower for shape in shapes]),
        torch.tensor([shape.upper for shape in shapes]),
        tuple(torch.from_numpy(np.asarray(group)).float() for group in groups),
    )


def estimate(
    label: int,
    T_camera_object: NDArray[np.float64],
    shape: int = 0,
    shapes: Sequence[AnalyticShape] = SHAPES,
    certified: bool = True,
    score: float | None = None,
    shape_source: str = "library",
) -> ObjectEstimate:
    """An estimate of the `shape`-th of some shapes."""
    return ObjectEstimate(
        label=label,
        T_camera_object=T_camera_object,
        code=np.eye(len(shapes), dtype=np.float32)[shape],
        certified=certified,
        residual_m=0.004 if certified else 0.02,
        quantile=0.98,
        threshold_m=0.01,
        score=score if score is not None else (0.86 if certified else 0.2),
        reason="" if certified else "q98 20 mm > 10 mm",
        inlier_share=0.9,
        n_points=500,
        lower=np.array(shapes[shape].lower),
        upper=np.array(shapes[shape].upper),
        shape_index=shape,
        shape_source=shape_source,
    )


def seen_points(
    shape: AnalyticShape,
    T_camera_object: NDArray[np.float64],
    seed: int,
    count: int = 400,
    noise_m: float = 0.001,
) -> Tensor:
    """Points (count, 3) of a shape that the camera sees, camera frame, metres."""
    generator = torch.Generator().manual_seed(seed)
    R, t = T_camera_object[:3, :3], T_camera_object[:3, 3]
    z = shape.surface(count, generator, visible_from=(-R.T @ t).tolist()).numpy()
    x = torch.from_numpy(z @ R.T + t)
    noise = noise_m * torch.randn(count, 1, generator=generator, dtype=x.dtype)
    return (x + noise * torch.nn.functional.normalize(x, dim=-1)).float()


class Solved(NamedTuple):
    """The parts of a `Solution` that a tracker uses."""

    hypotheses: Hypotheses
    verification: Verification


def trace(
    estimates: Sequence[ObjectEstimate],
    points: Sequence[Tensor] = (),
    pnc_error: Tensor | float = 0.0,
    inlier_share: float = 1.0,
    frame: Frame | None = None,
    known_shapes_tested: bool = True,
) -> Trace:
    """A trace with the depth points (N, 3) of its estimates, or without solutions.

    Args:
        estimates: of the frame.
        points: of each estimate, camera frame, metres.
        pnc_error: added to the coordinates that the estimates' poses give.
        inlier_share: of the registrations, zero for failed ones.
        frame: whose images the conditions of visibility see.
        known_shapes_tested: the estimator has tested whether the objects are unknown.
    """
    found = FrameEstimate(tuple(estimates), (), {}, "test")
    images = None if frame is None else images_of(frame, torch.device("cpu"))
    if len(points) == 0:
        return Trace(found, (), images)
    x = torch.stack(list(points))
    valid = torch.ones(x.shape[:2], dtype=torch.bool)
    T = torch.from_numpy(np.stack([invert(e.T_camera_object) for e in estimates])).to(x)
    hypotheses = Hypotheses(
        Correspondences(x, transform(T, x) + pnc_error, valid.to(x.dtype), valid),
        T,
        stack_shapes(estimates, x.device),
        torch.tensor([e.label for e in estimates]),
        T,
        torch.full((len(x),), inlier_share),
    )
    unknown = torch.tensor([e.unknown for e in estimates])
    reasons = tuple(e.reason if e.unknown else "" for e in estimates)
    known = None
    if known_shapes_tested:
        known = Condition("known shape", ~unknown, unknown.float(), reasons)
    return Trace(
        found,
        (Solved(hypotheses, Verification(None, known, torch.ones(len(found.objects)))),),
        images,
    )


def make_tracker(
    shapes: Sequence[AnalyticShape],
    symmetries: Sequence[NDArray[np.float64]] | None = None,
    settings: TrackerSettings | None = None,
    verification: VerificationSettings | None = None,
) -> Tracker:
    """A tracker of analytic shapes, which are its library."""
    field = DecoderField(AnalyticDecoder(shapes))
    prepared = PreparedLibrary(field, library(shapes, symmetries))
    return Tracker(field, prepared, settings, verification)


def tracker(
    shapes: Sequence[AnalyticShape] = SHAPES,
    symmetries: Sequence[NDArray[np.float64]] | None = None,
    **settings: Any,
) -> Tracker:
    """A tracker of analytic shapes with settings by name."""
    return make_tracker(shapes, symmetries, TrackerSettings(**settings))


def ids(frame: TrackedFrame) -> list[str]:
    return [o.id for o in frame.objects]


def looking_from(direction: Sequence[float], distance: float = 0.7) -> NDArray[np.float64]:
    """T_camera_object (4, 4) of an object that shows this side (object frame) to the camera."""
    towards = np.asarray(direction, np.float64) / np.linalg.norm(direction)
    helper = np.array([0.0, 0.0, 1.0]) if abs(towards[2]) < 0.9 else np.array([1.0, 0.0, 0.0])
    x = np.cross(towards, helper)
    x /= np.linalg.norm(x)
    T_object_camera = np.eye(4)
    T_object_camera[:3, :3] = np.stack((x, np.cross(-towards, x), -towards), axis=1)
    T_object_camera[:3, 3] = distance * towards
    return np.linalg.inv(T_object_camera)
