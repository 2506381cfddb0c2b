"""RGB-D recordings with labels and, where known, the truth: rosbag2 files, read without ROS.

Images may be raw or compressed as image_transport does it. The truth and the camera's place are
looked for where `recording_writer` puts them.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crisp_ros.data import image_encodings
from crisp_ros.data.bag_reader import LABEL_INFO_TYPE, BagReader, Damage, typestore
from crisp_ros.data.bag_topics import IMAGE_TYPES, found_topics, role_of
from crisp_ros.data.camera_calibration import CalibrationBuffer
from crisp_ros.data.image_encodings import ImageError
from crisp_ros.data.pose_messages import pose_matrix
from crisp_ros.data.recorded_frame import LeftOut, RecordedFrame, RecordingError, TrueObject
from crisp_ros.data.rgbd_messages import (
    InputError,
    InputRules,
    errors_of,
    read_camera_images,
    read_labels,
    require_size,
)

__all__ = [
    "LABEL_INFO_TYPE",
    "TF",
    "TRUE_OBJECTS",
    "TRUE_POSES",
    "Recording",
    "typestore",
]

TF, TRUE_POSES, TRUE_OBJECTS = "/tf", "/ground_truth/poses", "/ground_truth/objects"
_IMAGES = ("rgb", "depth", "segmentation")
_NANOSECONDS = 1_000_000_000
_SLOP_NS = 50_000_000
_PENDING = 30  # images kept while others of their moment are awaited
_TRIED = 50  # messages of a topic, to find out what it holds
_HOPELESS = 200  # messages or frames left out, with none to be used before


class Recording:
    """A bag, opened and checked; its frames are read when asked for.

    What is damaged or cannot be used is left out, see `left_out`; the rest is read. The rules of
    what is taken are those of the node.

    Args:
        path: rosbag2 folder, .mcap or .db3 file, or a ROS 1 .bag.
        topics: base names of topics, by field of `Topics`; one that is not given is that of the
            usual name, or else the only one of its kind.
        rules: what the messages cannot say of themselves.

    Attributes:
        count: colour images.
        left_out: what `frames` has left out, since it was called last.

    Raises:
        RecordingError: not a recording, or without one of the images or the camera info, or it is
            not clear which is which.
    """

    def __init__(
        self,
        path: str | Path,
        topics: Mapping[str, str] | None = None,
        rules: InputRules | None = None,
    ) -> None:
        self.path = Path(path)
        self._rules = rules or InputRules()
        self._bag = BagReader(self.path)
        self.left_out: list[LeftOut] = []
        try:
            self._topics = found_topics(self._roles(), topics or {})
        except RecordingError as error:
            raise RecordingError(f"{self.path}: {error}") from error
        counts = self._bag.counts
        self._topics.update({n: n for n in (TF, TRUE_POSES, TRUE_OBJECTS) if counts.get(n)})
        self.count = counts[self._topics["rgb"]]

    def frames(self) -> Iterator[RecordedFrame]:
        """Read the frames in order; images belong together when within 50 ms of the colour image.

        A frame has the calibration of its colour image's stamp, otherwise the latest before it, and
        at the beginning of a recording the first.

        Raises:
            RecordingError: no frame can be used; says what is wrong with the first.
        """
        self.left_out = []
        complete = 0
        for images, calibration, latest in self._sets():
            try:
                frame = self._frame(images, calibration, latest)
            except InputError as error:
                self._leave_out(self._topics[error.input], str(error))
                if complete == 0 and len(self.left_out) >= _HOPELESS:
                    break
                continue
            complete += 1
            yield frame
        if complete == 0:
            raise RecordingError(f"{self.path}: {self._why_none()}")

    def _sets(self) -> Iterator[tuple[dict[str, Any], Any, dict[str, Any]]]:
        """Images that belong together, their calibration, and the latest of all other messages."""
        roles = {name: role for role, name in self._topics.items()}
        pending: dict[str, deque] = {role: deque(maxlen=_PENDING) for role in _IMAGES}
        calibrations = CalibrationBuffer()
        latest: dict[str, Any] = {}
        uncalibrated: list[tuple[dict[str, Any], dict[str, Any]]] = []

        def damaged(damage: Damage) -> None:
            self._leave_out(damage.topic, damage.reason)

        self._sets_seen = 0
        for topic, _, message in self._bag.messages(list(roles), damaged):
            role = roles[topic]
            if role == "camera_info":
                calibrations.add(_stamp(message), message)
                while uncalibrated:
                    images, known = uncalibrated.pop(0)
                    yield images, message, known
                continue
            if role not in _IMAGES:
                latest[role] = message
                continue
            try:
                image_encodings.check(message, image_encodings.KINDS[role])
            except ImageError as error:
                # Before it is queued: there it could take the place of a valid one.
                self._leave_out(topic, str(error))
                continue
            pending[role].append(message)
            images = _matched(pending)
            if images is None:
                continue
            self._sets_seen += 1
            if calibrations:
                yield images, calibrations.of(_stamp(images["rgb"])), latest
            elif len(uncalibrated) < _PENDING:
                uncalibrated.append((images, dict(latest)))
            else:
                self._leave_out(self._topics["camera_info"], "no calibration for a frame")

    def _leave_out(self, topic: str, reason: str) -> None:
        self.left_out.append(LeftOut(topic, reason))

    def _why_none(self) -> str:
        if self.left_out:
            first = self.left_out[0]
            return f"no frame can be used; {first.topic}: {first.reason}"
        if self._sets_seen:
            return f"no message of {self._topics['camera_info']} can be read"
        return (
            "no colour, depth and label image within 50 ms of one another: record all three with"
            " the stamp of the colour image"
        )

    def _roles(self) -> dict[str, str | None]:
        """Return the possible role of each topic; images are classified by their first message."""
        encodings: dict[str, str] = {}
        damages: dict[str, str] = {}
        images = [topic for topic, kind in self._bag.types.items() if kind in IMAGE_TYPES]
        for image_topic in images:
            read = self._bag.messages(
                [image_topic], lambda damage: damages.setdefault(damage.topic, damage.reason)
            )
            for topic, _, message in islice(read, _TRIED):
                encodings[topic] = image_encodings.description(message)[0]
                if encodings[topic] and len(message.data):
                    break
        unreadable = [topic for topic in images if topic not in encodings]
        if unreadable and len(unreadable) == len(images):
            reason = damages.get(unreadable[0], next(iter(damages.values()), "nothing"))
            raise RecordingError(
                f"no image can be decoded; {unreadable[0]}: {reason}: expected messages serialised"
                " as CDR by `ros2 bag record` (convert others with `rosbags-convert`)"
            )
        return {
            topic: role_of(kind, encodings.get(topic, ""))
            for topic, kind in self._bag.types.items()
        }

    def _frame(
        self, images: Mapping[str, Any], calibration: Any, latest: Mapping[str, Any]
    ) -> RecordedFrame:
        # Older definitions have other fields, and then names stay unknown.
        classes = getattr(latest.get("label_info"), "class_map", ())
        label_names = {int(c.class_id): c.class_name for c in classes}
        read = read_camera_images(images["rgb"], images["depth"], calibration, self._rules)
        rgb, depth = read.rgb, read.depth
        with errors_of("segmentation"):
            labels = read_labels(images["segmentation"])
            require_size("segmentation", labels, *rgb.shape[:2])
        if (rectification := read.rectification) is not None:
            rgb, depth = rectification.colours(rgb), rectification.values(depth)
            labels = rectification.values(labels)
        return RecordedFrame(
            stamp_ns=_stamp(images["rgb"]),
            frame_id=images["rgb"].header.frame_id,
            rgb=rgb,
            depth=depth,
            labels=labels,
            intrinsics=read.camera.matrix,
            label_names=label_names,
            truth=_truth(latest, _stamp(images["rgb"])),
            T_world_camera=_camera_pose(latest.get(TF), images["rgb"].header),
        )


def _truth(latest: Mapping[str, Any], stamp_ns: int) -> tuple[TrueObject, ...]:
    """The true objects, where poses and names of this very time came before the images."""
    if TRUE_POSES not in latest or TRUE_OBJECTS not in latest:
        return ()
    poses, content = latest[TRUE_POSES], json.loads(latest[TRUE_OBJECTS].data)
    if _stamp(poses) != stamp_ns or content["stamp_ns"] != stamp_ns:
        return ()
    return tuple(
        TrueObject(
            int(o["label"]),
            o["name"],
            pose_matrix(pose.position, pose.orientation),
            float(o["visible_share"]),
        )
        for o, pose in zip(content["objects"], poses.poses, strict=True)
    )


def _camera_pose(message: Any, header: Any) -> NDArray[np.float64] | None:
    """T_world_camera from the newest transforms, where they hold the camera's at this very time."""
    for stamped in message.transforms if message is not None else ():
        same_time = (stamped.header.stamp.sec, stamped.header.stamp.nanosec) == (
            header.stamp.sec,
            header.stamp.nanosec,
        )
        if stamped.child_frame_id == header.frame_id and same_time:
            return pose_matrix(stamped.transform.translation, stamped.transform.rotation)
    return None


def _stamp(message: Any) -> int:
    stamp = message.header.stamp
    return stamp.sec * _NANOSECONDS + stamp.nanosec


def _matched(pending: dict[str, deque]) -> dict[str, Any] | None:
    """Take out the oldest colour image that has a depth and a label image near it in time."""
    for colour in pending["rgb"]:
        stamp = _stamp(colour)
        chosen = {"rgb": colour}
        for role in ("depth", "segmentation"):
            near = [m for m in pending[role] if abs(_stamp(m) - stamp) <= _SLOP_NS]
            if near:
                chosen[role] = min(near, key=lambda m: abs(_stamp(m) - stamp))
        if len(chosen) == len(_IMAGES):
            for role in _IMAGES:
                queue = pending[role]
                while queue and queue.popleft() is not chosen[role]:
                    pass
            return chosen
    return None
