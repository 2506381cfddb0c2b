"""Futures of service calls that other threads complete."""

from __future__ import annotations

from typing import Any

from rclpy.node import Node
from rclpy.task import Future


class ServiceFutures:
    """Pending futures of a node's services; `complete` may be called from any thread."""

    def __init__(self, node: Node) -> None:
        """Start without futures.

        Args:
            node: whose executor continues the service calls.
        """
        self._node = node
        self._pending: set[Future] = set()

    def create(self) -> Future:
        """Create a pending future."""
        future = Future()
        self._pending.add(future)
        return future

    def discard(self, future: Future) -> None:
        """Remove a future whose service call has ended."""
        self._pending.discard(future)

    def complete(self, future: Future, result: Any) -> None:
        """Set the result of a future and wake the executor; only the first result counts."""
        if not future.done():
            future.set_result(result)
        if self._node.executor is not None:
            self._node.executor.wake()

    def complete_all(self, result: Any) -> None:
        """Set the result of all pending futures."""
        for future in list(self._pending):
            self.complete(future, result)
