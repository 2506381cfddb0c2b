"""Stand-in for message_filters: synchronises messages of several topics by stamp."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from rclpy.node import Node
from rclpy.time import Time


class SimpleFilter:
    """Base class of filters, whose output goes to every registered callback."""

    def __init__(self) -> None:
        self._callbacks: list[tuple[Callable[..., None], tuple[Any, ...]]] = []

    def registerCallback(self, cb: Callable[..., None], *args: Any) -> int:
        """Register `cb(*messages, *args)` for each output; return the number of the connection."""
        self._callbacks.append((cb, args))
        return len(self._callbacks) - 1

    def signalMessage(self, *msg: Any) -> None:
        """Call all callbacks with one output, in the order of their registration."""
        for callback, args in self._callbacks:
            callback(*msg, *args)


class Subscriber(SimpleFilter):
    """First filter of a chain: a subscription of `node`."""

    def __init__(self, node: Node, msg_type: type, topic: str, **kwargs: Any) -> None:
        """Subscribe with keyword arguments of Node.create_subscription; default qos_profile: 10."""
        super().__init__()
        self.node = node
        self.topic = topic
        kwargs.setdefault("qos_profile", 10)
        self.sub = node.create_subscription(msg_type, topic, self.signalMessage, **kwargs)

    def getTopic(self) -> str:
        """Return the topic as it was given, before remapping."""
        return self.topic


class TimeSynchronizer(SimpleFilter):
    """Synchroniser that outputs one message of every input, all with the same stamp.

    A message is part of at most one such set. Of each input, the `queue_size` newest messages by
    stamp are kept until they are matched.
    """

    def __init__(self, fs: Sequence[SimpleFilter], queue_size: int) -> None:
        super().__init__()
        self.queue_size = queue_size
        self._lock = threading.Lock()
        self._queues: list[dict[int, Any]] = [{} for _ in fs]  # stamp in nanoseconds -> message
        for index, source in enumerate(fs):
            source.registerCallback(self._receive, index)

    def _receive(self, message: Any, index: int) -> None:
        stamp = Time.from_msg(message.header.stamp).nanoseconds
        with self._lock:
            queue = self._queues[index]
            queue[stamp] = message
            while len(queue) > self.queue_size:
                del queue[min(queue)]
            stamps = self._matching_stamps(index, stamp) if stamp in queue else None
            if stamps is not None:
                pairs = zip(self._queues, stamps, strict=True)
                self.signalMessage(*(queue.pop(stamp) for queue, stamp in pairs))

    def _matching_stamps(self, index: int, stamp: int) -> list[int] | None:
        """Return matching stamps, one per queue, with `stamp` for queue `index`."""
        return [stamp] * len(self._queues) if all(stamp in q for q in self._queues) else None


class ApproximateTimeSynchronizer(TimeSynchronizer):
    """A TimeSynchronizer for messages whose stamps differ by less than `slop` seconds."""

    def __init__(self, fs: Sequence[SimpleFilter], queue_size: int, slop: float) -> None:
        super().__init__(fs, queue_size)
        self._slop_ns = round(slop * 1e9)

    def _matching_stamps(self, index: int, stamp: int) -> list[int] | None:
        # Every set that contains `stamp` fits into a window of width slop that starts at one of its
        # stamps. Try the latest start first: the set closest to the new message.
        starts = {s for queue in self._queues for s in queue if stamp - self._slop_ns < s <= stamp}
        for start in sorted(starts, reverse=True):
            stamps = []
            for i, queue in enumerate(self._queues):
                inside = [s for s in queue if start <= s < start + self._slop_ns]
                nearest = min(inside, key=lambda s: abs(s - stamp), default=None)
                stamps.append(stamp if i == index else nearest)
            if None not in stamps:
                return stamps
        return None
