"""Camera image with the estimates drawn into it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from crisp_ros.correction.shape_source import ShapeSource
from crisp_ros.geometry.isosurface import TriangleMesh
from crisp_ros.geometry.se3 import transform
from crisp_ros.observation.frame import Camera
from crisp_ros.pipeline import ObjectEstimate

_CERTIFIED = (60, 220, 90)
_UNCERTIFIED = (255, 150, 40)
_AXES = ((230, 60, 60), (60, 200, 60), (80, 110, 255))
_NEAREST_M = 0.01  # nearer points are not drawn
_SUBPIXEL = 4  # fractional bits of the coordinates for OpenCV


class _Box(NamedTuple):
    left: int
    top: int
    width: int
    height: int

    def overlaps(self, other: _Box) -> bool:
        apart_x = self.left + self.width <= other.left or other.left + other.width <= self.left
        apart_y = self.top + self.height <= other.top or other.top + other.height <= self.top
        return not (apart_x or apart_y)


class OverlayObject(NamedTuple):
    """An object to draw.

    Attributes:
        name: written next to it.
        estimate: its pose and certificate.
        mesh: its surface, object frame, metres.
    """

    name: str
    estimate: ObjectEstimate
    mesh: TriangleMesh


def overlay(
    rgb: NDArray[np.uint8], camera: Camera, objects: Sequence[OverlayObject]
) -> NDArray[np.uint8]:
    """Draw each object's outline, axes, name and certificate into a copy of an image (H, W, 3).

    Green: certified; orange: not certified, with the reason. The axes x, y, z are red, green, blue
    and half as long as the object.
    """
    image = rgb.copy()
    # The farthest first: nearer objects are drawn over it.
    ordered = sorted(objects, key=lambda o: -o.estimate.T_camera_object[2, 3])
    for drawn in ordered:
        colour = _CERTIFIED if drawn.estimate.certified else _UNCERTIFIED
        outlines = silhouette(drawn.mesh, drawn.estimate.T_camera_object, camera)
        cv2.drawContours(image, outlines, -1, colour, 2, cv2.LINE_AA)
        _draw_axes(image, camera, drawn.estimate)
    written: list[_Box] = []
    for drawn in reversed(ordered):
        if drawn.estimate.T_camera_object[2, 3] > _NEAREST_M:
            written.append(_draw_text(image, camera, drawn, written))
    return image


def silhouette(
    mesh: TriangleMesh, T_camera_object: NDArray[np.float64], camera: Camera
) -> list[NDArray[np.int32]]:
    """Compute the outlines of a mesh in an image, each (n, 1, 2) pixels; none behind the camera.

    Args:
        mesh: object frame, metres.
        T_camera_object: (4, 4).
        camera: of the image.
    """
    if mesh.is_empty:
        return []
    points = transform(T_camera_object, mesh.vertices)
    in_front = (points[:, 2] > _NEAREST_M)[mesh.faces].all(axis=1)
    pixels = _projected(points, camera)
    triangles = pixels[mesh.faces[in_front]]
    # Farther outside the image nothing is filled, and OpenCV's integers overflow.
    limit = 2 * max(camera.width, camera.height)
    triangles = triangles[(np.abs(triangles) < limit).all(axis=(1, 2))]
    # The front faces of a closed surface cover the whole outline.
    edge, other = triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]
    triangles = triangles[edge[:, 0] * other[:, 1] - edge[:, 1] * other[:, 0] < 0]
    if len(triangles) == 0:
        return []
    mask = np.zeros((camera.height, camera.width), np.uint8)
    fixed = np.round(triangles * 2**_SUBPIXEL).astype(np.int32)
    for triangle in fixed:
        cv2.fillConvexPoly(mask, triangle, 1, shift=_SUBPIXEL)
    return list(cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)[0])


def certificate_text(estimate: ObjectEstimate) -> str:
    """Format the certificate, such as "q98 4.2 mm", or the reason why there is none, in short."""
    if not estimate.certified:
        return estimate.reason.partition(":")[0]  # "unknown object: ..." would cover the image
    text = f"q{100 * estimate.quantile:.3g} {1e3 * estimate.residual_m:.1f} mm"
    return text if estimate.orientation_certified else f"{text}, rotation?"


def _projected(points: NDArray[np.float64], camera: Camera) -> NDArray[np.float64]:
    """Pixels (..., 2) of points (..., 3) in the camera frame."""
    z = np.maximum(points[..., 2:], _NEAREST_M)
    return camera.project(np.concatenate((points[..., :2], z), axis=-1))


def _draw_axes(image: NDArray[np.uint8], camera: Camera, estimate: ObjectEstimate) -> None:
    T = estimate.T_camera_object
    length = 0.5 * float(np.max(estimate.upper - estimate.lower))
    ends = transform(T, np.vstack((np.zeros(3), length * np.eye(3))))
    if (ends[:, 2] <= _NEAREST_M).any():
        return
    origin, *tips = np.round(_projected(ends, camera)).astype(int).tolist()
    for tip, colour in zip(tips, _AXES, strict=True):
        cv2.line(image, origin, tip, colour, 2, cv2.LINE_AA)


def _draw_text(
    image: NDArray[np.uint8], camera: Camera, drawn: OverlayObject, written: Sequence[_Box]
) -> _Box:
    """Write name and certificate over an object, or at the nearest place free of other texts."""
    size = 0.45 * max(camera.width / 640, 0.6)
    rows = (_title(drawn), certificate_text(drawn.estimate))
    extents = [cv2.getTextSize(row, cv2.FONT_HERSHEY_SIMPLEX, size, 1)[0] for row in rows]
    width, step = max(w for w, _ in extents), round(1.6 * extents[0][1])
    u, v = np.round(_projected(drawn.estimate.T_camera_object[:3, 3], camera)).astype(int).tolist()
    left = min(max(u - width // 2, 2), max(camera.width - width - 2, 2))
    top = _free_top(_Box(left, v - step, width, len(rows) * step), written, camera.height)
    colour = _CERTIFIED if drawn.estimate.certified else _UNCERTIFIED
    for index, (row, (row_width, row_height)) in enumerate(zip(rows, extents, strict=True)):
        place = left + (width - row_width) // 2, top + index * step + row_height
        # A dark outline keeps the text readable on any background.
        for shade, thickness in (((0, 0, 0), 3), (colour, 1)):
            cv2.putText(
                image, row, place, cv2.FONT_HERSHEY_SIMPLEX, size, shade, thickness, cv2.LINE_AA
            )
    return _Box(left, top, width, len(rows) * step)


def _title(drawn: OverlayObject) -> str:
    """The name, with the source of a shape that is not one of the library."""
    source = drawn.estimate.shape_source
    return drawn.name if source == ShapeSource.LIBRARY.text else f"{drawn.name} ({source} shape)"


def _free_top(wanted: _Box, written: Sequence[_Box], image_height: int) -> int:
    """Find the top nearest to the wanted one at which a box overlaps no other, if there is one."""
    lowest = max(image_height - wanted.height - 2, 2)
    tops = sorted(range(2, lowest + 1), key=lambda top: abs(top - wanted.top))
    free = (t for t in tops if not any(wanted._replace(top=t).overlaps(box) for box in written))
    return next(free, tops[0])
