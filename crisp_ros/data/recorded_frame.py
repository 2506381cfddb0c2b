"""One moment of an RGB-D recording: images, labels, calibration and, where known, the truth."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crisp_ros.data.bop import BopDataset

WORLD_FRAME = "table"
_NANOSECONDS = 1_000_000_000


class RecordingError(ValueError):
    """A recording that cannot be read or written; says which topic or file, and what it needs."""


@dataclass(frozen=True, eq=False)
class TrueObject:
    """One object as it really is: T_camera_object (4, 4), metres; visible_share of its silhouette,
    0 to 1, NaN where unknown."""

    label: int
    name: str
    T_camera_object: NDArray[np.float64]
    visible_share: float = float("nan")


@dataclass(frozen=True, eq=False)
class RecordedFrame:
    """One moment of a recording.

    Attributes:
        stamp_ns: of the colour image, nanoseconds.
        frame_id: camera optical frame (x right, y down, z forward).
        rgb: (H, W, 3) uint8.
        depth: (H, W) registered to rgb: uint16 millimetres, 0 unknown; or float32 metres.
        labels: (H, W) uint8, uint16 or int32, 0 for the background.
        intrinsics: (3, 3) pixels, rectified; integer coordinates at pixel centres.
        label_names: class name by label, where known.
        truth: the visible objects, where known.
        T_world_camera: (4, 4) where the camera is, where known.
    """

    stamp_ns: int
    frame_id: str
    rgb: NDArray[np.uint8]
    depth: NDArray[Any]
    labels: NDArray[Any]
    intrinsics: NDArray[np.float64]
    label_names: Mapping[int, str] = field(default_factory=dict)
    truth: tuple[TrueObject, ...] = ()
    T_world_camera: NDArray[np.float64] | None = None


def bop_frames(dataset: BopDataset, interval_s: float = 1.0) -> Iterator[RecordedFrame]:
    """The images of a data set as frames, with depth in float32 metres: nothing is rounded."""
    for index, frame in enumerate(dataset.frames(), start=1):
        truth = tuple(
            TrueObject(
                instance.label,
                dataset.models[instance.obj_id].name,
                instance.T_camera_object,
                float("nan") if instance.visible_share is None else instance.visible_share,
            )
            for instance in frame.instances
        )
        yield RecordedFrame(
            stamp_ns=round(index * interval_s * _NANOSECONDS),
            frame_id="camera_optical_frame",
            rgb=frame.rgb,
            depth=frame.depth,
            labels=frame.labels,
            intrinsics=frame.intrinsics,
            label_names={true.label: true.name for true in truth},
            truth=truth,
        )
