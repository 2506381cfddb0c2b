"""Map a task over independent items, in this process or with the workers of a Dask cluster."""

from __future__ import annotations

import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

import crisp_ros

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

_AHEAD = 3  # items submitted per worker thread, so that no thread waits
_JOIN_S = 60.0
_END = object()


class ClusterError(RuntimeError):
    """An unusable or lost cluster; the message names the cause and the remedy."""


class MapFunction(Protocol):
    """The interface of the built-in `map` for one iterable: results in the order of the items.

    A task's result must depend on its item only, so that it does not depend on the worker.
    """

    def __call__(
        self, task: Callable[[_Item], _Result], items: Iterable[_Item], /
    ) -> Iterator[_Result]: ...


@contextmanager
def mapping(cluster: str | None) -> Iterator[MapFunction]:
    """Provide the built-in `map`, or one that distributes the items over a cluster's workers.

    If a worker is lost, other workers repeat the items that it was processing.

    Args:
        cluster: None for this process; "local:N" for N processes on this machine; or the address
            of a running Dask scheduler, such as tcp://host:8786 or tls://host:8786.

    Raises:
        ClusterError: Dask is not installed, no scheduler answers, no worker has joined, or a
            worker has another version of this package.
    """
    if cluster is None:
        yield map
        return
    try:
        import distributed
    except ModuleNotFoundError as error:
        raise ClusterError(
            f"--cluster {cluster}: {error}; install it with: pip install 'crisp_ros[cluster]'"
        ) from error
    with tempfile.TemporaryDirectory() as folder, _client(distributed, cluster, folder) as client:
        _check_workers(distributed, client, cluster)
        yield lambda task, items: _map_on_cluster(distributed, client, cluster, task, items)


@contextmanager
def _client(distributed: Any, cluster: str, folder: str) -> Iterator[Any]:
    if not cluster.startswith("local:"):
        try:
            client = distributed.Client(cluster, timeout=_JOIN_S / 6.0, set_as_default=False)
        except (OSError, ValueError) as error:
            raise ClusterError(
                f"--cluster {cluster}: no Dask scheduler answers at this address ({error});"
                " expected local:N or an address such as tcp://host:8786"
            ) from error
        with client:
            yield client
        return
    count = cluster.removeprefix("local:")
    if not count.isdecimal() or int(count) < 1:
        raise ClusterError(f"--cluster {cluster}: expected a positive number after local:")
    with (
        distributed.LocalCluster(
            n_workers=int(count),
            threads_per_worker=1,
            memory_limit=None,
            dashboard_address=None,
            local_directory=folder,
            silence_logs="ERROR",
        ) as local,
        distributed.Client(local, set_as_default=False) as client,
    ):
        yield client


def _check_workers(distributed: Any, client: Any, cluster: str) -> None:
    try:
        client.wait_for_workers(1, timeout=_JOIN_S)
    except TimeoutError as error:
        raise ClusterError(
            f"--cluster {cluster}: no worker has joined; start workers with: dask worker {cluster}"
        ) from error
    versions = client.run(_version, on_error="return")
    others = {w: v for w, v in versions.items() if v != crisp_ros.__version__}
    if others:
        worker, version = next(iter(others.items()))
        raise ClusterError(
            f"--cluster {cluster}: worker {worker} has crisp_ros {version}, this machine"
            f" has {crisp_ros.__version__}: install the same version on all machines"
        )


def _version() -> str:
    return crisp_ros.__version__


def _map_on_cluster(
    distributed: Any,
    client: Any,
    cluster: str,
    task: Callable[[_Item], _Result],
    items: Iterable[_Item],
) -> Iterator[_Result]:
    remaining = iter(items)
    # The task may contain a model: send it to each worker once, and the items one by one.
    scattered_task = client.scatter(task, broadcast=True)
    waiting: deque[Any] = deque()
    try:
        while True:
            most = _AHEAD * max(1, sum(client.nthreads().values()))
            while len(waiting) < most and (item := next(remaining, _END)) is not _END:
                waiting.append(client.submit(_apply, scattered_task, item, pure=False))
            if not waiting:
                return
            yield waiting.popleft().result()
    except (distributed.KilledWorker, distributed.CancelledError) as error:
        raise ClusterError(f"--cluster {cluster}: its workers were lost ({error})") from error
    finally:
        client.cancel(list(waiting))


def _apply(task: Callable[[_Item], _Result], item: _Item) -> _Result:
    return task(item)
