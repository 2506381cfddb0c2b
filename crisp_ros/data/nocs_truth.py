"""Poses and detections of NOCS images: published as pickles, or found from coordinate maps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import roma
import torch
from numpy.typing import NDArray

from crisp_ros.data.files import DatasetError, rigid
from crisp_ros.data.plain_pickle import read_plain_pickle
from crisp_ros.geometry.registration import register

_PAIRS = 4096
_MOST_POINTS = 2000
_MIN_POINTS = 64  # an instance with fewer depth points is left out, as others do


@dataclass(frozen=True)
class ScaledPose:
    """The motion from an object's normalised frame to the camera.

    Attributes:
        T_camera_object: (4, 4) of the metric frame: its rotation and translation, metres.
        scale_m: metres of one normalised unit, the diagonal of the object's box.
        size: (3,) edges of the box, normalised; None where not stated.
        handle_visible: False for a mug whose handle is out of sight.
    """

    T_camera_object: NDArray[np.float64]
    scale_m: float
    size: NDArray[np.float64] | None = None
    handle_visible: bool = True


class Detections(NamedTuple):
    """Detections: class_ids (N,) from 1, scores (N,) 0 to 1, masks (N, H, W) bool."""

    class_ids: NDArray[np.int64]
    scores: NDArray[np.float64]
    masks: NDArray[np.bool_]


def published_truth(path: Path, class_ids: Sequence[int]) -> Iterator[ScaledPose]:
    """The poses in a file of gts/, one for each instance of the image in the order of their ids.

    Args:
        class_ids: of these instances, by which a file of another image is recognised.

    Raises:
        DatasetError: not such a file, or not of this image.
    """
    content = _dict(path)
    count = len(class_ids)
    poses = _field(content, ("gt_RTs",), (count, 4, 4), path)
    named = "gt_class_ids" in content
    if named and _field(content, ("gt_class_ids",), (count,), path).tolist() != list(class_ids):
        raise DatasetError(f"{path}: gt_class_ids: expected {list(class_ids)}, as in _meta.txt")
    sizes: NDArray[np.float64] | None = None
    if "gt_scales" in content:
        sizes = _field(content, ("gt_scales",), (count, 3), path)
    handles = np.ones(count)
    for key in ("handle_visibility", "gt_handle_visibility"):
        if key in content:
            handles = _field(content, (key,), (count,), path)
    for index in range(count):
        determinant = float(np.linalg.det(poses[index, :3, :3]))
        if not determinant > 0.0:
            raise DatasetError(f"{path}: gt_RTs: expected rotations times a positive scale")
        scale_m = float(np.cbrt(determinant))
        T_camera_object = poses[index].copy()
        T_camera_object[:3, :3] /= scale_m
        size = None if sizes is None else sizes[index]
        if size is not None and not (size > 0.0).all():
            raise DatasetError(f"{path}: gt_scales: expected positive edges")
        yield ScaledPose(rigid(T_camera_object, str(path)), scale_m, size, bool(handles[index]))


def read_detections(path: Path, size: tuple[int, int]) -> Detections:
    """The detections of one image: keys class_ids, scores and masks, with or without "pred_".

    Args:
        size: height and width of the image.

    Raises:
        DatasetError: not such a file.
    """
    content = _dict(path)
    class_ids = _field(content, ("pred_class_ids", "class_ids"), (-1,), path)
    count = len(class_ids)
    scores = _field(content, ("pred_scores", "scores"), (count,), path)
    masks = _field(content, ("pred_masks", "masks"), (*size, count), path)
    if (class_ids != np.rint(class_ids)).any() or not ((class_ids >= 1) & (class_ids <= 6)).all():
        raise DatasetError(f"{path}: class_ids: expected whole numbers from 1 to 6")
    return Detections(class_ids.astype(np.int64), scores, np.moveaxis(masks > 0.5, -1, 0))


def aligned_poses(
    masks: Sequence[NDArray[np.bool_]],
    coordinates: NDArray[np.float32],
    depth: NDArray[np.float32],
    intrinsics: NDArray[np.float64],
) -> list[ScaledPose | None]:
    """Poses and scales that carry normalised coordinates onto the depth; None where none does.

    The scale is the median ratio of distances between pairs of points, refined with the pose on
    the inliers of a robust registration.

    Args:
        masks: (H, W) each, of the instances.
        coordinates: (H, W, 3) normalised.
        depth: (H, W) metres, 0 where unknown.
    """
    rng = np.random.default_rng(0)
    return [_aligned(mask & (depth > 0), coordinates, depth, intrinsics, rng) for mask in masks]


def _aligned(
    mask: NDArray[np.bool_],
    coordinates: NDArray[np.float32],
    depth: NDArray[np.float32],
    intrinsics: NDArray[np.float64],
    rng: np.random.Generator,
) -> ScaledPose | None:
    v, u = np.nonzero(mask)
    if len(u) < _MIN_POINTS:
        return None
    if len(u) > _MOST_POINTS:
        kept = rng.choice(len(u), _MOST_POINTS, replace=False)
        v, u = v[kept], u[kept]
    rays = np.stack([u, v, np.ones_like(u)], axis=1) @ np.linalg.inv(intrinsics).T
    seen = depth[v, u, None] * rays
    normalised = coordinates[v, u].astype(np.float64)
    i, j = rng.integers(0, len(u), (2, _PAIRS))
    far = np.linalg.norm(normalised[i] - normalised[j], axis=1)
    apart = far > 0.1
    if apart.sum() < _MIN_POINTS:
        return None
    ratios = np.linalg.norm(seen[i] - seen[j], axis=1)[apart] / far[apart]
    points, targets = torch.from_numpy(seen)[None], torch.from_numpy(normalised)[None]
    scale_m = float(np.median(ratios))
    everywhere = torch.ones(1, len(u), dtype=torch.bool)
    found = register(points.float(), (scale_m * targets).float(), everywhere)
    if not bool(found.converged):
        return None
    inliers = found.inliers[0]
    R, t, s = roma.rigid_points_registration(
        targets[0, inliers], points[0, inliers], compute_scaling=True
    )
    T_camera_object = np.eye(4)
    T_camera_object[:3, :3], T_camera_object[:3, 3] = R.numpy(), t.numpy()
    return ScaledPose(T_camera_object, float(s))


def _dict(path: Path) -> dict[str, Any]:
    content = read_plain_pickle(path)
    if not isinstance(content, dict):
        raise DatasetError(f"{path}: expected a pickled dict")
    return content


def _field(
    content: dict[str, Any], keys: tuple[str, ...], shape: tuple[int, ...], path: Path
) -> NDArray[np.float64]:
    """The array of the first of these keys, as finite floats of this shape; -1 is any length."""
    key = next((key for key in keys if key in content), None)
    if key is None:
        raise DatasetError(f"{path}: expected a field {' or '.join(keys)}")
    try:
        values = np.asarray(content[key], np.float64)
    except (TypeError, ValueError, OverflowError):
        values = np.full(1, np.nan)
    if values.size == 0 and 0 in np.abs(shape):
        values = values.reshape(shape)
    fits = values.ndim == len(shape) and all(
        wanted in (-1, got) for wanted, got in zip(shape, values.shape, strict=True)
    )
    if not fits or not np.isfinite(values).all():
        raise DatasetError(
            f"{path}: {key}: expected finite numbers of shape {shape}, got shape {values.shape}"
        )
    return values
