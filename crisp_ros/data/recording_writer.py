"""Writes recordings: rosbag2 folders (MCAP) that ROS tools and `Recording` read.

Images are compressed the way image_transport does it:

    /rgb/image_rect_color/compressed                JPEG
    /depth_registered/image_rect/compressedDepth    PNG, 16UC1 millimetres
    /segmentation/compressed                        PNG, one value an object, 0 the background
    /rgb/camera_info, /label_info, /tf
    /ground_truth/poses       geometry_msgs/PoseArray, camera frame, in the order of
    /ground_truth/objects     std_msgs/String, JSON: label, name and visible share of each
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from rosbags.rosbag2 import StoragePlugin, Writer
from scipy.spatial.transform import Rotation

from crisp_ros.data.bag_topics import Topics
from crisp_ros.data.image_messages import DEPTH_HEADER
from crisp_ros.data.recorded_frame import WORLD_FRAME, RecordedFrame, RecordingError
from crisp_ros.data.recording import LABEL_INFO_TYPE, TF, TRUE_OBJECTS, TRUE_POSES, typestore

_NANOSECONDS = 1_000_000_000


def write_recording(
    folder: str | Path, frames: Iterable[RecordedFrame], jpeg_quality: int = 90
) -> None:
    """Write frames as a rosbag2 folder (MCAP). Depth must be uint16 millimetres.

    Raises:
        RecordingError: the folder exists, or a frame has another kind of depth.
    """
    folder = Path(folder)
    if folder.exists():
        raise RecordingError(f"{folder} exists already; remove it or choose another name")
    try:
        _write(folder, frames, jpeg_quality)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)  # half a recording is none
        raise


def _write(folder: Path, frames: Iterable[RecordedFrame], jpeg_quality: int) -> None:
    store = typestore()
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
        yield TF, kinds["tf2_msgs/msg/TFMessage"]([transform])
    yield topics.camera_info, _camera_info(store, header, frame)
    if frame.truth:
        pose_list = [_pose(store, true.T_camera_object) for true in frame.truth]
        yield TRUE_POSES, kinds["geometry_msgs/msg/PoseArray"](header, pose_list)
        content = {
            "stamp_ns": frame.stamp_ns,
            "objects": [
                {"label": t.label, "name": t.name, "visible_share": round(t.visible_share, 4)}
                for t in frame.truth
            ],
        }
        yield TRUE_OBJECTS, kinds["std_msgs/msg/String"](json.dumps(content))
    bgr = cv2.cvtColor(frame.rgb, cv2.COLOR_RGB2BGR)
    jpeg = _encoded(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    yield topics.rgb + "/compressed", image(header, "rgb8; jpeg compressed bgr8", jpeg)
    png = _encoded(".png", frame.depth, [cv2.IMWRITE_PNG_COMPRESSION, 9])
    png = np.concatenate([np.zeros(DEPTH_HEADER, np.uint8), png])
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
    return store.types[LABEL_INFO_TYPE](header, classes, 0.0)


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
