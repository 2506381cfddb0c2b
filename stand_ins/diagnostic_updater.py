"""Stand-in for diagnostic_updater: diagnostic tasks run on a timer and published."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import overload

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.node import Node


class DiagnosticStatusWrapper(DiagnosticStatus):
    """A status message with methods to fill it."""

    @overload
    def summary(self, status: DiagnosticStatus, /) -> None: ...
    @overload
    def summary(self, level: bytes, message: str, /) -> None: ...
    def summary(self, *args: DiagnosticStatus | bytes | str) -> None:
        """Set level and message, given directly or copied from another status."""
        self.level, self.message = _level_and_message(args)

    @overload
    def mergeSummary(self, status: DiagnosticStatus, /) -> None: ...
    @overload
    def mergeSummary(self, level: bytes, message: str, /) -> None: ...
    def mergeSummary(self, *args: DiagnosticStatus | bytes | str) -> None:
        """Merge another summary: keep the higher level, and the message of the more severe one.

        If both summaries are OK, or neither is, the messages are joined with a semicolon.
        """
        level, message = _level_and_message(args)
        ok = DiagnosticStatus.OK
        if (level == ok) == (self.level == ok):
            self.message = "; ".join(text for text in (self.message, message) if text)
        elif level > self.level:
            self.message = message
        self.level = max(self.level, level)

    def add(self, key: str, val: str) -> None:
        """Append a key and its value, both strings."""
        self.values.append(KeyValue(key=key, value=val))


class DiagnosticTask:
    """A named diagnostic task; subclasses fill the status in `run`."""

    def __init__(self, name: str) -> None:
        self.name = name

    def getName(self) -> str:
        """Return the name of the status."""
        return self.name

    def run(self, stat: DiagnosticStatusWrapper) -> DiagnosticStatusWrapper:
        """Fill `stat` and return it."""
        return stat


class FunctionDiagnosticTask(DiagnosticTask):
    """A task whose `run` is a function."""

    def __init__(
        self, name: str, fn: Callable[[DiagnosticStatusWrapper], DiagnosticStatusWrapper]
    ) -> None:
        super().__init__(name)
        self.run = fn


class Updater:
    """Updater that runs its tasks every `period` seconds and publishes their status.

    Declares the parameter diagnostic_updater.period, which overrides `period`.
    """

    def __init__(self, node: Node, period: float = 1.0) -> None:
        self.node = node
        self.hwid = ""
        self._tasks: list[DiagnosticTask] = []
        self._lock = threading.Lock()
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", 1)
        period = node.declare_parameter("diagnostic_updater.period", period).value
        self.timer = node.create_timer(period, self.update)

    def setHardwareID(self, hwid: str) -> None:
        """Set the hardware id of all statuses."""
        self.hwid = hwid

    def add(self, *args: DiagnosticTask | str | Callable) -> None:
        """Add a task, or a name and a function, and publish that it is starting up."""
        task = args[0] if len(args) == 1 else FunctionDiagnosticTask(*args)
        with self._lock:
            self._tasks.append(task)
            self._publish([self._status(task, DiagnosticStatus.OK, "Node starting up")])

    def removeByName(self, name: str) -> bool:
        """Remove the first task with this name; return whether there was one."""
        with self._lock:
            for task in self._tasks:
                if task.getName() == name:
                    self._tasks.remove(task)
                    return True
        return False

    def update(self) -> None:
        """Run all tasks now and publish what they report."""
        with self._lock:
            blank = (DiagnosticStatus.ERROR, "No message was set")
            self._publish([task.run(self._status(task, *blank)) for task in self._tasks])

    def force_update(self) -> None:
        """Run `update` now."""
        self.update()

    def broadcast(self, lvl: bytes, msg: str) -> None:
        """Publish one summary for all tasks without running them."""
        self._publish([self._status(task, lvl, msg) for task in self._tasks])

    def _status(self, task: DiagnosticTask, level: bytes, text: str) -> DiagnosticStatusWrapper:
        return DiagnosticStatusWrapper(
            level=level, name=task.getName(), message=text, hardware_id=self.hwid
        )

    def _publish(self, statuses: list[DiagnosticStatusWrapper]) -> None:
        array = DiagnosticArray()
        array.header.stamp = self.node.get_clock().now().to_msg()
        for status in statuses:
            status.name = f"{self.node.get_name()}: {status.name}"
            array.status.append(status)
        self._publisher.publish(array)


def _level_and_message(args: tuple[DiagnosticStatus | bytes | str, ...]) -> tuple[bytes, str]:
    return (args[0].level, args[0].message) if len(args) == 1 else (args[0], str(args[1]))
