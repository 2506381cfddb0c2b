"""An interruption is quiet wherever it comes; other errors are not."""

from __future__ import annotations

import pytest
import rclpy
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.node import Node
from ros_graph import free_domain, isolated_node
from std_msgs.msg import String

from crisp_ros.node.shutdown import until_interrupted


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, ExternalShutdownException])
def test_it_ends_what_runs(interruption: type[BaseException]) -> None:
    with until_interrupted():
        raise interruption


def test_it_may_come_before_a_message_is_sent() -> None:
    context = Context()
    rclpy.init(context=context, domain_id=free_domain())
    node = Node("talker", context=context)
    publisher = node.create_publisher(String, "told", 1)
    rclpy.shutdown(context=context)  # as the signal handler does
    with until_interrupted(context):
        publisher.publish(String())
    node.destroy_node()


def test_errors_while_all_runs_are_told() -> None:
    with isolated_node() as node:
        with pytest.raises(rclpy_implementation.RCLError, match="no such"):
            with until_interrupted(node.context):
                raise rclpy_implementation.RCLError("no such thing")
