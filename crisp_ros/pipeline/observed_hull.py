"""Hull of what was seen of an unknown object, closed towards its support and along the view.

For planners: where no shape explains an object, space that it may fill is better than nothing. The
hull holds the depth points of its surface; behind them, along the viewing rays, what the object
hides, down to the support but no deeper than the object is wide; and below them the columns down to
the support, as far as no pixel shows that they are empty.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import trimesh
from numpy.typing import NDArray
from scipy.spatial import QhullError, cKDTree

from crisp_ros.correction.prior_shape import Support
from crisp_ros.correction.visibility import Images
from crisp_ros.geometry.isosurface import TriangleMesh
from crisp_ros.observation.frame import Camera
from crisp_ros.pipeline.added_shapes import ExpectedObject, expected_at
from crisp_ros.pipeline.estimates import ObjectEstimate, ObservedHull
from crisp_ros.pipeline.solution import Solution
from crisp_ros.pipeline.support_planes import support_planes

Points = NDArray[np.float64]

_NEIGHBOURS = 8
_LEVEL = np.array([0.0, -1.0, 0.0])  # up in the optical frame of a level camera


@dataclass(frozen=True)
class ObservedHullSettings:
    """Settings of `observed_hull`.

    Attributes:
        points: depth points that are used, evenly spaced over the mask.
        minimum_points: with fewer there is no hull.
        far_neighbours: a point whose neighbours are farther than this multiple of the usual
            distance is left out: it is a mixture of object and background.
        near_quantile: of the points' distances from the camera; behind this one the object is as
            deep as it is wide, at most.
        steps: points along a column that are tested.
        tolerance_m: a point is in free space when so much in front of what was measured, metres.
    """

    points: int = 2500
    minimum_points: int = 30
    far_neighbours: float = 3.0
    near_quantile: float = 0.02
    steps: int = 8
    tolerance_m: float = 0.01


@dataclass(frozen=True)
class SeenScene:
    """A frame as `observed_hull` needs it.

    Attributes:
        depth: (H, W) metres, 0 where unknown.
        labels: (H, W), 0 for the background.
        camera: of both.
    """

    depth: NDArray[np.float32]
    labels: NDArray[np.int32]
    camera: Camera

    def is_free(self, points: Points, tolerance_m: float) -> NDArray[np.bool_]:
        """Whether points (..., 3), camera frame, are in front of what was measured there."""
        z = np.maximum(points[..., 2], 1e-3)
        u, v = np.moveaxis(self.camera.project(_safe(points)), -1, 0)
        height, width = self.depth.shape
        rows, columns = np.rint(v).astype(int), np.rint(u).astype(int)
        inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
        measured = self.depth[rows.clip(0, height - 1), columns.clip(0, width - 1)]
        return inside & (measured > 0) & (z < measured - tolerance_m)


@dataclass(frozen=True)
class SupportPlane:
    """The plane on which an object stands, camera frame: above it normal x + offset > 0.

    Attributes:
        normal: (3,) unit.
        offset: metres; None where no plane is known, and the normal is the direction taken for up.
    """

    normal: Points
    offset: float | None

    def heights(self, points: Points) -> Points:
        """Heights (...) of points (..., 3) above the plane, metres."""
        return points @ self.normal + (self.offset or 0.0)


def with_observed_hulls(
    objects: Sequence[ObjectEstimate],
    solutions: Sequence[Solution],
    images: Images,
    settings: ObservedHullSettings,
    expected: Sequence[ExpectedObject] = (),
) -> list[ObjectEstimate]:
    """Add the hulls of unknown objects to their estimates.

    Args:
        objects: of a frame.
        solutions: that they come from.
        images: of the frame.
        settings: see `ObservedHullSettings`.
        expected: objects of the frames before; one whose shape was certified needs no hull.
    """
    unknown = {e.label for e in objects if e.unknown and not e.certified}
    if not unknown:
        return list(objects)
    depth, labels = (part.cpu().numpy() for part in (images.depth, images.labels))
    scene = SeenScene(np.nan_to_num(depth, posinf=0.0), labels, images.camera)
    planes = dict(_supports(solutions, unknown, images, expected))
    hulls = {
        label: observed_hull(scene, label, planes[label], settings)
        for label in unknown
        if label in planes
    }
    return [replace(e, hull=hulls.get(e.label)) for e in objects]


def observed_hull(
    scene: SeenScene,
    label: int,
    support: SupportPlane,
    settings: ObservedHullSettings | None = None,
) -> ObservedHull | None:
    """Compute the hull of an object; None where too little or a flat patch alone was seen.

    Args:
        scene: that shows it.
        label: of the object.
        support: that it stands on.
        settings: see `ObservedHullSettings`.
    """
    settings = settings or ObservedHullSettings()
    seen = _surface_points(scene, label, settings)
    if len(seen) < settings.minimum_points:
        return None
    hidden = _hidden_points(seen, support, settings)
    parts = [seen, hidden]
    if support.offset is not None:
        parts.append(_columns(np.concatenate([seen, hidden]), scene, support, settings))
    try:
        hull = trimesh.convex.convex_hull(np.concatenate(parts))
    except (QhullError, ValueError):
        return None
    return _in_own_frame(hull, support)


def grown_hull(mesh: TriangleMesh, grown_m: float) -> TriangleMesh:
    """A convex mesh with a margin around it, metres."""
    if grown_m <= 0.0 or mesh.is_empty:
        return mesh
    ball = grown_m * trimesh.creation.icosphere(subdivisions=1).vertices
    corners = (mesh.vertices[:, None] + ball).reshape(-1, 3)
    grown = trimesh.convex.convex_hull(corners)
    return TriangleMesh(grown.vertices.astype(np.float32), grown.faces.astype(np.int32))


def _supports(
    solutions: Sequence[Solution],
    labels: set[int],
    images: Images,
    expected: Sequence[ExpectedObject],
) -> Iterator[tuple[int, SupportPlane]]:
    """The labels of objects without a certified shape, each with the plane that it stands on."""
    for solution in solutions:
        found = solution.observations.labels.tolist()
        rows = [
            row
            for row, label in enumerate(found)
            if label in labels and not _has_shape(solution, row, expected)
        ]
        if not rows:
            continue
        index = solution.observations.labels.new_tensor(rows)
        planes = Support(*(
            part.double().cpu().numpy()
            for part in support_planes(solution.correspondences.rows(index), images)
        ))  # fmt: skip
        for row, normal, offset, known in zip(rows, *planes, strict=True):
            plane = SupportPlane(normal, float(offset) if known else None)
            yield found[row], plane


def _has_shape(solution: Solution, row: int, expected: Sequence[ExpectedObject]) -> bool:
    """Whether a frame before certified the shape of an object."""
    last = expected_at(solution.correspondences.rows(slice(row, row + 1)), expected)
    return last is not None and last.shape_certified


def _surface_points(scene: SeenScene, label: int, settings: ObservedHullSettings) -> Points:
    """Depth points (N, 3) of an object, without those that hang in the air at its border."""
    v, u = np.nonzero((scene.labels == label) & (scene.depth > 0))
    kept = np.linspace(0, len(v) - 1, min(settings.points, len(v))).astype(int)
    v, u = v[kept], u[kept]
    points = scene.camera.back_project(
        u.astype(np.float32), v.astype(np.float32), scene.depth[v, u]
    ).astype(np.float64)
    if len(points) <= _NEIGHBOURS:
        return points
    away = cKDTree(points).query(points, k=_NEIGHBOURS + 1)[0][:, 1:].mean(axis=1)
    return points[away <= settings.far_neighbours * np.median(away)]


def _hidden_points(seen: Points, support: SupportPlane, settings: ObservedHullSettings) -> Points:
    """The deepest points (N, 3) that points (N, 3) hide."""
    distance = np.linalg.norm(seen, axis=1)
    rays = seen / distance[:, None]
    view = rays.mean(axis=0) / np.linalg.norm(rays.mean(axis=0))
    far = np.quantile(distance, settings.near_quantile) + _width(seen, view)
    length = np.maximum(far - distance, 0.0)
    if support.offset is not None:
        falling = np.maximum(-(rays @ support.normal), 1e-6)
        length = np.minimum(length, np.maximum(support.heights(seen), 0.0) / falling)
    return seen + length[:, None] * rays


def _width(points: Points, view: Points) -> float:
    """The longest extent of points (N, 3) across a viewing direction, metres."""
    across = points - (points @ view)[:, None] * view
    _, _, axes = np.linalg.svd(across - across.mean(axis=0), full_matrices=False)
    return float(np.ptp(across @ axes[:2].T, axis=0).max())


def _columns(
    starts: Points, scene: SeenScene, support: SupportPlane, settings: ObservedHullSettings
) -> Points:
    """The points (N, 3) at the feet of columns below others (N, 3).

    A column ends at the support, or before it where space is seen to be empty.
    """
    height = np.maximum(support.heights(starts), 0.0)
    share = np.arange(settings.steps + 1) / settings.steps
    down = starts - (share[:, None] * height)[..., None] * support.normal
    free = np.logical_or.accumulate(scene.is_free(down[1:], settings.tolerance_m), axis=0)
    last = (~free).sum(axis=0)
    return down[last, np.arange(len(starts))]


def _in_own_frame(hull: trimesh.Trimesh, support: SupportPlane) -> ObservedHull:
    """The hull in a frame at the middle of its box, z up and x along its longer side."""
    up = support.normal
    away = np.eye(3)[np.abs(up).argmin()]
    first = np.cross(up, away)
    axes = np.stack([first / np.linalg.norm(first), np.zeros(3), up])
    axes[1] = np.cross(up, axes[0])
    flat, extents = trimesh.bounds.oriented_bounds_2D(hull.vertices @ axes[:2].T)
    planar = flat[:2, :2]
    if extents[0] < extents[1]:
        planar = np.array([[0.0, 1.0], [-1.0, 0.0]]) @ planar
    rotation = np.vstack([planar @ axes[:2], up])
    local = hull.vertices @ rotation.T
    middle = (local.min(axis=0) + local.max(axis=0)) / 2.0
    T_camera_object = np.eye(4)
    T_camera_object[:3, :3], T_camera_object[:3, 3] = rotation.T, middle @ rotation
    mesh = TriangleMesh((local - middle).astype(np.float32), hull.faces.astype(np.int32))
    return ObservedHull(T_camera_object, mesh)


def _safe(points: Points) -> Points:
    """Points (..., 3) in front of the camera."""
    return np.concatenate([points[..., :2], np.maximum(points[..., 2:], 1e-3)], axis=-1)
