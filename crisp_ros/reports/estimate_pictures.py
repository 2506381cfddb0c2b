"""Pictures of estimates: crops of images with the reconstructed surface drawn over them."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from crisp_ros.evaluation.frame_estimates import Estimated
from crisp_ros.geometry.se3 import transform

SIDE = 176  # of a picture, pixels
_MARGIN = 0.25  # around the object's mask, of its size
_GREEN, _ORANGE = (64, 190, 120), (235, 140, 50)


class Picture(NamedTuple):
    """A picture of an estimate.

    Attributes:
        crop: (SIDE, SIDE, 3) uint8.
        drawn: the same with the surface.
        caption: lines of text.
    """

    crop: NDArray[np.uint8]
    drawn: NDArray[np.uint8]
    caption: str


class PictureSample:
    """Keeps pictures of a uniform random sample of the estimates."""

    def __init__(self, count: int = 24, seed: int = 0) -> None:
        self._count, self._seen = count, 0
        self._rng = np.random.default_rng(seed)
        self._kept: list[tuple[int, Picture]] = []

    def add(self, estimated: Estimated, caption: str) -> None:
        """Offer an estimate; it is only drawn if it is kept."""
        place = self._seen if self._seen < self._count else int(self._rng.integers(self._seen + 1))
        self._seen += 1
        if place >= self._count:
            return
        self._kept[place : place + 1] = [(self._seen, picture(estimated, caption))]

    @property
    def pictures(self) -> list[Picture]:
        """The kept pictures, in the order of the estimates."""
        return [kept for _, kept in sorted(self._kept, key=lambda entry: entry[0])]


def picture(estimated: Estimated, caption: str) -> Picture:
    """Draw an estimate over the object's part of the image: green if certified, else orange."""
    v, u = np.nonzero(estimated.labels == estimated.label)
    height, width = estimated.labels.shape
    lower = np.array([u.min(), v.min()]) if len(u) else np.zeros(2)
    upper = np.array([u.max(), v.max()]) + 1.0 if len(u) else np.array([width, height], float)
    side = (1.0 + 2.0 * _MARGIN) * max((upper - lower).max(), 8.0)
    corner = (lower + upper - side) / 2.0
    scale = SIDE / side
    # Pixel centres lie at whole numbers in both images.
    to_crop = np.array([
        [scale, 0.0, scale * (0.5 - corner[0]) - 0.5],
        [0.0, scale, scale * (0.5 - corner[1]) - 0.5],
        [0.0, 0.0, 1.0],
    ])  # fmt: skip
    crop = cv2.warpAffine(
        estimated.rgb, to_crop[:2], (SIDE, SIDE), flags=cv2.INTER_LINEAR, borderValue=(40, 40, 40)
    )
    colour = _GREEN if estimated.certified else _ORANGE
    return Picture(crop, _painted(crop, estimated, to_crop @ estimated.intrinsics, colour), caption)


def _painted(
    crop: NDArray[np.uint8],
    estimated: Estimated,
    K: NDArray[np.float64],
    colour: tuple[int, int, int],
) -> NDArray[np.uint8]:
    """Paint the triangles from back to front; back faces are left out, the others shaded."""
    mesh, T = estimated.mesh, estimated.T_camera_object
    if len(mesh.faces) == 0:
        return crop.copy()
    points = transform(T, np.asarray(mesh.vertices, np.float64))
    if points[:, 2].min() <= 0.01:
        return crop.copy()  # it reaches behind the camera
    corners = points[np.asarray(mesh.faces)]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    middles = corners.mean(axis=1)
    lengths = np.linalg.norm(normals, axis=1) * np.linalg.norm(middles, axis=1)
    facing = -(normals * middles).sum(axis=1) / np.maximum(lengths, 1e-12)
    order = np.argsort(-middles[:, 2])
    order = order[facing[order] > 0.0]
    projected = points @ K.T
    pixels = np.rint(16.0 * projected[:, :2] / projected[:, 2:]).clip(-32000, 32000)
    triangles = pixels.astype(np.int32)[np.asarray(mesh.faces)]
    surface = np.zeros_like(crop)
    seen = np.zeros(crop.shape[:2], np.uint8)
    shades = np.rint(np.outer(0.35 + 0.65 * facing, colour)).astype(int).tolist()
    for face in order:
        cv2.fillConvexPoly(surface, triangles[face], shades[face], cv2.LINE_8, 4)
        cv2.fillConvexPoly(seen, triangles[face], 1, cv2.LINE_8, 4)
    mixed = cv2.addWeighted(crop, 0.3, surface, 0.7, 0.0)
    drawn = np.where(seen[..., None] > 0, mixed, crop)
    outline, _ = cv2.findContours(seen, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(np.ascontiguousarray(drawn), outline, -1, colour, 1)
