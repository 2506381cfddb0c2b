"""RGB-D recordings with labels and, where known, the truth: rosbag2 files, read without ROS.

Images are compressed the way image_transport does it, so that ROS tools play them too:

    /rgb/image_rect_color/compressed                JPEG
    /depth_registered/image_rect/compressedDepth    PNG, 16UC1 millimetres
    /segmentation/compressed                        PNG, one value an object, 0 the background
    /rgb/camera_info, /label_info, /tf
    /ground_truth/poses       geometry_msgs/PoseArray, camera frame, in the order of
    /ground_truth/objects     std_msgs/String, JSON: label, name and visible share of each
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from rosbags.rosbag2 import Reader, StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from scipy.spatial.transform import Rotation

from crisp_ros.data.bop import BopDataset

WORLD_FRAME = "table"
_NANOSECONDS = 1_000_000_000
_SLOP_NS = 50_000_000
_PENDING = 30  # images kept while their partners are awaited
_DEPTH_HEADER = 12  # bytes of configuration that image_transport puts before the PNG
_COLOUR_CODES = {
    "rgb8": None,
    "bgr8": cv2.COLOR_BGR2RGB,
    "rgba8": cv2.COLOR_RGBA2RGB,
    "bgra8": cv2.COLOR_BGRA2RGB,
    "mono8": cv2.COLOR_GRAY2RGB,
    "8UC1": cv2.COLOR_GRAY2RGB,
    "8UC3": cv2.COLOR_BGR2RGB,
}
_PIXELS = {
    "rgb8": ("u1", 3), "bgr8": ("u1", 3), "8UC3": ("u1", 3), "rgba8": ("u1", 4), "bgra8": ("u1", 4),
    "mono8": ("u1", 1), "8UC1": ("u1", 1), "mono16": ("u2", 1), "16UC1": ("u2", 1),
    "32SC1": ("i4", 1), "32FC1": ("f4", 1),
}  # fmt: skip
_LABEL_INFO = "vision_msgs/msg/LabelInfo"
_LABEL_INFO_FIELDS = (
    "std_msgs/Header header\nvision_msgs/VisionClass[] class_map\nfloat32 threshold"
)
_VISION_CLASS_FIELDS = "uint16 class_id\nstring class_name"


class RecordingError(ValueError):
    """A recording that cannot be read or written; says which topic or file, and what it needs."""


@dataclass(frozen=True)
class TrueObject:
    """One object as it really is: T_camera_object (4, 4), metres; visible_share of its silhouette,
    0 to 1, NaN where unknown."""

    label: int
    name: str
    T_camera_object: NDArray[np.float64]
    visible_share: float = float("nan")


@dataclass(frozen=True)
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


class Topics(NamedTuple):
    """Base names of the topics of a recording, without image_transport's suffixes."""

    rgb: str = "/rgb/image_rect_color"
    depth: str = "/depth_registered/image_rect"
    segmentation: str = "/segmentation"
    camera_info: str = "/rgb/camera_info"
    label_info: str = "/label_info"


_TF = "/tf"
_TRUE_POSES, _TRUE_OBJECTS = "/ground_truth/poses", "/ground_truth/objects"
_IMAGES = ("rgb", "depth", "segmentation")


def write_recording(
    folder: str | Path, frames: Iterable[RecordedFrame], jpeg_quality: int = 90
) -> None:
    """Writes frames as a rosbag2 folder (MCAP). Depth must be uint16 millimetres.

    Raises:
        RecordingError: the folder exists, or a frame has another kind of depth.
    """
    folder = Path(folder)
    if folder.exists():
        raise RecordingError(f"{folder} exists already; remove it or choose another name")
    store = _typestore()
    with Writer(folder, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connections: dict[str, Any] = {}

        def send(topic: str, stamp_ns: int, message: Any) -> None:
            kind = message.__msgtype__
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=store)
            writer.write(connections[topic], stamp_ns, store.serialize_cdr(message, kind))

        for index, frame in enumerate(frames):
            if index == 0:
                send(Topics().label_info, frame.stamp_ns, _label_info(store, frame))
            # A reader finds the truth and the camera before the images, whose stamp they share.
            for after, (topic, message) in enumerate(_messages(store, frame, jpeg_quality)):
                send(topic, frame.stamp_ns + after, message)


class Recording:
    """A rosbag2 folder or file, opened and checked; its frames are read when asked for.

    Args:
        path: folder with metadata.yaml, or an .mcap or .db3 file.
        topics: where its images are.

    Raises:
        RecordingError: not a recording, or without one of the images or the camera info.
    """

    def __init__(self, path: str | Path, topics: Topics | None = None) -> None:
        self.path = Path(path)
        if not self.path.exists():
            raise RecordingError(f"{self.path}: no such recording")
        self._store = _typestore()
        try:
            with Reader(self.path) as reader:
                counts = {name: (t.msgtype, t.msgcount) for name, t in reader.topics.items()}
        except Exception as error:  # the readers of both storages raise their own kinds
            raise RecordingError(f"{self.path}: not a readable rosbag2 ({error})") from error
        self._names = {
            role: _found(counts, role, name)
            for role, name in (topics or Topics())._asdict().items()
            if role in (*_IMAGES, "camera_info") or name in counts
        }
        missing = [role for role, name in self._names.items() if name is None]
        if missing:
            wanted = ", ".join(f"{role} ({getattr(topics or Topics(), role)})" for role in missing)
            raise RecordingError(f"{self.path}: no topic for {wanted}; it has {', '.join(counts)}")
        self._names.update({n: n for n in (_TF, _TRUE_POSES, _TRUE_OBJECTS) if n in counts})
        self.count = int(counts[self._names["rgb"]][1])

    def frames(self) -> Iterator[RecordedFrame]:
        """Reads the frames in order; images belong together when within 50 ms of the colour image.

        Raises:
            RecordingError: an image of an unknown encoding, or no frame that is complete.
        """
        roles = {name: role for role, name in self._names.items()}
        pending: dict[str, deque] = {role: deque(maxlen=_PENDING) for role in _IMAGES}
        latest: dict[str, Any] = {}
        complete = 0
        with Reader(self.path) as reader:
            wanted = [c for c in reader.connections if c.topic in roles]
            for connection, _, raw in reader.messages(connections=wanted):
                role = roles[connection.topic]
                message = self._store.deserialize_cdr(raw, connection.msgtype)
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

    def _frame(self, images: Mapping[str, Any], latest: Mapping[str, Any]) -> RecordedFrame:
        if "camera_info" not in latest:
            raise RecordingError(f"{self.path}: no camera info before the first complete frame")
        names = self._names
        info = latest["camera_info"]
        label_names = {}
        if "label_info" in latest:
            label_names = {int(c.class_id): c.class_name for c in latest["label_info"].class_map}
        return RecordedFrame(
            stamp_ns=_stamp(images["rgb"]),
            frame_id=images["rgb"].header.frame_id,
            rgb=_colour(images["rgb"], names["rgb"]),
            depth=_depth(images["depth"], names["depth"]),
            labels=_labels(images["segmentation"], names["segmentation"]),
            intrinsics=_intrinsics(info),
            label_names=label_names,
            truth=_truth(latest, _stamp(images["rgb"])),
            T_world_camera=_camera_pose(latest.get(_TF), images["rgb"].header),
        )


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


@cache
def _typestore() -> Any:
    store = get_typestore(Stores.ROS2_JAZZY)
    store.register(get_types_from_msg(_VISION_CLASS_FIELDS, "vision_msgs/msg/VisionClass"))
    store.register(get_types_from_msg(_LABEL_INFO_FIELDS, _LABEL_INFO))
    return store


def _messages(store: Any, frame: RecordedFrame, quality: int) -> Iterator[tuple[str, Any]]:
    """The messages of one frame, by topic."""
    if frame.depth.dtype != np.uint16:
        raise RecordingError(
            f"depth must be uint16 millimetres to be stored, not {frame.depth.dtype}"
        )
    kinds = store.types
    image = kinds["sensor_msgs/msg/CompressedImage"]
    header = _header(store, frame.stamp_ns, frame.frame_id)
    topics = Topics()
    if frame.T_world_camera is not None:
        transform = kinds["geometry_msgs/msg/TransformStamped"](
            _header(store, frame.stamp_ns, WORLD_FRAME),
            frame.frame_id,
            _transform(store, frame.T_world_camera),
        )
        yield _TF, kinds["tf2_msgs/msg/TFMessage"]([transform])
    yield topics.camera_info, _camera_info(store, header, frame)
    if frame.truth:
        pose_list = [_pose(store, true.T_camera_object) for true in frame.truth]
        yield _TRUE_POSES, kinds["geometry_msgs/msg/PoseArray"](header, pose_list)
        content = {
            "stamp_ns": frame.stamp_ns,
            "objects": [
                {"label": t.label, "name": t.name, "visible_share": round(t.visible_share, 4)}
                for t in frame.truth
            ],
        }
        yield _TRUE_OBJECTS, kinds["std_msgs/msg/String"](json.dumps(content))
    bgr = cv2.cvtColor(frame.rgb, cv2.COLOR_RGB2BGR)
    jpeg = _encoded(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    yield topics.rgb + "/compressed", image(header, "rgb8; jpeg compressed bgr8", jpeg)
    png = _encoded(".png", frame.depth, [cv2.IMWRITE_PNG_COMPRESSION, 9])
    png = np.concatenate([np.zeros(_DEPTH_HEADER, np.uint8), png])
    yield topics.depth + "/compressedDepth", image(header, "16UC1; compressedDepth png", png)
    labels = frame.labels.astype(np.uint8 if frame.labels.max(initial=0) < 256 else np.uint16)
    encoding = "mono8" if labels.dtype == np.uint8 else "mono16"
    png = _encoded(".png", labels, [cv2.IMWRITE_PNG_COMPRESSION, 9])
    format_name = f"{encoding}; png compressed {encoding}"
    yield topics.segmentation + "/compressed", image(header, format_name, png)


def _encoded(kind: str, image: NDArray[Any], options: list[int]) -> NDArray[np.uint8]:
    done, data = cv2.imencode(kind, image, options)
    if not done:
        raise RecordingError(f"OpenCV could not write a {kind[1:]} of {image.shape} {image.dtype}")
    return data.reshape(-1)


def _header(store: Any, stamp_ns: int, frame_id: str) -> Any:
    time = store.types["builtin_interfaces/msg/Time"](*divmod(stamp_ns, _NANOSECONDS))
    return store.types["std_msgs/msg/Header"](time, frame_id)


def _camera_info(store: Any, header: Any, frame: RecordedFrame) -> Any:
    height, width = frame.depth.shape
    k = frame.intrinsics
    return store.types["sensor_msgs/msg/CameraInfo"](
        header=header,
        height=height,
        width=width,
        distortion_model="plumb_bob",
        d=np.zeros(5),
        k=k.ravel(),
        r=np.eye(3).ravel(),
        p=np.hstack([k, np.zeros((3, 1))]).ravel(),
        binning_x=0,
        binning_y=0,
        roi=store.types["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False),
    )


def _label_info(store: Any, frame: RecordedFrame) -> Any:
    kind = store.types["vision_msgs/msg/VisionClass"]
    classes = [kind(label, name) for label, name in sorted(frame.label_names.items())]
    header = _header(store, frame.stamp_ns, frame.frame_id)
    return store.types[_LABEL_INFO](header, classes, 0.0)


def _transform(store: Any, T: NDArray[np.float64]) -> Any:
    kinds = store.types
    return kinds["geometry_msgs/msg/Transform"](
        kinds["geometry_msgs/msg/Vector3"](*T[:3, 3].tolist()),
        kinds["geometry_msgs/msg/Quaternion"](*Rotation.from_matrix(T[:3, :3]).as_quat().tolist()),
    )


def _pose(store: Any, T: NDArray[np.float64]) -> Any:
    kinds = store.types
    return kinds["geometry_msgs/msg/Pose"](
        kinds["geometry_msgs/msg/Point"](*T[:3, 3].tolist()),
        kinds["geometry_msgs/msg/Quaternion"](*Rotation.from_matrix(T[:3, :3]).as_quat().tolist()),
    )


def _from_pose(pose: Any) -> NDArray[np.float64]:
    place, q = pose.position, pose.orientation
    T = np.eye(4)
    T[:3, :3] = Rotation.from_quat([q.x, q.y, q.z, q.w]).as_matrix()
    T[:3, 3] = place.x, place.y, place.z
    return T


def _truth(latest: Mapping[str, Any], stamp_ns: int) -> tuple[TrueObject, ...]:
    """The true objects, where poses and names of this very time came before the images."""
    if _TRUE_POSES not in latest or _TRUE_OBJECTS not in latest:
        return ()
    poses, content = latest[_TRUE_POSES], json.loads(latest[_TRUE_OBJECTS].data)
    if _stamp(poses) != stamp_ns or content["stamp_ns"] != stamp_ns:
        return ()
    return tuple(
        TrueObject(int(o["label"]), o["name"], _from_pose(pose), float(o["visible_share"]))
        for o, pose in zip(content["objects"], poses.poses, strict=True)
    )


def _intrinsics(info: Any) -> NDArray[np.float64]:
    """(3, 3) of a rectified image: P where it is set, else K."""
    projection = np.asarray(info.p, np.float64).reshape(3, 4)[:, :3]
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


def _found(counts: Mapping[str, tuple], role: str, name: str) -> str | None:
    """The topic of a role: the name itself, or with a suffix of image_transport."""
    suffixes = {"rgb": ("", "/compressed"), "depth": ("", "/compressedDepth", "/compressed"),
                "segmentation": ("", "/compressed")}  # fmt: skip
    for suffix in suffixes.get(role, ("",)):
        if counts.get(name + suffix, (None, 0))[1] > 0:
            return name + suffix
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


def _pixels(message: Any, topic: str) -> NDArray[Any]:
    """A raw sensor_msgs/Image as an array, whatever its row length and byte order."""
    if message.encoding not in _PIXELS:
        raise RecordingError(
            f"{topic}: encoding {message.encoding!r} is not supported; expected one of"
            f" {', '.join(_PIXELS)}"
        )
    kind, channels = _PIXELS[message.encoding]
    dtype = np.dtype((">" if message.is_bigendian else "<") + kind)
    row = message.width * channels * dtype.itemsize
    data = np.frombuffer(message.data, np.uint8)
    if message.step < row or data.size < message.height * message.step:
        raise RecordingError(
            f"{topic}: {data.size} bytes do not hold {message.width} x {message.height} pixels"
            f" of {message.encoding}"
        )
    data = data[: message.height * message.step].reshape(message.height, message.step)[:, :row]
    image = np.ascontiguousarray(data).view(dtype).astype(dtype.newbyteorder("="))
    return image.reshape(message.height, message.width, channels).squeeze(
        -1 if channels == 1 else ()
    )


def _decoded(message: Any, topic: str, skip: int = 0) -> NDArray[Any]:
    image = cv2.imdecode(np.asarray(message.data, np.uint8)[skip:], cv2.IMREAD_UNCHANGED)
    if image is None:
        raise RecordingError(f"{topic}: an image of format {message.format!r} cannot be decoded")
    return image


def _colour(message: Any, topic: str) -> NDArray[np.uint8]:
    if hasattr(message, "format"):
        image = _decoded(message, topic)
        if image.dtype != np.uint8:
            raise RecordingError(f"{topic}: expected 8 bits a channel, got {image.dtype}")
        if image.ndim == 2:
            return cv2.cvtColor(image, cv2.COLOR_GRAY2RGB)
        return cv2.cvtColor(image[..., :3], cv2.COLOR_BGR2RGB)
    image = _pixels(message, topic)
    if message.encoding not in _COLOUR_CODES:
        raise RecordingError(f"{topic}: {message.encoding} is not a colour encoding")
    code = _COLOUR_CODES[message.encoding]
    return image if code is None else cv2.cvtColor(image, code)


def _depth(message: Any, topic: str) -> NDArray[Any]:
    if hasattr(message, "format"):
        wrapped = "compressedDepth" in message.format
        image = _decoded(message, topic, _DEPTH_HEADER if wrapped else 0)
        if wrapped and message.format.startswith("32FC1"):
            # image_transport stores a / depth + b in 16 bits; a and b are in the header.
            a, b = np.frombuffer(bytes(message.data[4:_DEPTH_HEADER]), "<f4")
            image = np.where(image > 0, a / np.maximum(image.astype(np.float32) - b, 1e-6), 0.0)
            return image.astype(np.float32)
    else:
        image = _pixels(message, topic)
    if image.ndim != 2 or image.dtype not in (np.uint16, np.float32):
        raise RecordingError(
            f"{topic}: expected depth as 16UC1 (millimetres) or 32FC1 (metres), got {image.dtype}"
        )
    return image


def _labels(message: Any, topic: str) -> NDArray[Any]:
    image = _decoded(message, topic) if hasattr(message, "format") else _pixels(message, topic)
    if image.ndim != 2 or image.dtype.kind not in "ui":
        raise RecordingError(
            f"{topic}: expected a label image (mono8, 16UC1 or 32SC1), got {image.shape}"
            f" {image.dtype}"
        )
    return image
