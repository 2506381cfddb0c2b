"""The number of CPU threads of PyTorch's operations, of which each thread has its own."""

from __future__ import annotations

import torch

_ONE_A_CORE = torch.get_num_threads()  # PyTorch's own number, before anybody sets another


def set_own_cpu_threads(count: int) -> None:
    """Set the number of CPU threads that operations of the calling thread use.

    Other threads keep theirs, if they have one already: at its first operation a thread takes over
    the number that any thread set last.

    Args:
        count: from 1 on; or 0, one a core.
    """
    torch.get_num_threads()  # counts as the first operation, which would undo what is set next
    torch.set_num_threads(count or _ONE_A_CORE)
