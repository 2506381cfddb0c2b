"""The executable `crisp_node`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import rclpy
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.utilities import try_shutdown

from crisp_ros.node.crisp_node import CrispNode

_PATIENCE_S = 1.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the node until it is interrupted; 0, or 1 where its parameters are refused."""
    return run(CrispNode, arguments)


def run(make_node: Callable[[], CrispNode], arguments: Sequence[str] | None = None) -> int:
    """Runs a node that `make_node` makes once ROS is up.

    One thread serves all callbacks: they only take messages in, and more threads make rclpy slower.
    The estimation has a thread of its own.
    """
    rclpy.init(args=arguments)
    try:
        node = make_node()
    except ParameterException as error:
        print(f"crisp_node: {error}", file=sys.stderr)
        try_shutdown()
        return 1
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        executor.spin()
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        node.close()
        executor.shutdown(_PATIENCE_S)  # a service may still wait for a frame
        node.destroy_node()
        try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
