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
from crisp_ros.node.shutdown import until_interrupted

_PATIENCE_S = 1.0
# Python lets a thread go on for so long while another one waits. Its default of 5 ms passes between
# the last image of a frame and the estimation's begin.
_SWITCH_S = 0.0005


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the node until it is interrupted; 0, or 1 where its parameters are refused."""
    return run(CrispNode, arguments)


class ClosableNode(Protocol):
    """A node that has something to end before it is destroyed."""

    def close(self) -> None:
        """Ends it."""


def run(
    make_node: Callable[[], ClosableNode],
    arguments: Sequence[str] | None = None,
    name: str = "crisp_node",
    refusals: tuple[type[Exception], ...] = (ParameterException,),
) -> int:
    """Runs a node that `make_node` makes once ROS is up; 0, or 1 where that is refused.

    Args:
        make_node: makes it.
        arguments: of the process, those of ROS among them.
        name: of the executable, before what it says of a refusal.
        refusals: errors of `make_node` that are told in one line.

    One thread serves all callbacks: they only take messages in, and more threads make rclpy slower.
    The estimation has a thread of its own.
    """
    sys.setswitchinterval(_SWITCH_S)
    rclpy.init(args=arguments)
    try:
        node = make_node()
    except refusals as error:
        print(f"{name}: {error}", file=sys.stderr)
        try_shutdown()
        return 1
    warn_of_undeclared(node, arguments)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        with until_interrupted():
            executor.spin()
    finally:
        node.close()
        executor.shutdown(_PATIENCE_S)  # a service may still wait for a frame
        node.destroy_node()
        try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
