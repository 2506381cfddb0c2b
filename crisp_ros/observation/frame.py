"""RGB-D frame with object labels and camera, checked on construction."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from crisp_ros.geometry.camera import Camera, FrameError

__all__ = ["Camera", "Frame", "FrameError", "RecordedImages", "depth_mm_to_m"]


class RecordedImages(Protocol):
    """Images of one moment and their intrinsics, as recordings and data sets hold them.

    Attributes:
        rgb: (H, W, 3) uint8.
        depth: (H, W) float metres or uint16 millimetres, registered to rgb.
        labels: (H, W) integers, 0 = background.
        intrinsics: (3, 3) px.
    """

    rgb: NDArray[np.uint8]
    depth: NDArray[Any]
    labels: NDArray[Any]
    intrinsics: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Frame:
    """A colour image with depth and object labels of its pixels.

    Attributes:
        rgb: (H, W, 3) uint8.
        depth: (H, W) float32 metres, registered to the colour image. Values that are negative or
            not finite become 0, which means invalid.
        labels: (H, W) int32, 0 for the background; any integer or boolean array is accepted.
        camera: of all three images.

    Raises:
        FrameError: a type or a size is wrong.
    """

    rgb: NDArray[np.uint8]
    depth: NDArray[np.float32]
    labels: NDArray[np.int32]
    camera: Camera

    @classmethod
    def from_recorded(cls, recorded: RecordedImages) -> Frame:
        """Build the frame of a recording or data set, without its annotations.

        Raises:
            FrameError: where types or sizes do not fit.
        """
        depth = recorded.depth
        height, width = depth.shape
        if depth.dtype == np.uint16:
            depth = depth_mm_to_m(depth)
        camera = Camera.from_matrix(recorded.intrinsics, width, height)
        return cls(recorded.rgb, depth, recorded.labels, camera)

    def with_labels(self, labels: NDArray[np.int32]) -> Frame:
        """The frame with other labels (H, W), which are not checked."""
        frame = copy.copy(self)
        object.__setattr__(frame, "labels", labels)
        return frame

    def __post_init__(self) -> None:
        size = (self.camera.height, self.camera.width)
        _require_array("rgb", self.rgb, (*size, 3))
        _require_array("depth", self.depth, size)
        _require_array("labels", self.labels, size)
        if self.rgb.dtype != np.uint8:
            raise FrameError(f"rgb is {self.rgb.dtype}, expected uint8 in [0, 255]")
        if self.depth.dtype not in (np.float32, np.float64):
            raise FrameError(
                f"depth is {self.depth.dtype}, expected float32 metres; "
                "16-bit depth is in millimetres: use depth_mm_to_m"
            )
        if self.labels.dtype.kind not in "iub":
            raise FrameError(f"labels are {self.labels.dtype}, expected integers")
        if self.labels.dtype != np.int32 and self.labels.dtype.kind != "b":
            limits = np.iinfo(np.int32)
            if self.labels.max() > limits.max or self.labels.min() < limits.min:
                raise FrameError("labels do not fit into 32 bits; renumber them")
        labels = np.ascontiguousarray(self.labels, dtype=np.int32)
        if labels.min() < 0:
            raise FrameError(f"labels go down to {labels.min()}, expected 0 for the background")
        depth = self.depth
        if not (depth.min() >= 0 and depth.max() < np.inf):  # NaN is neither
            depth = np.where((depth > 0) & (depth < np.inf), depth, np.float32(0))
        object.__setattr__(self, "rgb", np.ascontiguousarray(self.rgb))
        object.__setattr__(self, "depth", np.ascontiguousarray(depth, dtype=np.float32))
        object.__setattr__(self, "labels", labels)


def depth_mm_to_m(depth: NDArray[np.uint16]) -> NDArray[np.float32]:
    """Convert 16-bit depth (H, W) in millimetres to float32 metres; 0 stays invalid.

    Raises:
        FrameError: the image is not 16-bit, so that its unit is not known.
    """
    if depth.dtype != np.uint16:
        raise FrameError(f"depth is {depth.dtype}, expected uint16 millimetres")
    return depth * np.float32(1e-3)


def _require_array(name: str, value: Any, shape: tuple[int, ...]) -> None:
    if not isinstance(value, np.ndarray):
        raise FrameError(f"{name} is a {type(value).__name__}, expected a NumPy array")
    if value.shape != shape:
        raise FrameError(
            f"{name} has shape {value.shape}, expected {shape} from the camera's size; "
            "colour, depth and labels must be registered to one another"
        )
