"""The executable `crisp_player`: plays a recording in step with the node and notes its answers.

Every frame is answered before the next one is sent, so that none is lost however slow the machine.
With the parameter `results` it leaves in that folder

    results.jsonl         one JSON object a line, of kind state, mesh, frame, end or error
    meshes/ID_V.npz       version V of an object's surface: vertices (V, 3), faces (F, 3)
    overlays/IIII.jpg     what the node drew into frame I
"""

from __future__ import annotations

import array
import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import rclpy
from geometry_msgs.msg import PoseArray
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from numpy.typing import NDArray
from rcl_interfaces.msg import ParameterDescriptor
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.time import Time
from rclpy.utilities import try_shutdown
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header
from tf2_ros import TransformBroadcaster
from vision_msgs.msg import LabelInfo, VisionClass

from crisp_ros.data.bop import BopDataset, DatasetError
from crisp_ros.data.recording import (
    WORLD_FRAME,
    RecordedFrame,
    Recording,
    RecordingError,
    Topics,
    bop_frames,
)
from crisp_ros.msg import ObjectEstimate, ObjectEstimateArray, ObjectMesh
from crisp_ros.node.inputs import IMAGE_TOPICS, LABEL_INFO_TOPIC
from crisp_ros.node.inputs import TOPICS as INPUT_TOPICS
from crisp_ros.node.messages import pose, transform

_ENCODINGS = {"uint8": "mono8", "uint16": "16UC1", "int32": "32SC1", "float32": "32FC1"}
_BOP_INTERVAL_S = 10.0  # unrelated images: longer than the node remembers an object
_SERVICE_TIMEOUT_S = 20.0
_OVERLAY_TIMEOUT_S = 20.0
_TRANSITIONS = {
    State.PRIMARY_STATE_UNCONFIGURED: (Transition.TRANSITION_CONFIGURE, "configure"),
    State.PRIMARY_STATE_INACTIVE: (Transition.TRANSITION_ACTIVATE, "activate"),
}


class PlayError(Exception):
    """The node did not do its part; the message says what was awaited."""


@dataclass(frozen=True)
class Options:
    """The parameters, by name.

    Attributes:
        recording: rosbag2 folder or file to play.
        bop: folder in the BOP layout, played instead of a recording.
        frames: most frames to play; 0 plays all.
        loop: begin again at the end.
        rate: most frames a second; 0 goes as fast as the node answers.
        timeout: seconds to wait for the node: until it is there, ready, and for each answer.
        estimator: name of the node that answers.
        bring_up: configure and activate it first.
        results: folder for the answers; empty for none.
        rgb_topic and the like: in the recording.
    """

    recording: str = ""
    bop: str = ""
    frames: int = 0
    loop: bool = False
    rate: float = 0.0
    timeout: float = 60.0
    estimator: str = "crisp"
    bring_up: bool = False
    results: str = ""
    rgb_topic: str = Topics().rgb
    depth_topic: str = Topics().depth
    segmentation_topic: str = Topics().segmentation
    camera_info_topic: str = Topics().camera_info
    label_info_topic: str = Topics().label_info

    def played(self) -> Iterator[RecordedFrame]:
        """The frames to play, once.

        Raises:
            RecordingError, DatasetError: they cannot be read.
        """
        if bool(self.recording) == bool(self.bop):
            raise RecordingError("name what to play: the parameter recording, or bop")
        if self.bop:
            frames = bop_frames(BopDataset(self.bop), _BOP_INTERVAL_S)
        else:
            topics = {role: getattr(self, f"{role}_topic") for role in Topics._fields}
            frames = Recording(self.recording, Topics(**topics)).frames()
        return islice(frames, self.frames) if self.frames > 0 else frames


class Player(Node):
    """Sends frames and waits for their estimates."""

    def __init__(self) -> None:
        """Declares the parameters; `play` does the work."""
        super().__init__("crisp_player")
        self.options = self._declared()
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self)
        self._results = _Results(Path(self.options.results)) if self.options.results else None
        self._estimates: dict[int, tuple[ObjectEstimateArray, float]] = {}
        self._overlays: dict[int, Image] = {}
        self._images = {
            role: self.create_publisher(Image, topic, 5) for role, topic in IMAGE_TOPICS.items()
        }
        self._camera_info = self.create_publisher(CameraInfo, INPUT_TOPICS["camera_info"], 5)
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._label_info = self.create_publisher(LabelInfo, LABEL_INFO_TOPIC, latched)
        self._truth = self.create_publisher(PoseArray, "ground_truth/poses", 5)
        self._broadcaster = TransformBroadcaster(self)
        estimator = self.options.estimator
        self.create_subscription(
            ObjectEstimateArray, f"{estimator}/objects", self._estimates_received, 10
        )
        if self._results:
            self.create_subscription(Image, f"{estimator}/overlay", self._overlay_received, 2)
            latched = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)
            self.create_subscription(ObjectMesh, f"{estimator}/meshes", self._results.mesh, latched)

    def play(self) -> int:
        """Plays everything and returns the number of frames that were answered.

        Raises:
            PlayError: the node is not there, cannot be activated, or has never answered.
            RecordingError, DatasetError: what should be played cannot be read.
        """
        options = self.options
        first = next(options.played(), None)
        if first is None:
            raise RecordingError("there is no frame to play")
        self._publish_label_names(first)
        if options.bring_up:
            self._bring_up()
        self._state("waiting for the node to listen")
        self._await(self._is_heard, f"/{options.estimator} to subscribe to the images")
        self._state("playing")
        sent = answered = 0
        offset_ns = self.get_clock().now().nanoseconds - first.stamp_ns
        while True:
            last_ns = 0
            for index, frame in enumerate(options.played(), start=sent):
                began = time.monotonic()
                last_ns = frame.stamp_ns + offset_ns
                answered += self._play_frame(index, replace(frame, stamp_ns=last_ns))
                sent += 1
                if answered == 0:
                    raise PlayError(
                        f"/{options.estimator} did not answer a frame within {options.timeout:g} s;"
                        " its diagnostics say why"
                    )
                if options.rate > 0.0:
                    self._pause(1.0 / options.rate - (time.monotonic() - began))
            if not options.loop:
                return answered
            offset_ns = last_ns + 1_000_000_000 - first.stamp_ns

    def note_end(self, answered: int) -> None:
        """Notes that all was played, and with how many answers."""
        if self._results:
            self._pause(0.5)  # the last meshes
            self._results.note({"kind": "end", "answered": answered})

    def note_error(self, text: str) -> None:
        """Notes why nothing more comes."""
        if self._results:
            self._results.note({"kind": "error", "text": text})

    def _declared(self) -> Options:
        descriptions = _descriptions()
        values = {
            name: self.declare_parameter(
                name, default, ParameterDescriptor(description=descriptions[name])
            ).value
            for name, default in vars(Options()).items()
        }
        return Options(**values)

    def _play_frame(self, index: int, frame: RecordedFrame) -> bool:
        """Sends one frame; whether it was answered in time."""
        stamp = frame.stamp_ns
        sent = time.monotonic()
        self._publish(frame)
        answered = self._spin_until(lambda: stamp in self._estimates, self.options.timeout)
        if not answered:
            self.get_logger().warning(f"frame {index}: no answer within {self.options.timeout:g} s")
        message, received = self._estimates.pop(stamp, (None, math.nan))
        self._estimates.clear()  # late answers to frames given up
        if self._results:
            if answered:
                self._spin_until(lambda: stamp in self._overlays, _OVERLAY_TIMEOUT_S)
            self._results.frame(
                index, frame, message, 1e3 * (received - sent), self._overlays.pop(stamp, None)
            )
            self._overlays.clear()
        return answered

    def _publish(self, frame: RecordedFrame) -> None:
        header = _header(frame.stamp_ns, frame.frame_id)
        if frame.T_world_camera is not None:
            parent = _header(frame.stamp_ns, WORLD_FRAME)
            self._broadcaster.sendTransform(
                [transform(parent, frame.frame_id, frame.T_world_camera)]
            )
        if frame.truth:
            poses = [pose(true.T_camera_object) for true in frame.truth]
            self._truth.publish(PoseArray(header=header, poses=poses))
        self._camera_info.publish(_camera_info(header, frame))
        self._images["segmentation"].publish(_image(header, frame.labels))
        self._images["depth"].publish(_image(header, frame.depth))
        self._images["rgb"].publish(_image(header, frame.rgb, "rgb8"))

    def _publish_label_names(self, frame: RecordedFrame) -> None:
        classes = [VisionClass(class_id=i, class_name=n) for i, n in frame.label_names.items()]
        header = _header(frame.stamp_ns, frame.frame_id)
        self._label_info.publish(LabelInfo(header=header, class_map=classes))

    def _estimates_received(self, message: ObjectEstimateArray) -> None:
        stamp = Time.from_msg(message.header.stamp).nanoseconds
        self._estimates[stamp] = (message, time.monotonic())

    def _overlay_received(self, message: Image) -> None:
        self._overlays[Time.from_msg(message.header.stamp).nanoseconds] = message

    def _bring_up(self) -> None:
        """Takes the node from wherever it is to active."""
        name = f"/{self.options.estimator}"
        state_service = self.create_client(GetState, f"{name}/get_state")
        change_service = self.create_client(ChangeState, f"{name}/change_state")
        self._state("waiting for the node")
        self._await(state_service.service_is_ready, f"the node {name}")
        self._await(change_service.service_is_ready, f"the services of {name}")
        while True:
            answer = self._call(state_service, GetState.Request(), _SERVICE_TIMEOUT_S, name)
            if answer.current_state.id == State.PRIMARY_STATE_ACTIVE:
                return
            if answer.current_state.id not in _TRANSITIONS:
                raise PlayError(f"{name} is {answer.current_state.label} and cannot be activated")
            transition, label = _TRANSITIONS[answer.current_state.id]
            self._state(f"{label} the node")
            request = ChangeState.Request(transition=Transition(id=transition))
            if not self._call(change_service, request, self.options.timeout, name).success:
                raise PlayError(f"{name} refused to {label}; its log says why")

    def _call(self, service: Any, request: Any, timeout_s: float, name: str) -> Any:
        future = service.call_async(request)
        self._await(future.done, f"{name} to answer {service.srv_name}", timeout_s)
        return future.result()

    def _is_heard(self) -> bool:
        publishers = (*self._images.values(), self._camera_info, self._label_info)
        return all(publisher.get_subscription_count() > 0 for publisher in publishers)

    def _await(self, done: Callable[[], bool], what: str, timeout_s: float | None = None) -> None:
        timeout_s = timeout_s or self.options.timeout
        if not self._spin_until(done, timeout_s):
            raise PlayError(f"waited {timeout_s:g} s for {what}")

    def _spin_until(self, done: Callable[[], bool], timeout_s: float) -> bool:
        deadline = time.monotonic() + timeout_s
        while not done():
            left = deadline - time.monotonic()
            if left <= 0.0:
                return False
            self._executor.spin_once(min(left, 0.1))
        return True

    def _pause(self, seconds: float) -> None:
        self._spin_until(lambda: False, seconds)

    def _state(self, text: str) -> None:
        self.get_logger().info(text)
        if self._results:
            self._results.note({"kind": "state", "text": text})


class _Results:
    """A folder of answers, written as they come."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        for name in ("meshes", "overlays"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        self._file = (folder / "results.jsonl").open("a", buffering=1)

    def note(self, entry: dict[str, Any]) -> None:
        self._file.write(json.dumps(entry, allow_nan=False) + "\n")

    def mesh(self, message: ObjectMesh) -> None:
        vertices = np.array([(p.x, p.y, p.z) for p in message.mesh.vertices], np.float32)
        faces = np.array([t.vertex_indices for t in message.mesh.triangles], np.int32)
        name = f"meshes/{message.id}_{message.mesh_version}.npz"
        np.savez(self._folder / name, vertices=vertices.reshape(-1, 3), faces=faces.reshape(-1, 3))
        version = int(message.mesh_version)
        self.note({"kind": "mesh", "id": message.id, "mesh_version": version, "file": name})

    def frame(
        self,
        index: int,
        frame: RecordedFrame,
        answer: ObjectEstimateArray | None,
        round_trip_ms: float,
        overlay: Image | None,
    ) -> None:
        entry: dict[str, Any] = {
            "kind": "frame",
            "index": index,
            "stamp_ns": frame.stamp_ns,
            "round_trip_ms": _number(round_trip_ms),
            "model_version": "",
            "stage_ms": {},
            "estimates": [],
            "truth": [
                {
                    "label": true.label,
                    "name": true.name,
                    "visible_share": _number(true.visible_share),
                    "T_camera_object": true.T_camera_object.tolist(),
                }
                for true in frame.truth
            ],
            "T_world_camera": None
            if frame.T_world_camera is None
            else frame.T_world_camera.tolist(),
            "overlay": None,
        }
        if answer is not None:
            entry["model_version"] = answer.model_version
            entry["stage_ms"] = dict(
                zip(answer.stage_names, map(float, answer.stage_ms), strict=True)
            )
            entry["estimates"] = [_estimate(e) for e in answer.estimates]
        if overlay is not None:
            entry["overlay"] = f"overlays/{index:04d}.jpg"
            rgb = np.frombuffer(overlay.data, np.uint8).reshape(overlay.height, overlay.width, 3)
            bgr = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
            path = str(self._folder / entry["overlay"])
            cv2.imwrite(path, bgr, [cv2.IMWRITE_JPEG_QUALITY, 88])
        self.note(entry)


def main(arguments: Sequence[str] | None = None) -> int:
    """Plays until the end or an interruption; 0, or 1 where something was missing."""
    rclpy.init(args=arguments)
    player = Player()
    try:
        player.note_end(player.play())
        return 0
    except (KeyboardInterrupt, ExternalShutdownException):
        return 0
    except (PlayError, RecordingError, DatasetError) as error:
        player.note_error(str(error))
        print(f"crisp_player: {error}", file=sys.stderr)
        return 1
    finally:
        player.destroy_node()
        try_shutdown()


def _header(stamp_ns: int, frame_id: str) -> Header:
    return Header(stamp=Time(nanoseconds=stamp_ns).to_msg(), frame_id=frame_id)


def _image(header: Header, pixels: NDArray[Any], encoding: str | None = None) -> Image:
    """An image message; rclpy takes an array.array as it is and checks all else byte by byte."""
    height, width = pixels.shape[:2]
    pixels = np.ascontiguousarray(pixels)
    return Image(
        header=header,
        height=height,
        width=width,
        encoding=encoding or _ENCODINGS[pixels.dtype.name],
        is_bigendian=sys.byteorder == "big",
        step=pixels.nbytes // height,
        data=array.array("B", pixels.tobytes()),
    )


def _camera_info(header: Header, frame: RecordedFrame) -> CameraInfo:
    height, width = frame.depth.shape
    k = frame.intrinsics
    return CameraInfo(
        header=header,
        height=height,
        width=width,
        distortion_model="plumb_bob",
        d=[0.0] * 5,
        k=k.ravel().tolist(),
        r=np.eye(3).ravel().tolist(),
        p=np.hstack([k, np.zeros((3, 1))]).ravel().tolist(),
    )


def _estimate(message: ObjectEstimate) -> dict[str, Any]:
    p, q = message.pose.pose.position, message.pose.pose.orientation
    T = np.eye(4)
    T[:3, :3] = Rotation.from_quat([q.x, q.y, q.z, q.w]).as_matrix()
    T[:3, 3] = p.x, p.y, p.z
    return {
        "id": message.id,
        "label": int(message.label),
        "class_name": message.class_name,
        "T_camera_object": T.tolist(),
        "score": _number(message.score),
        "certified": bool(message.certified),
        "residual": _number(message.certificate_residual),
        "reason": message.reason,
        "mesh_version": int(message.mesh_version),
    }


def _number(value: float) -> float | None:
    """None where there is none: JSON has no NaN."""
    return float(value) if math.isfinite(value) else None


def _descriptions() -> dict[str, str]:
    topic = "Topic of the recording, without image_transport's suffix."
    return {
        "recording": "rosbag2 folder, .mcap or .db3 file to play.",
        "bop": "Data set folder in the BOP layout, played instead of a recording.",
        "frames": "Most frames to play; 0 plays all.",
        "loop": "Begin again at the end.",
        "rate": "Most frames a second; 0 goes as fast as the node answers.",
        "timeout": "Seconds to wait for the node: until it is ready, and for each answer.",
        "estimator": "Name of the node that answers.",
        "bring_up": "Configure and activate the node first.",
        "results": "Folder for the node's answers; empty for none.",
        "rgb_topic": topic,
        "depth_topic": topic,
        "segmentation_topic": topic,
        "camera_info_topic": topic,
        "label_info_topic": topic,
    }


if __name__ == "__main__":
    sys.exit(main())
