"""Measures how long the node takes from an image's stamp to its transforms, without the inference.

    python -m crisp_ros.studies.latency [--frames N] [--rate HZ] [--json FILE]

A camera in this process sends frames of the bundled recording, stamped when they are sent, to the
real node in another one, slower than it works. The inference is what the node itself says its
estimator took (the stages from observe to answer) and its tracker, where it fits a pose anew to
the shape that it knows (the stage fits: the estimator's own solver and certificate). Everything
else counts: transport, waiting for partners, conversion, tracking, the way of the transforms back;
told also with the fits among the rest.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PROFILES = ROOT / "config" / "fastdds_shm.xml"
START_S = 180.0
WARM_UP = 5  # frames that are not counted

# Of this process, too, and before ROS is loaded.
os.environ["FASTRTPS_DEFAULT_PROFILES_FILE"] = str(PROFILES)
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
os.environ["ROS_DOMAIN_ID"] = str(os.getpid() % 100 + 1)

import numpy as np  # noqa: E402
import rclpy  # noqa: E402
from lifecycle_msgs.msg import Transition  # noqa: E402
from lifecycle_msgs.srv import ChangeState  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.node import Node  # noqa: E402
from rclpy.qos import qos_profile_sensor_data  # noqa: E402
from rclpy.time import Time  # noqa: E402
from sensor_msgs.msg import CameraInfo, Image  # noqa: E402
from std_msgs.msg import Header  # noqa: E402
from tf2_msgs.msg import TFMessage  # noqa: E402

from crisp_ros.data.atomic_file import write_json  # noqa: E402
from crisp_ros.data.recorded_frame import RecordedFrame  # noqa: E402
from crisp_ros.data.recording import Recording  # noqa: E402
from crisp_ros.evaluation.provenance import provenance, write_json  # noqa: E402
from crisp_ros.node.inputs.subscriptions import IMAGE_TOPICS, TOPICS  # noqa: E402
from crisp_ros.node.outputs.image_encoding import image_message  # noqa: E402
from crisp_ros.pipeline import STAGES  # noqa: E402


class Camera(Node):
    """Sends frames and notes when their transforms and estimates come."""

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
        self.create_subscription(TFMessage, "/tf", self._transforms_came, 100)
        self.create_subscription(ObjectEstimateArray, "crisp/objects", self._estimates_came, 10)
        self._change = self.create_client(ChangeState, "crisp/change_state")

    def activate(self, process: subprocess.Popen[bytes]) -> None:
        """Brings the node up."""
        self._await(lambda: self._change.service_is_ready() or process.poll() is not None)
        for id in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
            request = ChangeState.Request(transition=Transition(id=id))
            future = self._change.call_async(request)
            self._await(future.done)
            if not future.result().success:
                raise SystemExit("latency: the node could not be brought up")
        outputs = (*self._publishers_of.values(), self._info)
        self._await(lambda: all(p.get_subscription_count() for p in outputs))
        self.spin_for(1.0)

    def send(self, frame: RecordedFrame) -> int:
        """Publishes one frame, stamped now; its stamp in nanoseconds."""
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
        """Takes in what comes."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._executor.spin_once(left)

    def _await(self, done) -> None:
        end = time.monotonic() + START_S
        while not done():
            if time.monotonic() > end:
                raise SystemExit("latency: the node does not answer")
            self._executor.spin_once(0.1)

    def _transforms_came(self, message: TFMessage) -> None:
        now = time.time_ns()
        for transform in message.transforms:
            self.transforms.setdefault(Time.from_msg(transform.header.stamp).nanoseconds, now)

    def _estimates_came(self, message: ObjectEstimateArray) -> None:
        self.estimates[Time.from_msg(message.header.stamp).nanoseconds] = message


def percentiles(values: list[float]) -> dict[str, float]:
    median, p95 = np.percentile(values, (50, 95)).tolist()
    return {"median_ms": round(median, 2), "p95_ms": round(p95, 2)}


def measure(frames: int, rate_hz: float, recording: Path) -> dict[str, object]:
    """The figures; starts the node and ends it."""
    played = list(islice(Recording(recording).frames(), frames))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-m", "crisp_ros.node.main", "--ros-args", "--log-level", "warn"],
        env=environment,
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
    answered = [s for s in sent if s in camera.transforms and s in camera.estimates]
    if len(answered) < 0.5 * len(sent):
        raise SystemExit(f"latency: transforms of {len(answered)} of {len(sent)} frames only")
    total, with_fits, rest, stages = [], [], [], {}
    for stamp in answered:
        message = camera.estimates[stamp]
        stage_ms = dict(zip(message.stage_names, message.stage_ms, strict=True))
        total.append((camera.transforms[stamp] - stamp) / 1e6)
        with_fits.append(total[-1] - sum(stage_ms[name] for name in STAGES))
        rest.append(with_fits[-1] - stage_ms["fits"])
        for name, milliseconds in stage_ms.items():
            stages.setdefault(name, []).append(milliseconds)
    height, width = played[0].depth.shape
    return {
        "image": f"{width}x{height}",
        "rate_hz": rate_hz,
        "frames": len(sent),
        "answered": len(answered),
        "objects_median": float(np.median([len(camera.estimates[s].estimates) for s in answered])),
        "stamp_to_transform": percentiles(total),
        "without_inference": percentiles(rest),
        "without_inference_with_fits": percentiles(with_fits),
        "stages": {name: percentiles(values) for name, values in stages.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--frames", type=int, default=40, help="that are counted (default: 40)")
    parser.add_argument("--rate", type=float, default=1.0, help="frames a second (default: 1)")
    parser.add_argument(
        "--recording", type=Path, default=ROOT / "recordings" / "table", help="what is sent"
    )
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    args = parser.parse_args()
    if args.frames < 1 or args.rate <= 0:
        parser.error("--frames and --rate have to be positive")
    figures = measure(args.frames, args.rate, args.recording)
    for name in (
        "stamp_to_transform",
        "without_inference",
        "without_inference_with_fits",
    ):
        print(f"{name}: {figures[name]['median_ms']} ms median, {figures[name]['p95_ms']} ms p95")
    if args.json:
        command = f"python -m crisp_ros.studies.latency --frames {args.frames} --rate {args.rate:g}"
        write_json(args.json, {**provenance(command), **figures})


if __name__ == "__main__":
    main()
