"""Slow processing of meshes in a thread that runs only while there is work."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import numpy as np

from crisp_ros.geometry.isosurface import TriangleMesh
from crisp_ros.node.outputs.mesh_worker import MeshWorker


def mesh(size: float) -> TriangleMesh:
    return TriangleMesh(np.full((3, 3), size, np.float32), np.array([[0, 1, 2]], np.int32))


def wait(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "the condition did not become true in time"
        time.sleep(0.005)


class Work:
    """Work that returns each mesh once it is allowed to."""

    def __init__(self) -> None:
        self.started: list[TriangleMesh] = []
        self.threads: list[threading.Thread] = []
        self.may_end = threading.Semaphore(0)

    def __call__(self, given: TriangleMesh) -> list[TriangleMesh]:
        self.threads.append(threading.current_thread())
        self.started.append(given)
        self.may_end.acquire()
        return [given]


def test_another_version_replaces_the_old_result() -> None:
    work, errors = Work(), []
    worker = MeshWorker(work, errors.append)
    small, large = mesh(1.0), mesh(2.0)
    assert worker.result("a", (1, 0.0), small) is None
    wait(lambda: work.started == [small])
    assert worker.result("a", (1, 0.01), large) is None  # while the first is in work
    work.may_end.release()
    wait(lambda: work.started == [small, large])
    assert not worker.has_new_result("a", (1, 0.0)) and not worker.has_new_result("a", (1, 0.01))
    work.may_end.release()
    wait(lambda: worker.has_new_result("a", (1, 0.01)))
    assert worker.result("a", (1, 0.01), large) == [large]
    assert not worker.has_new_result("a", (1, 0.01)) and not errors


def test_the_thread_ends_with_the_work_and_restarts_with_it() -> None:
    work = Work()
    worker = MeshWorker(work, lambda error: None)
    for version in (1, 2):
        worker.result("a", version, mesh(1.0))
        work.may_end.release()
        wait(lambda version=version: worker.has_new_result("a", version))
        wait(lambda: not any(thread.is_alive() for thread in work.threads))
    assert len(work.started) == 2


def test_meshes_of_removed_objects_are_not_processed() -> None:
    work = Work()
    worker = MeshWorker(work, lambda error: None)
    kept, other = mesh(1.0), mesh(2.0)
    worker.result("a", 1, mesh(0.0))
    wait(lambda: len(work.started) == 1)
    worker.result("b", 1, other)
    worker.result("c", 1, kept)
    worker.keep({"c"})
    work.may_end.release(2)
    wait(lambda: worker.has_new_result("c", 1))
    wait(lambda: not any(thread.is_alive() for thread in work.threads))
    assert work.started[1:] == [kept] and not worker.has_new_result("a", 1)
