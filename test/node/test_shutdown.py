"""A shutdown is quiet at any time; other errors are raised."""

from __future__ import annotations

import pytest
import rclpy
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.node import Node
from ros_graph import free_domain, isolated_node
from std_msgs.msg import String

from crisp_ros.node.shutdown import until_shutdown


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, ExternalShutdownException])
def test_a_shutdown_ends_the_body_without_error(interruption: type[BaseException]) -> None:
    with until_shutdown():
        raise interruption


def test_a_shutdown_before_a_message_is_sent_is_no_error() -> None:
    context = Context()
    rclpy.init(context=context, domain_id=free_domain())
    node = Node("talker", context=context)
    publisher = node.create_publisher(String, "talk", 1)
    rclpy.shutdown(context=context)  # as the signal handler does
    with until_shutdown(context):
        publisher.publish(String())
    node.destroy_node()


def test_errors_before_the_shutdown_are_raised() -> None:
    with isolated_node() as node:
        with pytest.raises(rclpy_implementation.RCLError, match="no such"):
            with until_shutdown(node.context):
                raise rclpy_implementation.RCLError("no such thing")
