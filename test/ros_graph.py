"""A ROS graph of one process for tests: nodes that see nobody else, and waiting with an end."""

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

_DOMAINS = range(1, 40)  # those of `crisp demo` are above
_turns = itertools.count(os.getpid() * 7)
_claims: deque[socket.socket] = deque(maxlen=8)


def free_domain() -> int:
    """A ROS_DOMAIN_ID in which no process of this machine takes part.

    It stays claimed until this process has taken eight others: a process that the caller starts
    needs seconds to appear in it, and tests in other processes look for domains meanwhile.
    """
    for _ in _DOMAINS:
        domain = _DOMAINS[next(_turns) % len(_DOMAINS)]
        claim = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            claim.bind(("", 7400 + 250 * domain + 249))  # a port that DDS does not come to
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
    """Serve the node's callbacks until the condition holds; False when time ran out before."""
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
