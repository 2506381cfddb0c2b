"""Slow work on objects' meshes in a thread of its own, newest mesh of each object alone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Hashable, Sequence
from dataclasses import dataclass

from crisp_ros.geometry.isosurface import TriangleMesh


@dataclass(eq=False)
class _Task:
    """An object's mesh, and what became of it: None until it was worked on."""

    version: Hashable
    mesh: TriangleMesh
    result: Sequence[TriangleMesh] | None = None
    is_taken: bool = False


class Background:
    """Turns meshes into others, one at a time, while others work; results wait to be taken.

    The thread lives while there is work, and ends with the process, whatever it works on. A mesh
    is told from an object's others by its version: any value that stands for all that shapes it.
    """

    def __init__(
        self,
        work: Callable[[TriangleMesh], Sequence[TriangleMesh]],
        on_error: Callable[[Exception], None],
    ) -> None:
        """Does not start a thread before there is work.

        Args:
            work: done in the thread.
            on_error: called there with what it raised; the mesh then has no result.
        """
        self._work = work
        self._on_error = on_error
        self._lock = threading.Lock()
        self._tasks: dict[str, _Task] = {}
        self._thread: threading.Thread | None = None

    def result(
        self, id: str, version: Hashable, mesh: TriangleMesh
    ) -> Sequence[TriangleMesh] | None:
        """What became of an object's mesh, or None: then it is worked on, in place of the
        object's others, and `has_news` tells when."""
        with self._lock:
            task = self._tasks.get(id)
            if task is None or task.version != version:
                self._tasks[id] = _Task(version, mesh)
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name="meshes", daemon=True)
                    self._thread.start()
                return None
            task.is_taken = task.result is not None
            return task.result

    def has_news(self, id: str, version: Hashable) -> bool:
        """Whether there is a result that was not taken yet."""
        with self._lock:
            task = self._tasks.get(id)
            if task is None or task.version != version:
                return False
            return task.result is not None and not task.is_taken

    def keep(self, ids: Collection[str]) -> None:
        """Lets go of the meshes and results of all objects but these."""
        with self._lock:
            self._tasks = {id: task for id, task in self._tasks.items() if id in ids}

    def _run(self) -> None:
        while (task := self._next()) is not None:
            try:
                result = self._work(task.mesh)
            except Exception as error:  # a library's own kinds
                self._on_error(error)
                result = []
            with self._lock:
                task.result = result

    def _next(self) -> _Task | None:
        """The task that waits longest; without one the thread is over."""
        with self._lock:
            task = next((t for t in self._tasks.values() if t.result is None), None)
            if task is None:
                self._thread = None
            return task
