"""A ROS graph of one process for tests: nodes that see nobody else, and waiting with an end."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node

from crisp_ros.cli.demo_graph import in_use

_count = itertools.count(os.getpid() * 7)


def free_domain() -> int:
    """A ROS_DOMAIN_ID, 1 to 100, that no other test of this process uses soon, and no other
    process now: tests of several processes wander through the same ones."""
    return next(d for d in (next(_count) % 100 + 1 for _ in range(100)) if not in_use(d))


@contextmanager
def isolated_node(name: str = "test") -> Iterator[Node]:
    """A node in a context and a domain of its own, reachable from this machine only."""
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    context = Context()
    rclpy.init(context=context, domain_id=free_domain())
    node = Node(name, context=context)
    try:
        yield node
    finally:
        node.destroy_node()
        rclpy.shutdown(context=context)


def spin_until(node: Node, condition: Callable[[], bool], seconds: float = 20.0) -> bool:
    """Serves the node's callbacks until the condition holds; False when time ran out before."""
    executor = SingleThreadedExecutor(context=node.context)
    executor.add_node(node)
    end = time.monotonic() + seconds
    try:
        while not condition():
            if time.monotonic() > end:
                return False
            executor.spin_once(timeout_sec=0.05)
        return True
    finally:
        executor.remove_node(node)
        executor.shutdown(timeout_sec=0)
