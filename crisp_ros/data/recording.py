"""RGB-D recordings with labels and, where known, the truth: rosbag2 files, read without ROS.

Images may be raw or compressed as image_transport does it. The truth and the camera's place are
looked for where `recording_writer` puts them.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rosbags.rosbag2 import Reader
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from scipy.spatial.transform import Rotation

from crisp_ros.data import image_messages
from crisp_ros.data.bag_topics import IMAGE_TYPES, found_topics, role_of
from crisp_ros.data.recorded_frame import RecordedFrame, RecordingError, TrueObject

TF, TRUE_POSES, TRUE_OBJECTS = "/tf", "/ground_truth/poses", "/ground_truth/objects"
LABEL_INFO_TYPE = "vision_msgs/msg/LabelInfo"
_IMAGES = ("rgb", "depth", "segmentation")
_NANOSECONDS = 1_000_000_000
_SLOP_NS = 50_000_000
_PENDING = 30  # images kept while their partners are awaited
_LABEL_INFO_FIELDS = (
    "std_msgs/Header header\nvision_msgs/VisionClass[] class_map\nfloat32 threshold"
)
_VISION_CLASS_FIELDS = "uint16 class_id\nstring class_name"
_KINDS = "a rosbag2 folder with metadata.yaml, or an .mcap or .db3 file"


class Recording:
    """A rosbag2 folder or file, opened and checked; its frames are read when asked for.

    Args:
        path: folder with metadata.yaml, or an .mcap or .db3 file.
        topics: base names of topics, by field of `Topics`; one that is not given is that of the
            usual name, or else the only one of its kind.

    Raises:
        RecordingError: not a recording, or without one of the images or the camera info, or it is
            not clear which is which.
    """

    def __init__(self, path: str | Path, topics: Mapping[str, str] | None = None) -> None:
        self.path = Path(path)
        if not self.path.exists():
            raise RecordingError(f"{self.path}: no such recording")
        if self.path.is_dir() and not (self.path / "metadata.yaml").is_file():
            raise RecordingError(f"{self.path}: not a recording; expected {_KINDS}")
        try:
            with Reader(self.path) as reader:
                counts = {name: topic.msgcount for name, topic in reader.topics.items()}
                roles = self._roles(reader)
        except Exception as error:  # the readers of the storages raise whatever they meet
            raise RecordingError(
                f"{self.path}: not a readable recording ({error}); expected {_KINDS}"
            ) from error
        try:
            self._topics = found_topics(roles, topics or {})
        except RecordingError as error:
            raise RecordingError(f"{self.path}: {error}") from error
        self._topics.update({n: n for n in (TF, TRUE_POSES, TRUE_OBJECTS) if counts.get(n)})
        self.count = int(counts[self._topics["rgb"]])

    def frames(self) -> Iterator[RecordedFrame]:
        """Reads the frames in order; images belong together when within 50 ms of the colour image.

        Raises:
            RecordingError: an image or a calibration of an unknown kind, or no frame is complete.
        """
        roles = {name: role for role, name in self._topics.items()}
        pending: dict[str, deque] = {role: deque(maxlen=_PENDING) for role in _IMAGES}
        latest: dict[str, Any] = {}
        complete = 0
        with Reader(self.path) as reader:
            wanted = [c for c in reader.connections if c.topic in roles]
            for connection, _, raw in reader.messages(connections=wanted):
                role = roles[connection.topic]
                message = typestore().deserialize_cdr(raw, connection.msgtype)
                if role not in _IMAGES:
                    latest[role] = message
                    continue
                pending[role].append(message)
                images = _matched(pending)
                if images:
                    complete += 1
                    yield self._frame(images, latest)
        if complete == 0:
            raise RecordingError(
                f"{self.path}: no colour, depth and label image within 50 ms of one another"
            )

    def _roles(self, reader: Reader) -> dict[str, str | None]:
        """What each topic that holds a message may be good for; for images their first tells."""
        roles = {}
        for connection in reader.connections:
            if connection.msgcount == 0:
                continue
            encoding = ""
            if connection.msgtype in IMAGE_TYPES:
                _, _, raw = next(reader.messages(connections=[connection]))
                first = typestore().deserialize_cdr(raw, connection.msgtype)
                encoding = first.format if hasattr(first, "format") else first.encoding
            roles[connection.topic] = role_of(connection.msgtype, encoding)
        return roles

    def _frame(self, images: Mapping[str, Any], latest: Mapping[str, Any]) -> RecordedFrame:
        if "camera_info" not in latest:
            raise RecordingError(f"{self.path}: no camera info before the first complete frame")
        topics = self._topics
        label_names = {}
        if "label_info" in latest:
            label_names = {int(c.class_id): c.class_name for c in latest["label_info"].class_map}
        rgb = _read(image_messages.colour, images["rgb"], topics["rgb"])
        depth = _read(image_messages.depth, images["depth"], topics["depth"])
        labels = _read(image_messages.labels, images["segmentation"], topics["segmentation"])
        info = latest["camera_info"]
        shapes = (rgb.shape[:2], depth.shape, labels.shape, (info.height, info.width))
        if len(set(shapes)) > 1:
            sizes = [f"{width} x {height}" for height, width in shapes]
            raise RecordingError(
                f"{self.path}: colour is {sizes[0]} pixels, depth {sizes[1]}, labels {sizes[2]},"
                f" camera info {sizes[3]}: all have to be registered to the colour image"
            )
        return RecordedFrame(
            stamp_ns=_stamp(images["rgb"]),
            frame_id=images["rgb"].header.frame_id,
            rgb=rgb,
            depth=depth,
            labels=labels,
            intrinsics=_intrinsics(info, topics["camera_info"]),
            label_names=label_names,
            truth=_truth(latest, _stamp(images["rgb"])),
            T_world_camera=_camera_pose(latest.get(TF), images["rgb"].header),
        )


@cache
def typestore() -> Any:
    """The messages of ROS 2 Jazzy that recordings hold, as rosbags knows them."""
    store = get_typestore(Stores.ROS2_JAZZY)
    store.register(get_types_from_msg(_VISION_CLASS_FIELDS, "vision_msgs/msg/VisionClass"))
    store.register(get_types_from_msg(_LABEL_INFO_FIELDS, LABEL_INFO_TYPE))
    return store


def _read(reader: Callable[[Any], NDArray[Any]], message: Any, topic: str) -> NDArray[Any]:
    try:
        return reader(message)
    except image_messages.ImageError as error:
        raise RecordingError(f"{topic}: {error}") from error


def _from_pose(pose: Any) -> NDArray[np.float64]:
    place, q = pose.position, pose.orientation
    T = np.eye(4)
    T[:3, :3] = Rotation.from_quat([q.x, q.y, q.z, q.w]).as_matrix()
    T[:3, 3] = place.x, place.y, place.z
    return T


def _truth(latest: Mapping[str, Any], stamp_ns: int) -> tuple[TrueObject, ...]:
    """The true objects, where poses and names of this very time came before the images."""
    if TRUE_POSES not in latest or TRUE_OBJECTS not in latest:
        return ()
    poses, content = latest[TRUE_POSES], json.loads(latest[TRUE_OBJECTS].data)
    if _stamp(poses) != stamp_ns or content["stamp_ns"] != stamp_ns:
        return ()
    return tuple(
        TrueObject(int(o["label"]), o["name"], _from_pose(pose), float(o["visible_share"]))
        for o, pose in zip(content["objects"], poses.poses, strict=True)
    )


def _intrinsics(info: Any, topic: str) -> NDArray[np.float64]:
    """(3, 3) of a rectified image: P where it is set, else K.

    Raises:
        RecordingError: the camera is not calibrated, its images are not rectified, or they are a
            part of what it saw.
    """
    projection = np.asarray(info.p, np.float64).reshape(3, 4)[:, :3]
    if not info.k[0] > 0:
        raise RecordingError(f"{topic}: K is zero, so the camera is not calibrated")
    if not projection.any() and np.any(info.d):
        raise RecordingError(
            f"{topic}: lens distortion, but no projection matrix P; record rectified images"
        )
    if max(info.binning_x, info.binning_y) > 1 or info.roi.width or info.roi.height:
        raise RecordingError(f"{topic}: binning or a region of interest; record whole images")
    return projection if projection.any() else np.asarray(info.k, np.float64).reshape(3, 3)


def _camera_pose(message: Any, header: Any) -> NDArray[np.float64] | None:
    """T_world_camera from the newest transforms, where they hold the camera's at this very time."""
    for stamped in message.transforms if message is not None else ():
        same_time = (stamped.header.stamp.sec, stamped.header.stamp.nanosec) == (
            header.stamp.sec,
            header.stamp.nanosec,
        )
        if stamped.child_frame_id == header.frame_id and same_time:
            t, q = stamped.transform.translation, stamped.transform.rotation
            T = np.eye(4)
            T[:3, :3] = Rotation.from_quat([q.x, q.y, q.z, q.w]).as_matrix()
            T[:3, 3] = t.x, t.y, t.z
            return T
    return None


def _stamp(message: Any) -> int:
    stamp = message.header.stamp
    return stamp.sec * _NANOSECONDS + stamp.nanosec


def _matched(pending: dict[str, deque]) -> dict[str, Any] | None:
    """Takes out the oldest colour image that has a depth and a label image near it in time."""
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
