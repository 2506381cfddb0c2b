"""A thread that processes the latest item and drops older ones."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")


class LatestItemWorker(Generic[Item]):
    """Thread that processes one item at a time; of those that arrive meanwhile, only the latest.

    So a slow computation never lags behind its input, and the callback that submits returns
    immediately. Errors do not end the thread: `on_error` receives them.
    """

    def __init__(
        self,
        process: Callable[[Item], None],
        on_error: Callable[[Exception], None],
        name: str,
        on_start: Callable[[], None] = lambda: None,
    ) -> None:
        """Prepare the worker; `start` starts the thread.

        Args:
            process: called in the thread with each item.
            on_error: called in the thread with an error of `process`, `on_start` or a task.
            name: of the thread.
            on_start: called first in the thread.
        """
        self._process = process
        self._on_error = on_error
        self._on_start = on_start
        self._name = name
        self._changed = threading.Condition()
        self._pending: Item | None = None
        self._tasks: deque[Callable[[], None]] = deque()
        self._thread: threading.Thread | None = None
        self._stopping = False

    def start(self) -> None:
        """Start the thread.

        Raises:
            RuntimeError: it is already running.
        """
        if self._thread is not None:
            raise RuntimeError(f"worker {self._name} is already running")
        self._stopping = False
        self._tasks.append(self._on_start)
        self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        self._thread.start()

    def submit(self, item: Item) -> Item | None:
        """Queue an item in place of the pending one; ignored unless running.

        Returns:
            The item that will not be processed: the replaced one, None without one, or the item
            itself unless running.
        """
        with self._changed:
            if self._thread is None or self._stopping:
                return item
            replaced, self._pending = self._pending, item
            self._changed.notify()
            return replaced

    def call(self, task: Callable[[], None]) -> None:
        """Run a task in the thread before the next item; ignored unless running."""
        with self._changed:
            if self._thread is not None and not self._stopping:
                self._tasks.append(task)
                self._changed.notify()

    def stop(self) -> Item | None:
        """End the thread after its current item or task; return the pending item, if any."""
        thread = self._thread
        if thread is None:
            return None
        with self._changed:
            self._stopping = True
            dropped, self._pending = self._pending, None
            self._tasks.clear()
            self._changed.notify()
        thread.join()
        self._thread = None
        return dropped

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(
                    lambda: self._stopping or self._tasks or self._pending is not None
                )
                if self._stopping:
                    return
                if self._tasks:
                    task = self._tasks.popleft()
                else:
                    item, self._pending = self._pending, None
                    task = None
            try:
                if task is not None:
                    task()
                else:
                    self._process(item)
            except Exception as error:
                self._on_error(error)
