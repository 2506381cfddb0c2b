"""Findings of the doctor about the node's inputs on a real graph."""

import threading

import pytest
from rclpy.qos import DurabilityPolicy, QoSProfile
from ros_graph import isolated_node
from sensor_msgs.msg import CameraInfo, Image

from crisp_ros.doctor.findings import Verdict
from crisp_ros.node.health.ros_checks import topic_findings

TOPIC = "/segmentation"


@pytest.fixture
def node(monkeypatch):
    with isolated_node("camera") as made:
        monkeypatch.setenv("ROS_DOMAIN_ID", str(made.context.get_domain_id()))
        yield made


def findings_while(node, publish):
    """Findings by topic while `publish` is called repeatedly."""
    stop = threading.Event()

    def repeat():
        while not stop.wait(0.02):
            publish()

    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        return {f.name: f for f in topic_findings(1.0, "", [])}
    finally:
        stop.set()
        thread.join()


def image(node, **changes):
    message = Image(height=2, width=3, encoding="mono8", step=3, data=bytes(6))
    message.header.frame_id = "camera"
    message.header.stamp = node.get_clock().now().to_msg()
    for name, value in changes.items():
        setattr(message, name, value)
    return message


def test_a_healthy_topic_is_described(node):
    publisher = node.create_publisher(Image, TOPIC, 5)
    found = findings_while(node, lambda: publisher.publish(image(node)))[TOPIC]
    assert found.verdict is Verdict.FINE
    assert "3x2 mono8" in found.found and "frame camera" in found.found


def test_old_stamps_and_missing_frames_are_named(node):
    publisher = node.create_publisher(Image, TOPIC, 5)

    def old():
        message = image(node)
        message.header.stamp.sec -= 100
        publisher.publish(message)

    found = findings_while(node, old)[TOPIC]
    assert found.verdict is Verdict.NOTE and "use_sim_time" in found.advice

    def frameless():
        message = image(node)
        message.header.frame_id = ""
        publisher.publish(message)

    found = findings_while(node, frameless)[TOPIC]
    assert found.verdict is Verdict.PROBLEM and "frame_id" in found.advice


def test_another_type_and_an_uncalibrated_camera_are_problems(node):
    node.create_publisher(CameraInfo, TOPIC, 5)
    info = node.create_publisher(CameraInfo, "/rgb/camera_info", 5)

    def uncalibrated():
        message = CameraInfo(width=3, height=2)
        message.header.frame_id = "camera"
        message.header.stamp = node.get_clock().now().to_msg()
        info.publish(message)

    found = findings_while(node, uncalibrated)
    assert found[TOPIC].verdict is Verdict.PROBLEM
    assert found[TOPIC].found == "is sensor_msgs/msg/CameraInfo"
    assert found["/rgb/camera_info"].verdict is Verdict.PROBLEM
    assert "K[0] = 0" in found["/rgb/camera_info"].advice


def test_a_calibration_is_judged_by_the_rules_of_the_node(node):
    """K zero with P valid is fine; it may also be sent once, for late subscribers."""
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    info = node.create_publisher(CameraInfo, "/rgb/camera_info", latched)
    message = CameraInfo(width=640, height=480)
    message.p = [580.0, 0.0, 310.0, 0.0, 0.0, 590.0, 230.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    message.header.frame_id = "camera"
    message.header.stamp = node.get_clock().now().to_msg()
    info.publish(message)
    found = findings_while(node, lambda: None)["/rgb/camera_info"]
    assert found.verdict is not Verdict.PROBLEM and "640x480" in found.found


def test_an_encoding_that_the_node_refuses_is_a_problem(node):
    publisher = node.create_publisher(Image, TOPIC, 5)
    found = findings_while(node, lambda: publisher.publish(image(node, encoding="rgb8")))[TOPIC]
    assert found.verdict is Verdict.PROBLEM and "'rgb8' is not supported" in found.advice


def test_a_silent_publisher_is_not_a_missing_one(node):
    node.create_publisher(Image, TOPIC, 5)
    found = findings_while(node, lambda: None)[TOPIC]
    assert found.verdict is Verdict.PROBLEM and "no message in" in found.found
