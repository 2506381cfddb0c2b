"""Interruptions (Ctrl-C, SIGTERM from a launch file) end a process quietly."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import rclpy
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException
from rclpy.impl.implementation_singleton import rclpy_implementation


@contextmanager
def until_interrupted(context: Context | None = None) -> Iterator[None]:
    """Runs its body until the end or an interruption, which may come amid any call of rclpy's.

    Args:
        context: that the interruption shuts down; None: the default one.
    """
    try:
        yield
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except rclpy_implementation.RCLError:
        if rclpy.ok(context=context):
            raise
