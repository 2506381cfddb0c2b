"""A thread that works on the newest item and lets older ones go."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")


class NewestItemWorker(Generic[Item]):
    """Processes one item at a time; of those that arrive meanwhile, only the newest.

    So a slow computation never falls behind its input, and the callback that submits returns at
    once. Errors do not end the thread: each is handed to `on_error`.
    """

    def __init__(
        self,
        process: Callable[[Item], None],
        on_error: Callable[[Exception], None],
        name: str,
        on_start: Callable[[], None] = lambda: None,
    ) -> None:
        """Does not start the thread yet.

        Args:
            process: called in the thread with each item.
            on_error: called in the thread with what `process`, `on_start` or a task raised.
            name: of the thread.
            on_start: called in the thread before all else.
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
        """Starts the thread.

        Raises:
            RuntimeError: it runs already.
        """
        if self._thread is not None:
            raise RuntimeError(f"worker {self._name} runs already")
        self._stopping = False
        self._tasks.append(self._on_start)
        self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        self._thread.start()

    def submit(self, item: Item) -> Item | None:
        """Puts an item in line, in place of one that waits there; ignored unless running.

        Returns:
            The item that will not be processed: the one in whose place it is put, None where there
            is none, or itself unless running.
        """
        with self._changed:
            if self._thread is None or self._stopping:
                return item
            before, self._pending = self._pending, item
            self._changed.notify()
            return before

    def call(self, task: Callable[[], None]) -> None:
        """Has a task run in the thread before the next item; ignored unless running."""
        with self._changed:
            if self._thread is not None and not self._stopping:
                self._tasks.append(task)
                self._changed.notify()

    def stop(self) -> Item | None:
        """Ends the thread after what it works on now; the item that waits is let go: it, if any."""
        thread = self._thread
        if thread is None:
            return None
        with self._changed:
            self._stopping = True
            waiting, self._pending = self._pending, None
            self._tasks.clear()
            self._changed.notify()
        thread.join()
        self._thread = None
        return waiting

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(
                    lambda: self._stopping or self._tasks or self._pending is not None
                )
                if self._stopping:
                    return
                if self._tasks:
                    job = self._tasks.popleft()
                else:
                    item, self._pending = self._pending, None
                    job = None
            try:
                if job is not None:
                    job()
                else:
                    self._process(item)
            except Exception as error:
                self._on_error(error)
