"""The executable `crisp_node`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Protocol

import rclpy
from rclpy.exceptions import ParameterException
from rclpy.executors import SingleThreadedExecutor
from rclpy.utilities import try_shutdown

from crisp_ros.node.crisp_node import CrispNode
from crisp_ros.node.parameters.undeclared import warn_of_undeclared
from crisp_ros.node.shutdown import until_shutdown

_PATIENCE_S = 1.0
# Python switches threads after this time. Its default of 5 ms would delay the start of the
# estimation after the last image of a frame.
_SWITCH_S = 0.0005


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the node until shutdown; return 0, or 1 if its parameters are refused."""
    return run(CrispNode, arguments)


class ClosableNode(Protocol):
    """Node with threads or files to close before it is destroyed."""

    def close(self) -> None:
        """Close them."""


def run(
    make_node: Callable[[], ClosableNode],
    arguments: Sequence[str] | None = None,
    name: str = "crisp_node",
    refusals: tuple[type[Exception], ...] = (ParameterException,),
) -> int:
    """Run a node until shutdown; see `run_nodes`."""
    return run_nodes(lambda: [make_node()], arguments, name, refusals)


def run_nodes(
    make_nodes: Callable[[], Sequence[ClosableNode]],
    arguments: Sequence[str] | None = None,
    name: str = "crisp_node",
    refusals: tuple[type[Exception], ...] = (ParameterException,),
) -> int:
    """Run nodes until shutdown; return 0, or 1 if their creation is refused.

    One thread serves all callbacks: they only receive messages, and more threads make rclpy slower.
    The estimation has its own thread.

    Args:
        make_nodes: creates the nodes after the initialisation of ROS.
        arguments: of the process, including those of ROS.
        name: of the executable, for error messages.
        refusals: errors of `make_nodes` that are reported in one line.
    """
    sys.setswitchinterval(_SWITCH_S)
    rclpy.init(args=arguments)
    try:
        nodes = make_nodes()
    except refusals as error:
        print(f"{name}: {error}", file=sys.stderr)
        try_shutdown()
        return 1
    executor = SingleThreadedExecutor()
    for node in nodes:
        warn_of_undeclared(node, arguments, [other for other in nodes if other is not node])
        executor.add_node(node)
    try:
        with until_shutdown():
            executor.spin()
    finally:
        for node in nodes:
            node.close()
        executor.shutdown(_PATIENCE_S)  # a service call may still be pending
        for node in nodes:
            node.destroy_node()
        try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
