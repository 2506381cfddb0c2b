"""Messages not on PyPI: DDS matches them with those of an installed ROS 2 by their type hash."""

from importlib import import_module
from pathlib import Path

import pytest
from moveit_msgs.msg import CollisionObject
from rclpy.node import Node
from ros_graph import spin_until
from shape_msgs.msg import Mesh, MeshTriangle
from vision_msgs.msg import Detection3D, Detection3DArray, ObjectHypothesisWithPose

PUBLISHED = dict(
    line.split()
    for line in Path(__file__).with_name("type_hashes.txt").read_text().splitlines()
    if not line.startswith("#")
)


def test_type_hashes_are_the_published_ones(node: Node) -> None:
    assert "tf2_msgs/msg/TFMessage" in PUBLISHED
    hashes = {}
    for name in PUBLISHED:
        package, _, message = name.split("/")
        node.create_publisher(getattr(import_module(f"{package}.msg"), message), message, 1)
        (info,) = node.get_publishers_info_by_topic(message)
        hashes[name] = str(info.topic_type_hash)
    assert hashes == PUBLISHED


def collision_object() -> CollisionObject:
    message = CollisionObject(id="mug", operation=CollisionObject.ADD)
    message.type.key = "mug"
    mesh = Mesh(triangles=[MeshTriangle(vertex_indices=[0, 1, 2])])
    message.meshes.append(mesh)
    return message


def detections() -> Detection3DArray:
    hypothesis = ObjectHypothesisWithPose()
    hypothesis.hypothesis.class_id = "mug"
    hypothesis.hypothesis.score = 0.75
    detection = Detection3D(id="7", results=[hypothesis])
    detection.bbox.size.x = 0.1
    return Detection3DArray(detections=[detection])


@pytest.mark.parametrize(
    "message", [collision_object(), detections()], ids=lambda m: type(m).__name__
)
def test_nested_messages_survive_the_middleware(
    node: Node, message: CollisionObject | Detection3DArray
) -> None:
    received: list[CollisionObject | Detection3DArray] = []
    node.create_subscription(type(message), "topic", received.append, 1)
    publisher = node.create_publisher(type(message), "topic", 1)
    assert spin_until(node, lambda: publisher.get_subscription_count() == 1)
    publisher.publish(message)
    assert spin_until(node, lambda: bool(received))
    assert received == [message]


def test_operations_of_a_collision_object() -> None:
    kinds = CollisionObject
    assert [kinds.ADD, kinds.REMOVE, kinds.APPEND, kinds.MOVE] == [b"\0", b"\1", b"\2", b"\3"]
