"""Checks of the ROS 2 installation and of the node's input topics, for `crisp doctor`."""

from __future__ import annotations

import array
import importlib
import os
import time
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import (
    QoSCompatibility,
    qos_check_compatible,
    qos_profile_sensor_data,
)
from rclpy.time import Time
from rclpy.utilities import get_rmw_implementation_identifier
from sensor_msgs.msg import CameraInfo, Image

from crisp_ros.data import image_encodings
from crisp_ros.data.camera_calibration import CameraInfoError, camera
from crisp_ros.data.image_encodings import ImageError
from crisp_ros.doctor.findings import Finding, fine, note, problem
from crisp_ros.doctor.machine_checks import distribution_version
from crisp_ros.node.inputs.input_topics import TOPICS
from crisp_ros.node.inputs.synchronizer import stamp_ns
from crisp_ros.node.qos import has_latched_publisher, latched

_PROFILES = "FASTRTPS_DEFAULT_PROFILES_FILE"
_STAND_INS = "crisp_ros_stand_ins"
_REPLACED = ("message_filters", "tf2_ros", "cv_bridge", "diagnostic_updater", "tf_transformations")
_IMAGES_SENT = 20
_OLD_S = 1.0
_DISCOVERY_S = 3.0


def ros_findings() -> Iterator[Finding]:
    """Check distribution, middleware, its profile, messages, the origin of packages and images."""
    distro = os.environ.get("ROS_DISTRO")
    rclpy_version = distribution_version("ros-rclpy") or distribution_version("rclpy") or "unknown"
    if distro in (None, "jazzy"):
        source = f"{distro} is sourced" if distro else "none is sourced; rclpy is from wheels"
        yield fine("ROS", "distribution", f"{source}, rclpy {rclpy_version}")
    else:
        yield note("ROS", "distribution", distro, "the node is developed for Jazzy")
    middleware = get_rmw_implementation_identifier()
    yield fine("ROS", "middleware", middleware)
    yield from _profile(middleware)
    yield _messages()
    distributions = metadata.packages_distributions()
    for name in _REPLACED:
        yield _origin(name, distributions.get(name, ()))
    yield from _discovery()
    yield _loopback()


def _profile(middleware: str) -> Iterator[Finding]:
    if "fastrtps" not in middleware:
        return
    path = os.environ.get(_PROFILES)
    if not path:
        yield note(
            "ROS",
            "FastDDS profile",
            f"{_PROFILES} is not set",
            "images between processes may be lost: set it to config/fastdds_shm.xml for the camera "
            "driver too; the launch files set it for the node",
        )
    elif not os.path.isfile(path):
        yield problem("ROS", "FastDDS profile", f"{path} does not exist", f"correct {_PROFILES}")
    else:
        yield fine("ROS", "FastDDS profile", path)


def _messages() -> Finding:
    try:
        importlib.import_module("crisp_ros.msg")
    except ImportError as error:
        return problem(
            "ROS", "messages", str(error), "build the package: colcon build, or pip install"
        )
    return fine("ROS", "messages", "crisp_ros/msg is built")


def _origin(name: str, distributions: Sequence[str]) -> Finding:
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        return problem("ROS", name, str(error), f"apt install ros-jazzy-{name.replace('_', '-')}")
    if _STAND_INS in distributions:
        return fine("ROS", name, "stand-in of this package")
    place = Path(module.__file__ or "").parent
    return fine("ROS", name, f"the real package, in {place}")


def _discovery() -> Iterator[Finding]:
    domain = os.environ.get("ROS_DOMAIN_ID", "0")
    reach = os.environ.get("ROS_AUTOMATIC_DISCOVERY_RANGE", "SUBNET")
    if os.environ.get("ROS_LOCALHOST_ONLY") == "1":
        reach = "LOCALHOST (by ROS_LOCALHOST_ONLY)"
    if not domain.isdecimal() or int(domain) > 101:
        yield problem("ROS", "domain", f"ROS_DOMAIN_ID is {domain!r}", "use a number from 0 to 101")
        return
    yield fine("ROS", "domain", f"{domain}, discovery range {reach}")


def _loopback() -> Finding:
    """Test the middleware with camera images to itself."""
    context = Context()
    rclpy.init(context=context)
    node = Node("crisp_doctor_loopback", context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    arrived: list[Image] = []
    node.create_subscription(Image, "~/image", arrived.append, qos_profile_sensor_data)
    publisher = node.create_publisher(Image, "~/image", qos_profile_sensor_data)
    image = Image(height=480, width=640, encoding="bgr8", step=640 * 3)
    image.data = array.array("B", bytes(640 * 480 * 3))
    try:
        for _ in range(_IMAGES_SENT):
            publisher.publish(image)
            _spin(executor, 0.03)
        _spin(executor, 0.2)
    finally:
        _end(node, executor, context)
    result = f"{len(arrived)} of {_IMAGES_SENT} images were received"
    if not arrived:
        return problem(
            "ROS", "images", result, "the middleware delivers no image: network or firewall?"
        )
    if len(arrived) < _IMAGES_SENT:
        return note("ROS", "images", result, "some are lost: see FastDDS profile")
    return fine("ROS", "images", result)


def topic_findings(seconds: float, namespace: str, ros_arguments: Sequence[str]) -> list[Finding]:
    """Receive the node's inputs for a while and report the faults of each.

    Args:
        seconds: duration.
        namespace: of the node.
        ros_arguments: remappings, as after --ros-args.
    """
    context = Context()
    rclpy.init(args=["crisp_doctor", "--ros-args", *ros_arguments], context=context)
    node = Node("crisp_doctor", namespace=namespace, context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    arrived: dict[str, list[Any]] = {name: [] for name in TOPICS}
    for name, topic in TOPICS.items():
        kind = CameraInfo if name == "camera_info" else Image
        node.create_subscription(kind, topic, arrived[name].append, qos_profile_sensor_data)
    latched: list[CameraInfo] = []  # sent once, for late subscribers
    try:
        _await_publishers(node, executor)
        _subscribe_to_latched(node, latched)
        _spin(executor, seconds)
        now = node.get_clock().now()
        arrived["camera_info"] = arrived["camera_info"] or latched
        return [_topic(node, name, arrived[name], seconds, now) for name in TOPICS]
    finally:
        _end(node, executor, context)


def _subscribe_to_latched(node: Node, received: list[CameraInfo]) -> None:
    """Subscribe to a calibration that was sent once, where a publisher keeps one."""
    topic = node.resolve_topic_name(TOPICS["camera_info"])
    if has_latched_publisher(node, topic):
        node.create_subscription(CameraInfo, topic, received.append, latched(depth=1))


def _await_publishers(node: Node, executor: SingleThreadedExecutor) -> None:
    """Wait until the publishers of all topics are discovered."""
    topics = [node.resolve_topic_name(topic) for topic in TOPICS.values()]
    end = time.monotonic() + _DISCOVERY_S
    while time.monotonic() < end and not all(map(node.count_publishers, topics)):
        executor.spin_once(timeout_sec=0.05)


def _topic(node: Node, name: str, messages: Sequence[Any], seconds: float, now: Time) -> Finding:
    topic = node.resolve_topic_name(TOPICS[name])
    wanted = "sensor_msgs/msg/" + ("CameraInfo" if name == "camera_info" else "Image")
    publishers = node.get_publishers_info_by_topic(topic)
    if not publishers:
        source = "a segmenter, such as crisp_segmenter" if name == "segmentation" else "its source"
        remedy = f"start {source}, or remap: {TOPICS[name]}:=..."
        return problem("topics", topic, "it has no publisher", remedy)
    others = {p.topic_type for p in publishers} - {wanted}
    if others:
        return problem("topics", topic, f"is {', '.join(sorted(others))}", f"expected {wanted}")
    if not messages:
        for publisher in publishers:
            fits, reason = qos_check_compatible(publisher.qos_profile, qos_profile_sensor_data)
            if fits == QoSCompatibility.ERROR:
                return problem("topics", topic, f"incompatible QoS: {reason}", "override the QoS")
        return problem("topics", topic, f"no message in {seconds:g} s", "is its source running?")
    newest = messages[-1]
    age = (now.nanoseconds - stamp_ns(newest)) / 1e9
    kind = getattr(newest, "encoding", "")
    result = f"{len(messages) / seconds:.1f} Hz, {newest.width}x{newest.height} {kind}".rstrip()
    result += f", frame {newest.header.frame_id or '(none)'}, {1e3 * age:.0f} ms old"
    if reason := _unusable(name, newest):
        return problem("topics", topic, result, reason)
    if not newest.header.frame_id:
        return problem("topics", topic, result, "TF needs a frame_id in the header")
    if not -0.1 <= age <= _OLD_S:
        return note("topics", topic, result, "do the clocks differ, or is use_sim_time missing?")
    return fine("topics", topic, result)


def _unusable(name: str, message: Any) -> str:
    """Return why the node could not use a message, or ""."""
    try:
        if name == "camera_info":
            camera(message, rectified=True)
        else:
            image_encodings.check(message, image_encodings.KINDS[name])
    except (CameraInfoError, ImageError) as error:
        return str(error)
    return ""


def _spin(executor: SingleThreadedExecutor, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        executor.spin_once(timeout_sec=0.01)


def _end(node: Node, executor: SingleThreadedExecutor, context: Context) -> None:
    executor.shutdown(timeout_sec=0)
    node.destroy_node()
    rclpy.shutdown(context=context)
