"""One moment of an RGB-D recording: images, labels, calibration and, where known, the truth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from crisp_ros.data.bop import BopDataset, BopFrame
from crisp_ros.data.files import DatasetError

WORLD_FRAME = "table"
_NANOSECONDS = 1_000_000_000
_LISTED = 5  # reasons for which something was left out


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


@dataclass(frozen=True)
class LeftOut:
    """A message or a frame of a recording that cannot be used.

    Attributes:
        topic: at fault, "" where it is not known.
        reason: why.
    """

    topic: str
    reason: str


def left_out_text(left_out: Sequence[LeftOut]) -> str:
    """Summarise what was left out, the most frequent reasons first."""
    reasons = Counter(f"{one.topic}: {one.reason}" if one.topic else one.reason for one in left_out)
    listed = [f"{count} x {reason}" for reason, count in reasons.most_common(_LISTED)]
    more = f"; and {len(reasons) - _LISTED} more reasons" if len(reasons) > _LISTED else ""
    noun = "message or frame" if len(left_out) == 1 else "messages or frames"
    return f"{len(left_out)} {noun} left out: {'; '.join(listed)}{more}"


class FrameSource(Protocol):
    """Frames that can be read again and again.

    Attributes:
        count: most frames that there are.
        left_out: what `frames` has left out, since it was called last.
    """

    count: int
    left_out: list[LeftOut]

    def frames(self) -> Iterator[RecordedFrame]:
        """Read them in order."""


class DatasetFrames:
    """The images of a data set as frames, without those that cannot be read.

    Args:
        dataset: its images.
        interval_s: between their stamps.

    Attributes:
        count: images.
        left_out: what `frames` has left out, since it was called last.
    """

    def __init__(self, dataset: BopDataset, interval_s: float = 1.0) -> None:
        self._dataset, self._interval_s = dataset, interval_s
        self.count = len(dataset.images)
        self.left_out: list[LeftOut] = []

    def frames(self) -> Iterator[RecordedFrame]:
        """Read them one after the other.

        Raises:
            DatasetError: not one can be used; says what is wrong with the first.
        """
        self.left_out = []
        for index, image in enumerate(self._dataset.images, start=1):
            try:
                frame = self._dataset.frame(image)
            except DatasetError as error:
                self.left_out.append(LeftOut("", str(error)))
                continue
            yield _recorded(self._dataset, frame, index, self._interval_s)
        if len(self.left_out) == self.count:
            raise DatasetError(f"no image can be used; {self.left_out[0].reason}")


def bop_frames(dataset: BopDataset, interval_s: float = 1.0) -> Iterator[RecordedFrame]:
    """The images of a data set as frames, with depth in float32 metres: nothing is rounded.

    Where the camera is stays unknown: each scene has a world of its own.
    """
    for index, frame in enumerate(dataset.frames(), start=1):
        yield _recorded(dataset, frame, index, interval_s)


def scene_frames(
    dataset: BopDataset,
    scene_id: int,
    interval_s: float = 1.0,
    on_frame: Callable[[int, int], None] = lambda done, total: None,
) -> Iterator[RecordedFrame]:
    """Yield the frames of one scene like `bop_frames`, with the camera pose if it is known.

    An object has the same label in all images; `label_names` are those of the whole scene.

    Raises:
        DatasetError: no image of this scene.
    """
    images = [image for image in dataset.images if image.scene_id == scene_id]
    if not images:
        known = ", ".join(str(i) for i in sorted({image.scene_id for image in dataset.images}))
        raise DatasetError(f"{dataset.folder / dataset.split}: no scene {scene_id}; it has {known}")
    occurrences = {image: _occurrences(dataset.object_ids(image)) for image in images}
    everything = sorted({one for found in occurrences.values() for one in found})
    numbers = {one: number for number, one in enumerate(everything, start=1)}
    names = {numbers[one]: _name(dataset, one.obj_id) for one in everything}
    for index, image in enumerate(images, start=1):
        frame = dataset.frame(image)
        labels = np.array([0, *(numbers[one] for one in occurrences[image])], np.int32)
        instances = (replace(i, label=int(labels[i.label])) for i in frame.instances)
        frame = replace(frame, labels=labels[frame.labels], instances=tuple(instances))
        recorded = _recorded(dataset, frame, index, interval_s)
        yield replace(recorded, label_names=names, T_world_camera=frame.T_world_camera)
        on_frame(index, len(images))


class _Occurrence(NamedTuple):
    """An object of a scene: the first, second, ... of its kind."""

    obj_id: int
    which: int


def _occurrences(obj_ids: Sequence[int]) -> list[_Occurrence]:
    return [
        _Occurrence(obj_id, obj_ids[:index].count(obj_id)) for index, obj_id in enumerate(obj_ids)
    ]


def depth_in_millimetres(depth: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Depth (H, W) metres rounded to whole millimetres; what is beyond 65.5 m becomes unknown."""
    millimetres = np.rint(1e3 * depth.astype(np.float64))
    return np.where(millimetres <= 65535, millimetres, 0).astype(np.uint16)


def _recorded(dataset: BopDataset, frame: BopFrame, index: int, interval_s: float) -> RecordedFrame:
    truth = tuple(
        TrueObject(
            instance.label,
            _name(dataset, instance.obj_id),
            instance.T_camera_object,
            float("nan") if instance.visible_share is None else instance.visible_share,
        )
        for instance in frame.instances
    )
    return RecordedFrame(
        stamp_ns=round(index * interval_s * _NANOSECONDS),
        frame_id="camera_optical_frame",
        rgb=frame.rgb,
        depth=frame.depth,
        labels=frame.labels,
        intrinsics=frame.intrinsics,
        label_names={true.label: true.name for true in truth},
        truth=truth,
    )


def _name(dataset: BopDataset, obj_id: int) -> str:
    if obj_id not in dataset.models:
        path = dataset.folder / "models" / "models_info.json"
        raise DatasetError(f"{path}: no model {obj_id}, but an image shows it")
    return dataset.models[obj_id].name
