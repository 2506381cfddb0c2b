"""Listener that fills a buffer with received transforms."""

from __future__ import annotations

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from tf2_msgs.msg import TFMessage

from .buffer import Buffer


class TransformListener:
    """Listener of /tf and /tf_static that fills a buffer; `node` must be spun."""

    def __init__(self, buffer: Buffer, node: Node) -> None:
        self.buffer = buffer
        self.node = node
        group = ReentrantCallbackGroup()
        volatile = QoSProfile(depth=100)
        latched = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self.tf_sub = node.create_subscription(
            TFMessage, "/tf", self._receive, volatile, callback_group=group
        )
        self.tf_static_sub = node.create_subscription(
            TFMessage, "/tf_static", self._receive_static, latched, callback_group=group
        )

    def unregister(self) -> None:
        """Destroy the subscriptions."""
        self.node.destroy_subscription(self.tf_sub)
        self.node.destroy_subscription(self.tf_static_sub)

    def _receive(self, message: TFMessage) -> None:
        for transform in message.transforms:
            self.buffer.set_transform(transform, "tf")

    def _receive_static(self, message: TFMessage) -> None:
        for transform in message.transforms:
            self.buffer.set_transform_static(transform, "tf_static")
