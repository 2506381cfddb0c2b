"""Slow processing of meshes in a background thread, for the newest mesh of each object only."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Hashable, Sequence
from dataclasses import dataclass

from crisp_ros.geometry.isosurface import TriangleMesh


@dataclass(eq=False)
class _Task:
    """A mesh and its result.

    Attributes:
        version: of the mesh.
        mesh: to process.
        result: None until it was processed.
        is_taken: whether the result was returned.
    """

    version: Hashable
    mesh: TriangleMesh
    result: Sequence[TriangleMesh] | None = None
    is_taken: bool = False


class MeshWorker:
    """Background thread that processes one mesh at a time and stores the results.

    The thread runs while there is work, and ends with the process. The version of a mesh is any
    value that identifies it among the meshes of its object.
    """

    def __init__(
        self,
        work: Callable[[TriangleMesh], Sequence[TriangleMesh]],
        on_error: Callable[[Exception], None],
    ) -> None:
        """Prepare the worker; the thread starts with the first mesh.

        Args:
            work: processes a mesh, in the thread.
            on_error: called there with an error of `work`; the mesh then has no result.
        """
        self._work = work
        self._on_error = on_error
        self._lock = threading.Lock()
        self._tasks: dict[str, _Task] = {}
        self._thread: threading.Thread | None = None

    def result(
        self, id: str, version: Hashable, mesh: TriangleMesh
    ) -> Sequence[TriangleMesh] | None:
        """Get the result of an object's mesh, None while it is processed.

        A new version replaces the earlier meshes of the object; see `has_new_result`.
        """
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

    def has_new_result(self, id: str, version: Hashable) -> bool:
        """Whether there is a result that was not returned yet."""
        with self._lock:
            task = self._tasks.get(id)
            if task is None or task.version != version:
                return False
            return task.result is not None and not task.is_taken

    def keep(self, ids: Collection[str]) -> None:
        """Drop the meshes and results of all other objects."""
        with self._lock:
            self._tasks = {id: task for id, task in self._tasks.items() if id in ids}

    def _run(self) -> None:
        while (task := self._next()) is not None:
            try:
                result = self._work(task.mesh)
            except Exception as error:  # libraries raise errors of their own
                self._on_error(error)
                result = []
            with self._lock:
                task.result = result

    def _next(self) -> _Task | None:
        """Get the oldest task without a result; without one the thread ends."""
        with self._lock:
            task = next((t for t in self._tasks.values() if t.result is None), None)
            if task is None:
                self._thread = None
            return task
