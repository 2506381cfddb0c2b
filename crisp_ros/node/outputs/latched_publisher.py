"""Transient-local topics that hold the latest message of each object."""

from __future__ import annotations

from collections import deque
from typing import Any

from rclpy.publisher import Publisher


class LatchedPublisher:
    """Publisher that keeps the latest message of each object in a transient-local history.

    The history holds a fixed number of messages of all objects: an object that changes often would
    displace one that does not. A displaced message that is still the latest of its object is sent
    again.
    """

    def __init__(self, publisher: Publisher) -> None:
        """Start with an empty history.

        Args:
            publisher: with transient-local durability.
        """
        self._publisher = publisher
        self._depth = publisher.qos_profile.depth
        self._latest: dict[str, tuple[int, Any]] = {}  # number and message of each object
        self._history: deque[tuple[int, str]] = deque()
        self._count = 0

    @property
    def has_subscribers(self) -> bool:
        """Whether there are subscribers."""
        return self._publisher.get_subscription_count() > 0

    @property
    def ids(self) -> set[str]:
        """Ids of the objects whose messages stay in the history."""
        return set(self._latest)

    def publish(self, id: str, message: Any) -> None:
        """Send an object's message, which stays in the history until replaced or forgotten."""
        self._send(id, message)
        self._resend_displaced()

    def publish_unlatched(self, message: Any) -> None:
        """Send a message that may leave the history."""
        self._send("", message)
        self.forget("")
        self._resend_displaced()

    def forget(self, id: str) -> None:
        """Allow an object's message to leave the history."""
        del self._latest[id]

    def _send(self, id: str, message: Any) -> None:
        self._count += 1
        self._latest[id] = (self._count, message)
        self._history.append((self._count, id))
        self._publisher.publish(message)

    def _resend_displaced(self) -> None:
        # At most one round: with more objects than the history holds, it would not terminate.
        for _ in range(self._depth):
            if len(self._history) <= self._depth:
                return
            number, displaced = self._history.popleft()
            latest = self._latest.get(displaced)
            if latest is not None and latest[0] == number:
                self._send(displaced, latest[1])
