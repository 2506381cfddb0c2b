"""A camera that sends recorded frames to a running node and times its transforms.

    python -m crisp_ros.node.player.latency_probe --recording BAG --frames N --rate HZ --output FILE

`crisp_ros.studies.latency` starts it in a ROS domain of its own and evaluates the file.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from rclpy.time import Time
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage

from crisp_ros.data.atomic_file import write_json
from crisp_ros.data.recorded_frame import RecordedFrame
from crisp_ros.data.recording import Recording
from crisp_ros.msg import ObjectEstimateArray
from crisp_ros.node.inputs.input_topics import IMAGE_TOPICS, TOPICS
from crisp_ros.node.outputs.image_encoding import image_message

START_S = 180.0
WARM_UP = 5  # frames that are not counted


class Camera(Node):
    """Send frames, and record when their transforms and estimates arrive.

    Attributes:
        transforms: arrival by image stamp, both nanoseconds.
        estimates: message by image stamp in nanoseconds.
    """

    def __init__(self) -> None:
        super().__init__("camera")
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self)
        self.transforms: dict[int, int] = {}
        self.estimates: dict[int, ObjectEstimateArray] = {}
        self._publishers_of = {
            role: self.create_publisher(Image, topic, qos_profile_sensor_data)
            for role, topic in IMAGE_TOPICS.items()
        }
        self._info = self.create_publisher(
            CameraInfo, TOPICS["camera_info"], qos_profile_sensor_data
        )
        self.create_subscription(TFMessage, "/tf", self._on_transforms, 100)
        self.create_subscription(ObjectEstimateArray, "crisp/objects", self._on_estimates, 10)
        self._change = self.create_client(ChangeState, "crisp/change_state")

    def activate(self, process: subprocess.Popen[bytes]) -> None:
        """Configure and activate the node, and wait until it subscribes to the images."""
        self._wait_for(lambda: self._change.service_is_ready() or process.poll() is not None)
        for id in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
            request = ChangeState.Request(transition=Transition(id=id))
            future = self._change.call_async(request)
            self._wait_for(future.done)
            if not future.result().success:
                raise SystemExit("latency_probe: the node could not be brought up")
        outputs = (*self._publishers_of.values(), self._info)
        self._wait_for(lambda: all(p.get_subscription_count() for p in outputs))
        self.spin_for(1.0)

    def send(self, frame: RecordedFrame) -> int:
        """Publish one frame, stamped now.

        Returns:
            Its stamp in nanoseconds.
        """
        header = Header(frame_id=frame.frame_id)
        images = {
            "rgb": image_message(frame.rgb, "rgb8", header),
            "depth": image_message(frame.depth, "16UC1", header),
            "segmentation": image_message(frame.labels, "mono8", header),
        }
        K = frame.intrinsics
        info = CameraInfo(height=frame.depth.shape[0], width=frame.depth.shape[1])
        info.k, info.p = K.ravel().tolist(), np.hstack([K, np.zeros((3, 1))]).ravel().tolist()
        stamp_ns = time.time_ns()
        header.stamp = Time(nanoseconds=stamp_ns).to_msg()
        info.header = header
        self._info.publish(info)
        for role, message in images.items():
            message.header = header
            self._publishers_of[role].publish(message)
        return stamp_ns

    def spin_for(self, seconds: float) -> None:
        """Handle messages for so long."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._executor.spin_once(left)

    def _wait_for(self, done: Callable[[], bool]) -> None:
        end = time.monotonic() + START_S
        while not done():
            if time.monotonic() > end:
                raise SystemExit("latency_probe: the node does not answer")
            self._executor.spin_once(0.1)

    def _on_transforms(self, message: TFMessage) -> None:
        now = time.time_ns()
        for transform in message.transforms:
            self.transforms.setdefault(Time.from_msg(transform.header.stamp).nanoseconds, now)

    def _on_estimates(self, message: ObjectEstimateArray) -> None:
        self.estimates[Time.from_msg(message.header.stamp).nanoseconds] = message


def measured(recording: Path, frames: int, rate_hz: float) -> dict[str, Any]:
    """Start the node, send it frames and end it.

    Returns:
        JSON values: `image` (its size), `sent` (frames that count) and `answered`, for each frame
        that was: `transform_ms` from its stamp, `stage_ms` by stage, and its number of `objects`.
    """
    played = list(islice(Recording(recording).frames(), frames))
    process = subprocess.Popen(
        [sys.executable, "-m", "crisp_ros.node.main", "--ros-args", "--log-level", "warn"]
    )
    rclpy.init()
    camera = Camera()
    sent: list[int] = []
    try:
        camera.activate(process)
        for i in range(WARM_UP + frames):
            began = time.monotonic()
            stamp_ns = camera.send(played[i % len(played)])
            sent += [stamp_ns] if i >= WARM_UP else []
            camera.spin_for(1.0 / rate_hz - (time.monotonic() - began))
        camera.spin_for(2.0)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)
        camera.destroy_node()
        rclpy.shutdown()
    height, width = played[0].depth.shape
    answered = [
        {
            "transform_ms": (camera.transforms[stamp] - stamp) / 1e6,
            "stage_ms": dict(zip(message.stage_names, message.stage_ms, strict=True)),
            "objects": len(message.estimates),
        }
        for stamp in sent
        if stamp in camera.transforms and (message := camera.estimates.get(stamp)) is not None
    ]
    return {"image": f"{width}x{height}", "sent": len(sent), "answered": answered}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--recording", type=Path, required=True)
    parser.add_argument("--frames", type=int, required=True, help="that are counted")
    parser.add_argument("--rate", type=float, required=True, help="frames a second")
    parser.add_argument("--output", type=Path, required=True, help="JSON file to write")
    args = parser.parse_args()
    write_json(args.output, measured(args.recording, args.frames, args.rate))


if __name__ == "__main__":
    main()
