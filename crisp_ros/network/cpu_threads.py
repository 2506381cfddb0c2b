"""The number of CPU threads of PyTorch's operations, of which each thread has its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch

_ONE_A_CORE = torch.get_num_threads()  # PyTorch's own number, before anybody sets another
_around: ContextVar[int | None] = ContextVar("threads around single_threaded", default=None)


def set_own_cpu_threads(count: int) -> None:
    """Set the number of CPU threads that operations of the calling thread use.

    Other threads keep theirs, if they have one already: at its first operation a thread takes over
    the number that any thread set last.

    Args:
        count: from 1 on; or 0, one a core.
    """
    torch.get_num_threads()  # counts as the first operation, which would undo what is set next
    torch.set_num_threads(count or _ONE_A_CORE)


@contextmanager
def single_threaded() -> Iterator[None]:
    """Run the operations of a block, or of a function that this decorates, on one thread.

    For many small operations: more threads hardly make them faster, and where other processes use
    the cores, every operation waits until all of its threads had their turn.
    """
    threads = torch.get_num_threads()
    token = _around.set(threads)
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        _around.reset(token)


@contextmanager
def multithreaded() -> Iterator[None]:
    """Run a block within `single_threaded` on as many threads as the code around that has."""
    before, threads = torch.get_num_threads(), _around.get()
    torch.set_num_threads(threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
