"""The pinhole camera of an image."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


class FrameError(ValueError):
    """A camera or frame that cannot be used; says what is wrong, expected, and to be done."""


@dataclass(frozen=True)
class Camera:
    """A pinhole camera without distortion; pixel centres are at integer coordinates.

    Attributes:
        fx: horizontal focal length, px.
        fy: vertical focal length, px.
        cx: column of the principal point, px.
        cy: row of the principal point, px.
        width: of the image, px.
        height: of the image, px.

    Raises:
        FrameError: a focal length or a size is not positive, or a value is not finite.
    """

    fx: float
    fy: float
    cx: float
    cy: float
    width: int
    height: int

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not math.isfinite(value):
                raise FrameError(f"camera: {field.name} is {value}, expected a finite number")
        if self.fx <= 0 or self.fy <= 0:
            raise FrameError(
                f"camera: focal lengths are {self.fx} and {self.fy}, expected positive pixels; "
                "zero means that the camera is not calibrated"
            )
        if self.width <= 0 or self.height <= 0:
            raise FrameError(
                f"camera: the image is {self.width} x {self.height}, expected positive pixels"
            )

    @property
    def matrix(self) -> NDArray[np.float64]:
        """The intrinsic matrix K (3, 3)."""
        return np.array([[self.fx, 0.0, self.cx], [0.0, self.fy, self.cy], [0.0, 0.0, 1.0]])

    def project(self, points: NDArray[np.floating]) -> NDArray[np.floating]:
        """Project points (..., 3) in the optical frame, z > 0, to pixels (..., 2): u, v."""
        u = self.fx * points[..., 0] / points[..., 2] + self.cx
        v = self.fy * points[..., 1] / points[..., 2] + self.cy
        return np.stack((u, v), axis=-1)

    def back_project(
        self, u: NDArray[Any], v: NDArray[Any], depth: NDArray[np.floating]
    ) -> NDArray[np.floating]:
        """Back-project pixels with depth in metres to points (..., 3) in the optical frame.

        Args:
            u: columns, px.
            v: rows, px; broadcasts with `u` to the shape of `depth`.
            depth: (...) metres along the optical axis.
        """
        x = (u - self.cx) / self.fx * depth
        y = (v - self.cy) / self.fy * depth
        return np.stack((x, y, depth), axis=-1)

    @classmethod
    def from_matrix(cls, matrix: ArrayLike, width: int, height: int) -> Camera:
        """Create the camera of an intrinsic matrix K, (3, 3) or its nine numbers row by row.

        Raises:
            FrameError: K is not the matrix of a calibrated, rectified camera.
        """
        values = np.asarray(matrix, dtype=np.float64)
        if values.size != 9:
            raise FrameError(f"camera: K has shape {values.shape}, expected (3, 3)")
        K = values.reshape(3, 3)
        camera = cls(K[0, 0].item(), K[1, 1].item(), K[0, 2].item(), K[1, 2].item(), width, height)
        rest = np.array([K[0, 1], K[1, 0], K[2, 0], K[2, 1], K[2, 2] - 1.0])
        if not (np.abs(rest) < 1e-3 * min(camera.fx, 1.0)).all():
            raise FrameError(
                f"camera: K is {K.tolist()}, expected [[fx, 0, cx], [0, fy, cy], [0, 0, 1]]; "
                "rectify the image first"
            )
        return camera
