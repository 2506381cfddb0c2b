"""Quality of service of topics that keep their last messages for late subscribers."""

from __future__ import annotations

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile


def latched(depth: int) -> QoSProfile:
    """Create a QoS profile that keeps the last messages for late subscribers."""
    return QoSProfile(depth=depth, durability=DurabilityPolicy.TRANSIENT_LOCAL)


def has_latched_publisher(node: Node, topic: str) -> bool:
    """Check whether a publisher keeps its last messages for late subscribers (transient_local)."""
    return any(
        publisher.qos_profile.durability == DurabilityPolicy.TRANSIENT_LOCAL
        for publisher in node.get_publishers_info_by_topic(topic)
    )
