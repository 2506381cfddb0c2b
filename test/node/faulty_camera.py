"""A camera in its own process that sends valid frames and some faulty ones.

faulty_camera.py SECONDS LOG: 30 frames a second; those of the last seconds are all good. Each
frame's line in LOG, JSON: {"stamp_ns", "sent" (time.time()), "fault" ("" for none), "messages"}.
"""

from __future__ import annotations

import copy
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import rclpy
from node.peer import CAMERA_FRAME, image
from rclpy.node import Node
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

RATE_HZ = 30.0
QUIET_S = 5.0  # good frames only, at the end
FAULT_SHARE = 0.25
WIDTH, HEIGHT, FOCAL = 640, 480, 600.0
TOPICS = {
    "rgb": "rgb/image_rect_color",
    "depth": "depth_registered/image_rect",
    "segmentation": "segmentation",
}

Messages = dict[str, list[Image | CameraInfo]]
Fault = Callable[[np.random.Generator, Messages], None]


def scene() -> dict[str, Image | CameraInfo]:
    """Three boxes in front of a wall."""
    depth = np.full((HEIGHT, WIDTH), 1500, np.uint16)
    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    for label in (1, 2, 3):
        left = 160 * label - 60
        depth[180:300, left : left + 100] = 600 + 100 * label
        labels[180:300, left : left + 100] = label
    f, cx, cy = FOCAL, WIDTH / 2 - 0.5, HEIGHT / 2 - 0.5
    return {
        "rgb": image(np.full((HEIGHT, WIDTH, 3), 80, np.uint8), "rgb8"),
        "depth": image(depth, "16UC1"),
        "segmentation": image(labels, "mono8"),
        "camera_info": CameraInfo(
            width=WIDTH,
            height=HEIGHT,
            k=[f, 0.0, cx, 0.0, f, cy, 0.0, 0.0, 1.0],
            p=[f, 0.0, cx, 0.0, 0.0, f, cy, 0.0, 0.0, 0.0, 1.0, 0.0],
        ),
    }


def _any(rng: np.random.Generator, messages: Messages) -> Image:
    return messages[str(rng.choice(list(TOPICS)))][0]


def truncated(rng: np.random.Generator, messages: Messages) -> None:
    message = _any(rng, messages)
    message.data = message.data[: int(rng.integers(len(message.data)))]


def empty(rng: np.random.Generator, messages: Messages) -> None:
    name = str(rng.choice(list(TOPICS)))
    messages[name] = [Image(header=messages[name][0].header)]


def corrupt_encoding(rng: np.random.Generator, messages: Messages) -> None:
    _any(rng, messages).encoding = bytes(rng.integers(33, 126, 8).tolist()).decode()


def corrupt_step(rng: np.random.Generator, messages: Messages) -> None:
    _any(rng, messages).step = int(rng.integers(0, 300))


def too_much_data(rng: np.random.Generator, messages: Messages) -> None:
    message = _any(rng, messages)
    message.data = message.data + message.data[:1000]


def oversized(rng: np.random.Generator, messages: Messages) -> None:
    # A good image of its own, but not of this camera.
    large = image(np.zeros((4 * HEIGHT, 4 * WIDTH), np.uint16), "16UC1")
    large.header = messages["depth"][0].header
    messages["depth"] = [large]


def nan_depth(rng: np.random.Generator, messages: Messages) -> None:
    unknown = image(np.full((HEIGHT, WIDTH), np.nan, np.float32), "32FC1")
    unknown.header = messages["depth"][0].header
    messages["depth"] = [unknown]


def uncalibrated(rng: np.random.Generator, messages: Messages) -> None:
    info = messages["camera_info"][0]
    info.k, info.p = [0.0] * 9, [0.0] * 12


def out_of_order(rng: np.random.Generator, messages: Messages) -> None:
    for sent in messages.values():
        sent[0].header = _shifted(sent[0].header, -0.5)


def one_from_the_past(rng: np.random.Generator, messages: Messages) -> None:
    message = _any(rng, messages)
    message.header = _shifted(message.header, -30.0)


def one_from_the_future(rng: np.random.Generator, messages: Messages) -> None:
    message = _any(rng, messages)
    message.header = _shifted(message.header, 3600.0)


def negative_stamp(rng: np.random.Generator, messages: Messages) -> None:
    _any(rng, messages).header = _header(-int(rng.integers(1, 10**18)))


def jump_back(rng: np.random.Generator, messages: Messages) -> None:
    for sent in messages.values():
        sent[0].header = _shifted(sent[0].header, -30.0)


def missing(rng: np.random.Generator, messages: Messages) -> None:
    messages[str(rng.choice(list(TOPICS)))] = []


def failing_estimator(rng: np.random.Generator, messages: Messages) -> None:
    messages["rgb"][0].data[2] = 1  # the fake fails at blue 1


FAULTS: dict[str, Fault] = {
    f.__name__: f
    for f in (
        truncated,
        empty,
        corrupt_encoding,
        corrupt_step,
        too_much_data,
        oversized,
        nan_depth,
        uncalibrated,
        out_of_order,
        one_from_the_past,
        one_from_the_future,
        negative_stamp,
        jump_back,
        missing,
        failing_estimator,
    )
}


def _header(stamp_ns: int) -> Header:
    header = Header(frame_id=CAMERA_FRAME)
    header.stamp.sec, header.stamp.nanosec = divmod(stamp_ns, 10**9)
    return header


def _shifted(header: Header, seconds: float) -> Header:
    stamp_ns = header.stamp.sec * 10**9 + header.stamp.nanosec + round(seconds * 1e9)
    return _header(stamp_ns)


def main(seconds: float, log: Path) -> None:
    rclpy.init()
    node = Node("camera")
    qos = QoSProfile(depth=30)
    publishers = {name: node.create_publisher(Image, topic, qos) for name, topic in TOPICS.items()}
    publishers["camera_info"] = node.create_publisher(CameraInfo, "rgb/camera_info", qos)
    while not all(p.get_subscription_count() for p in publishers.values()):
        time.sleep(0.05)
    rng = np.random.default_rng(7)
    good = scene()
    start = time.time()
    frame = 0
    with log.open("w") as lines:
        while (now := time.time()) < start + seconds:
            stamp_ns = time.time_ns()
            # Only what a fault changes is copied.
            messages: Messages = {n: [copy.copy(m)] for n, m in good.items()}
            for sent in messages.values():
                sent[0].header = _header(stamp_ns)
            fault = ""
            if rng.random() < FAULT_SHARE and now < start + seconds - QUIET_S and frame > 0:
                fault = str(rng.choice(list(FAULTS)))
                messages["rgb"][0].data = good["rgb"].data[:]
                FAULTS[fault](rng, messages)
            sent_at = time.time()
            for name in ("camera_info", *TOPICS):
                for message in messages[name]:
                    publishers[name].publish(message)
            counts = {name: len(sent) for name, sent in messages.items()}
            line = {"stamp_ns": stamp_ns, "sent": sent_at, "fault": fault, "messages": counts}
            lines.write(json.dumps(line) + "\n")
            frame += 1
            time.sleep(max(0.0, start + frame / RATE_HZ - time.time()))
    time.sleep(1.0)  # until all has arrived
    node.destroy_node()
    rclpy.shutdown()


if __name__ == "__main__":
    main(float(sys.argv[1]), Path(sys.argv[2]))
