"""An isolated ROS graph in one process for tests, and waiting with a timeout."""

from __future__ import annotations

import itertools
import os
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node

from crisp_ros.cli.demo_graph import in_use

_DOMAINS = range(1, 40)  # `crisp demo` uses those above
_counter = itertools.count(os.getpid() * 7)
_claims: deque[socket.socket] = deque(maxlen=8)


def free_domain() -> int:
    """Return a ROS_DOMAIN_ID that no process on this machine uses.

    It stays claimed until this process has claimed eight others: a process that the caller starts
    takes seconds to appear in the domain, and tests in other processes search for free domains.
    """
    for _ in _DOMAINS:
        domain = _DOMAINS[next(_counter) % len(_DOMAINS)]
        claim = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            claim.bind(("", 7400 + 250 * domain + 249))  # a port that DDS does not reach
        except OSError:
            claim.close()
            continue
        if not in_use(domain):
            _claims.append(claim)
            return domain
        claim.close()
    raise RuntimeError("every ROS domain for tests is in use or claimed")


@contextmanager
def isolated_node(name: str = "test") -> Iterator[Node]:
    """Provide a node in its own context and domain, reachable only from this machine."""
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
    """Spin the node until the condition holds; return False on timeout."""
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
