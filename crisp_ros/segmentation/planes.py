"""Large planes of a depth image: tables, shelves, floors and walls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from crisp_ros.validation import check_ranges, ranged

Points = NDArray[np.float32]

_STRIDE = 3  # of the pixels at which hypotheses are scored
_NEAR_PX = (3, 14)  # in that grid, from one point of a hypothesis to the others
_CELL_M = 0.01  # of a region's raster
_MAX_CELLS = 600  # along an edge of the raster


@dataclass(frozen=True)
class PlaneSettings:
    """Settings of `find_planes`.

    Attributes:
        max_planes: most planes that are searched for.
        hypotheses: planes through three points that are scored for each plane.
        tolerance_m: largest distance of a plane's points, metres, at zero depth.
        tolerance_per_m2: what is added to it, metres per squared metre of depth, for the noise of
            a triangulating camera.
        max_tilt_deg: largest angle between the normals of a plane and of its points, degrees.
        min_share: least share of the measured pixels.
        min_width_m: a plane is part of the room, and not of an object, from this width on, metres;
        min_length_m: or from this length on, metres;
        min_border: or where it covers this share of the image's border.
        reach_m: a plane supports objects up to this distance beyond its visible outline, metres.
    """

    max_planes: int = ranged(5, 1, 10)
    hypotheses: int = ranged(160, 10, 2000)
    tolerance_m: float = ranged(0.003, 0.0005, 0.1)
    tolerance_per_m2: float = ranged(0.004, 0.0, 0.1)
    max_tilt_deg: float = ranged(30.0, 1.0, 90.0)
    min_share: float = ranged(0.05, 0.001, 1.0)
    min_width_m: float = ranged(0.3, 0.01, 10.0)
    min_length_m: float = ranged(0.6, 0.01, 10.0)
    min_border: float = ranged(0.15, 0.0, 1.0)
    reach_m: float = ranged(0.04, 0.0, 1.0)

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(frozen=True, eq=False)
class Plane:
    """A plane of the scene in the optical frame: the height of p above it is `normal` p + `offset`.

    Attributes:
        normal: (3,) unit vector to the camera's side.
        offset: height of the camera above the plane, metres.
        share: of the measured pixels that are on the plane.
        outline: (N, 2) convex outline of its visible part, metres, in the coordinates of `axes`.
        axes: (2, 3) unit vectors in the plane.
    """

    normal: NDArray[np.float64]
    offset: float
    share: float
    outline: NDArray[np.float32]
    axes: NDArray[np.float64]

    def height(self, points: Points) -> NDArray[np.float32]:
        """Signed distance (...) of points (..., 3), positive on the camera's side, metres."""
        normal = self.normal.astype(np.float32)
        return points @ normal + np.float32(self.offset)

    def is_within(self, points: Points, margin_m: float) -> NDArray[np.bool_]:
        """Whether points (N, 3) are above the outline, widened by a margin in metres."""
        local = points @ self.axes.T.astype(np.float32)
        lower = self.outline.min(0) - margin_m - _CELL_M
        span = np.ptp(self.outline, axis=0) + 2.0 * (margin_m + _CELL_M)
        cell = max(_CELL_M, float(span.max()) / _MAX_CELLS)
        columns, rows = (np.ceil(span / cell).astype(int) + 1).tolist()
        raster = np.zeros((rows, columns), np.uint8)
        corners = np.rint((self.outline - lower) / cell).astype(np.int32)
        cv2.fillConvexPoly(raster, corners, 1)
        if margin_m > 0.0:
            radius = max(1, round(margin_m / cell))
            disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1,) * 2)
            raster = cv2.dilate(raster, disc)
        place = np.floor((local - lower) / cell).astype(np.int32)
        inside = ((place >= 0) & (place < (columns, rows))).all(-1)
        place = np.where(inside[:, None], place, 0)
        return inside & (raster[place[:, 1], place[:, 0]] > 0)


def find_planes(
    points: Points,
    normals: Points,
    valid: NDArray[np.bool_],
    settings: PlaneSettings,
    previous: Sequence[Plane] = (),
) -> list[Plane]:
    """Find the planes that are part of the room, the one with most pixels first.

    The number of hypotheses is fixed, and so is the time. The planes of the previous image are
    among the hypotheses, so that a plane is found again while the camera moves little.

    Args:
        points: (H, W, 3) optical frame, metres.
        normals: (H, W, 3) unit normals to the camera's side, 0 where unknown.
        valid: (H, W) where depth was measured.
        settings: see `PlaneSettings`.
        previous: planes of the previous image.
    """
    rng = np.random.default_rng(0)  # the same image has the same planes
    grid = (slice(None, None, _STRIDE),) * 2
    coarse, coarse_normals = points[grid], normals[grid]
    known = valid[grid] & (coarse_normals != 0.0).any(-1)
    total = max(int(np.count_nonzero(known)), 1)
    waiting = [np.array([*p.normal, p.offset]) for p in previous]
    left, found = known.copy(), []
    for _ in range(2 * settings.max_planes):
        if np.count_nonzero(left) < settings.min_share * total or (
            len(found) == settings.max_planes
        ):
            break
        candidates = _hypotheses(coarse, coarse_normals, left, settings.hypotheses, rng)
        candidates = np.concatenate([candidates, np.reshape(waiting, (-1, 4))])
        if len(candidates) == 0:
            break
        plane = _best(coarse, coarse_normals, left, candidates, settings)
        on_plane = left & _inliers(coarse, coarse_normals, plane, settings)
        count = np.count_nonzero(on_plane)
        if count < settings.min_share * total:
            break
        left &= ~on_plane
        described = _described(coarse, on_plane, plane, count / total, settings)
        if described is not None:
            found.append(described)
    return sorted(found, key=lambda p: -p.share)


def tolerance(depth: NDArray[np.float32], settings: PlaneSettings) -> NDArray[np.float32]:
    """Largest distance (...) of a plane's points at this depth (...), metres."""
    return np.float32(settings.tolerance_m) + np.float32(settings.tolerance_per_m2) * depth**2


def _hypotheses(
    points: Points, normals: Points, left: NDArray[np.bool_], count: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Planes (K, 4) through neighbouring points, and through single points with their normals."""
    rows, columns = np.nonzero(left)
    chosen = rng.integers(0, len(rows), count)
    start = np.stack([rows[chosen], columns[chosen]], -1)
    steps = rng.integers(_NEAR_PX[0], _NEAR_PX[1] + 1, (2, count, 2))
    steps *= rng.choice([-1, 1], (2, count, 2))
    limit = np.array(left.shape) - 1
    others = np.clip(start + steps, 0, limit)
    usable = left[others[..., 0], others[..., 1]].all(0)
    first = points[start[:, 0], start[:, 1]].astype(float)
    second, third = points[others[..., 0], others[..., 1]].astype(float)
    normal = np.cross(second - first, third - first)
    length = np.linalg.norm(normal, axis=1)
    usable &= length > 1e-9
    normal = normal / np.maximum(length, 1e-9)[:, None]
    own = normals[start[:, 0], start[:, 1]].astype(float)
    normal = np.where(usable[:, None], normal, own)
    normal *= np.where((normal * first).sum(1) > 0.0, -1.0, 1.0)[:, None]
    return np.concatenate([normal, -(normal * first).sum(1, keepdims=True)], axis=1)


def _best(
    points: Points,
    normals: Points,
    left: NDArray[np.bool_],
    candidates: NDArray[np.float64],
    settings: PlaneSettings,
) -> NDArray[np.float64]:
    """The candidate with most points of its own, fitted to them."""
    p, n = points[left], normals[left]
    if len(p) > 2500:
        every = len(p) // 2500 + 1
        p, n = p[::every], n[::every]
    planes = candidates.astype(np.float32)
    distance = np.abs(p @ planes[:, :3].T + planes[:, 3])
    near = distance < tolerance(p[:, 2:], settings)
    near &= n @ planes[:, :3].T > np.cos(np.deg2rad(settings.max_tilt_deg))
    plane = candidates[near.sum(0).argmax()]
    for _ in range(3):
        own = left & _inliers(points, normals, plane, settings)
        if np.count_nonzero(own) < 3:
            break
        plane = _fitted(points[own])
    return plane


def _inliers(
    points: Points, normals: Points, plane: NDArray[np.float64], settings: PlaneSettings
) -> NDArray[np.bool_]:
    plane = plane.astype(np.float32)
    distance = np.abs(points @ plane[:3] + plane[3])
    aligned = normals @ plane[:3] > np.cos(np.deg2rad(settings.max_tilt_deg))
    return (distance < tolerance(points[..., 2], settings)) & aligned


def _fitted(points: Points) -> NDArray[np.float64]:
    """Plane (4,) of least squares through points (N, 3), errors growing with squared depth."""
    weight = 1.0 / np.maximum(points[:, 2:].astype(float), 0.1) ** 4
    centre = (weight * points).sum(0) / weight.sum()
    apart = points - centre
    _, vectors = np.linalg.eigh((weight * apart).T @ apart)
    normal = vectors[:, 0]
    if normal @ centre > 0.0:
        normal = -normal
    return np.array([*normal, -normal @ centre])


def _described(
    points: Points,
    on_plane: NDArray[np.bool_],
    plane: NDArray[np.float64],
    share: float,
    settings: PlaneSettings,
) -> Plane | None:
    """The plane with its outline, None where it may be the face of an object."""
    joined = cv2.morphologyEx(on_plane.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((3, 3)))
    count, parts, figures, _ = cv2.connectedComponentsWithStats(joined)
    if count < 2:
        return None
    largest = 1 + int(figures[1:, cv2.CC_STAT_AREA].argmax())
    main = on_plane & (parts == largest)
    u = np.cross(plane[:3], [0.0, 0.0, 1.0] if abs(plane[2]) < 0.9 else [1.0, 0.0, 0.0])
    u /= np.linalg.norm(u)
    axes = np.stack([u, np.cross(plane[:3], u)])
    local = (points[main] @ axes.T).astype(np.float32)
    if len(local) < 3:
        return None
    (_, edges, _) = cv2.minAreaRect(local)
    rim = np.concatenate([main[0], main[-1], main[:, 0], main[:, -1]])
    is_room = (
        min(edges) >= settings.min_width_m
        or max(edges) >= settings.min_length_m
        or rim.mean() >= settings.min_border
    )
    if not is_room:
        return None
    outline = cv2.convexHull(local)[:, 0]
    return Plane(plane[:3], float(plane[3]), float(share), outline, axes)
