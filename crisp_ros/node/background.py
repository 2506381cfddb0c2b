"""Slow work on objects' meshes in a thread of its own, newest shape of each object first."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from crisp_ros.geometry.isosurface import TriangleMesh

Key = tuple[str, int]
"""Id of an object and version of its shape."""


class Background:
    """Turns meshes into others, one at a time, while others work; results wait to be taken.

    The thread ends with the process, whatever it works on.
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
        self._changed = threading.Condition()
        self._waiting: dict[str, tuple[int, TriangleMesh]] = {}
        self._results: dict[str, tuple[int, Sequence[TriangleMesh]]] = {}
        self._taken: set[Key] = set()
        self._thread: threading.Thread | None = None

    def result(self, key: Key, mesh: TriangleMesh) -> Sequence[TriangleMesh] | None:
        """What became of a mesh, or None: then it is worked on, and `has_news` tells when."""
        id, version = key
        with self._changed:
            done = self._results.get(id)
            if done is not None and done[0] == version:
                self._taken.add(key)
                return done[1]
            self._waiting[id] = (version, mesh)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="meshes", daemon=True)
                self._thread.start()
            self._changed.notify()
            return None

    def has_news(self, key: Key) -> bool:
        """Whether there is a result that was not taken yet."""
        id, version = key
        with self._changed:
            done = self._results.get(id)
            return done is not None and done[0] == version and key not in self._taken

    def forget(self, id: str) -> None:
        """Lets go of an object's mesh and result."""
        with self._changed:
            self._waiting.pop(id, None)
            self._results.pop(id, None)
            self._taken = {key for key in self._taken if key[0] != id}

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting)
                id = next(iter(self._waiting))
                version, mesh = self._waiting.pop(id)
            try:
                found = self._work(mesh)
            except Exception as error:  # a library's own kinds
                self._on_error(error)
                found = []
            with self._changed:
                self._results[id] = (version, found)
