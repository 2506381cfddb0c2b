"""Sends transforms that hold for ever."""

from __future__ import annotations

from collections.abc import Iterable

from geometry_msgs.msg import TransformStamped
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from tf2_msgs.msg import TFMessage


class StaticTransformBroadcaster:
    """Publishes transforms on /tf_static, whose last message late listeners receive as well."""

    def __init__(self, node: Node, qos: QoSProfile | int | None = None) -> None:
        """`qos`: profile or depth; reliable, transient local, depth 1 where not given."""
        if qos is None:
            qos = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self.pub_tf = node.create_publisher(TFMessage, "/tf_static", qos)
        self._transforms: dict[str, TransformStamped] = {}  # by child frame

    def sendTransform(self, transform: TransformStamped | Iterable[TransformStamped]) -> None:
        """Add one or several transforms to those sent so far and publish all of them.

        Of a child frame only the first transform counts.
        """
        single = isinstance(transform, TransformStamped)
        for stamped in [transform] if single else transform:
            self._transforms.setdefault(stamped.child_frame_id, stamped)
        self.pub_tf.publish(TFMessage(transforms=list(self._transforms.values())))
