"""Quiet shutdown of a process by Ctrl-C or SIGTERM."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import rclpy
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException
from rclpy.impl.implementation_singleton import rclpy_implementation


@contextmanager
def until_shutdown(context: Context | None = None) -> Iterator[None]:
    """Run the body of a with statement until its end or a shutdown, which ends it without error.

    Args:
        context: that the signal shuts down; None for the default one.
    """
    try:
        yield
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except rclpy_implementation.RCLError:
        if rclpy.ok(context=context):
            raise
