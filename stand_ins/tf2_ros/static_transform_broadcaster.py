"""Broadcaster of static transforms."""

from __future__ import annotations

from collections.abc import Iterable

from geometry_msgs.msg import TransformStamped
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from tf2_msgs.msg import TFMessage


class StaticTransformBroadcaster:
    """Broadcaster of transforms on /tf_static; late listeners receive the last message."""

    def __init__(self, node: Node, qos: QoSProfile | int | None = None) -> None:
        """Create the publisher; `qos` is a profile or depth, by default transient local, 1."""
        if qos is None:
            qos = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self.pub_tf = node.create_publisher(TFMessage, "/tf_static", qos)
        self._transforms: dict[str, TransformStamped] = {}  # by child frame

    def sendTransform(self, transform: TransformStamped | Iterable[TransformStamped]) -> None:
        """Add one or more transforms to those sent before, and publish all of them.

        Only the first transform of a child frame is used.
        """
        single = isinstance(transform, TransformStamped)
        for stamped in [transform] if single else transform:
            self._transforms.setdefault(stamped.child_frame_id, stamped)
        self.pub_tf.publish(TFMessage(transforms=list(self._transforms.values())))
