"""Surfaces in place: estimates of objects whose shapes are not known, against the truth.

The object frame of an unknown shape is arbitrary, so that errors of pose and shape apart say
nothing. Compared are the surfaces where they are: the estimate's against that of the true mesh at
its true pose. For ADD-S, which needs a pose of the true object, the middles of the boxes are put
together, and of the 24 rotations that map axes onto axes the best one is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import trimesh
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from crisp_ros.data.recorded_frame import RecordedFrame, TrueObject
from crisp_ros.evaluation.metrics import pose_at_depth_centroid
from crisp_ros.evaluation.summary_statistics import ADD_S_THRESHOLDS_M, areas, finite_or_none
from crisp_ros.evaluation.true_shapes import TrueShape
from crisp_ros.geometry.chamfer import sampled_chamfer
from crisp_ros.geometry.se3 import invert, transform
from crisp_ros.observation.frame import Frame
from crisp_ros.pipeline import Estimator, ObjectEstimate
from crisp_ros.studies.resumable_parts import KeptParts

GOOD_M, GOOD_SHARE = 0.01, 0.1
"""Chamfer distance up to which a surface is right: metres, and a share of the diameter."""
_SAMPLES = 4000
_ADD_S_POINTS = 800
_AXES = Rotation.create_group("O").as_matrix()


@dataclass(frozen=True)
class PosedSurface:
    """One instance.

    Attributes:
        name: of the object.
        frame: number of the image, from 0.
        label: of the object in it.
        chamfer_m: between the posed surfaces, None where there is no surface.
        box_iou: of the surfaces' boxes along the axes of the true object.
        add_s_m: of the true object at the estimate's pose but for the frame; None for no surface.
        centroid_add_s_m: the same with the true object's middle at the mean of its depth points.
        certified: by the estimator.
        right: the distance is below `GOOD_M` and below `GOOD_SHARE` of the diameter.
        unknown: the estimator says so.
        source: of the shape.
        reason: why it is not certified.
    """

    name: str
    frame: int
    label: int
    chamfer_m: float | None
    box_iou: float
    add_s_m: float | None
    centroid_add_s_m: float
    certified: bool
    right: bool
    unknown: bool
    source: str
    reason: str


def posed_surfaces(
    estimator: Estimator,
    frames: Iterator[RecordedFrame],
    shapes: Mapping[str, TrueShape],
    kept: KeptParts,
    most: int,
    on_instance: Callable[[int], None] = lambda done: None,
) -> list[PosedSurface]:
    """Estimate the objects of frames with their true masks and compare the surfaces in place.

    Args:
        estimator: of a model that does not know the objects.
        frames: with the truth.
        shapes: true shapes by name; objects without one are left out.
        kept: results of earlier runs, one part a frame.
        most: instances; the frame with the last of them is the last frame.
        on_instance: called with the number of instances done after each frame.
    """
    found: list[PosedSurface] = []
    for number, frame in enumerate(frames):
        if len(found) >= most:
            break
        rows = kept.part(f"frame_{number:05d}", lambda: _measured(estimator, frame, number, shapes))  # noqa: B023
        found += [PosedSurface(**row) for row in rows]
        on_instance(len(found))
    return found


def measured_instance(
    estimator: Estimator,
    estimate: ObjectEstimate | None,
    frame: RecordedFrame,
    number: int,
    true: TrueObject,
    shape: TrueShape,
) -> PosedSurface:
    """Compare the estimate of one object with its true surface.

    Args:
        estimator: makes the mesh.
        estimate: None where the object was rejected.
        frame: that shows it.
        number: of the frame.
        true: the object.
        shape: of the object.
    """
    points, pose = None, None
    if estimate is not None:
        points = _posed(estimator, estimate, true.T_camera_object)
        middle = np.eye(4)
        middle[:3, 3] = (estimate.lower + estimate.upper) / 2.0
        pose = estimate.T_camera_object @ middle
    size = np.ptp(shape.points, axis=0)
    good = min(GOOD_M, GOOD_SHARE * float(np.linalg.norm(size)))
    distance = None if points is None else sampled_chamfer(points, shape.points)
    centroid = pose_at_depth_centroid(*_measured_mask(frame, true.label), frame.intrinsics)
    return PosedSurface(
        name=true.name,
        frame=number,
        label=true.label,
        chamfer_m=distance,
        box_iou=0.0 if points is None else box_iou(points, shape.points),
        add_s_m=None if points is None else add_s_of_middle(pose, true.T_camera_object, shape),
        centroid_add_s_m=add_s_of_middle(centroid, true.T_camera_object, shape),
        certified=estimate is not None and estimate.certified,
        right=distance is not None and distance < good,
        unknown=estimate is not None and estimate.unknown,
        source="" if estimate is None else estimate.shape_source,
        reason="not estimated" if estimate is None else estimate.reason,
    )


def box_iou(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Intersection over union of the axis-aligned boxes of two point sets (N, 3) and (M, 3)."""
    lower, upper = np.maximum(a.min(0), b.min(0)), np.minimum(a.max(0), b.max(0))
    shared = np.prod(np.clip(upper - lower, 0.0, None))
    return float(shared / (np.prod(np.ptp(a, axis=0)) + np.prod(np.ptp(b, axis=0)) - shared))


def add_s_of_middle(
    T_camera_middle: NDArray[np.float64], T_camera_true: NDArray[np.float64], shape: TrueShape
) -> float:
    """ADD-S of an object whose box has its middle at a pose, at the best of 24 rotations.

    Args:
        T_camera_middle: (4, 4) pose of a frame whose axes are those of the object in some order.
        T_camera_true: (4, 4) pose of the object.
        shape: of the object.

    Returns:
        Metres, the mean distance from true points to the nearest ones at that pose.
    """
    points = shape.points[:: max(1, len(shape.points) // _ADD_S_POINTS)]
    middle = (shape.points.min(0) + shape.points.max(0)) / 2.0
    # Distances are the same in the frame of the middle.
    true = transform(invert(T_camera_middle) @ T_camera_true, points)
    centred = points - middle
    return min(float(cKDTree(centred @ R.T).query(true)[0].mean()) for R in _AXES)


def summary(found: Sequence[PosedSurface]) -> dict[str, Any]:
    """The figures of instances; one without a surface counts as infinitely far off."""
    distances = np.array([np.inf if f.chamfer_m is None else f.chamfer_m for f in found])
    add_s = [np.inf if f.add_s_m is None else f.add_s_m for f in found]
    certified = np.array([f.certified for f in found])
    right = np.array([f.right for f in found])
    return {
        "instances": len(found),
        "median_chamfer_m": finite_or_none(float(np.median(distances))),
        "within_1cm": float((distances < GOOD_M).mean()),
        "median_box_iou": float(np.median([f.box_iou for f in found])),
        "auc_add_s": areas(add_s, ADD_S_THRESHOLDS_M),
        "centroid_auc_add_s": areas([f.centroid_add_s_m for f in found], ADD_S_THRESHOLDS_M),
        "certified": int(certified.sum()),
        "certified_share": float(certified.mean()),
        "right_of_certified": float(right[certified].mean()) if certified.any() else None,
        "wrong_by_1cm": int((certified & (distances > GOOD_M)).sum()),
        "unknown_share": float(np.mean([f.unknown for f in found])),
    }


def summaries_by_name(found: Sequence[PosedSurface]) -> dict[str, dict[str, Any]]:
    """The figures of the instances of each object, by name."""
    names = sorted({f.name for f in found})
    return {name: summary([f for f in found if f.name == name]) for name in names}


def _measured(
    estimator: Estimator, frame: RecordedFrame, number: int, shapes: Mapping[str, TrueShape]
) -> list[dict[str, Any]]:
    """The instances of a frame as JSON values."""
    objects = {o.label: o for o in estimator.estimate(Frame.from_recorded(frame)).objects}
    return [
        asdict(measured_instance(estimator, objects.get(t.label), frame, number, t, shapes[t.name]))
        for t in frame.truth
        if t.name in shapes and _measured_mask(frame, t.label)[0].any()
    ]


def _measured_mask(
    frame: RecordedFrame, label: int
) -> tuple[NDArray[np.bool_], NDArray[np.floating]]:
    """The pixels (H, W) of an object that have depth, and the depth in metres."""
    depth = Frame.from_recorded(frame).depth
    return (frame.labels == label) & (depth > 0), depth


def _posed(
    estimator: Estimator, estimate: ObjectEstimate, T_camera_true: NDArray[np.float64]
) -> NDArray[np.float64] | None:
    """Points on the estimated surface in the frame of the true object; None without a surface."""
    mesh = estimator.mesh(estimate)
    if len(mesh.faces) == 0:
        return None
    surface = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    points = trimesh.sample.sample_surface(surface, _SAMPLES, seed=0)[0]
    return transform(invert(T_camera_true) @ estimate.T_camera_object, points)
