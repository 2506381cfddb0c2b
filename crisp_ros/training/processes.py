"""The processes of one training: a single one, or as many as torchrun started on all machines."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import torch
import torch.distributed as distributed

from .recipe import RecipeError

_TIMEOUT = timedelta(hours=24)  # the others wait for as long as the first fits shapes alone


@dataclass(frozen=True)
class Processes:
    """This process among those that train one model together.

    Attributes:
        rank: number of this process.
        count: number of all processes.
        device: where this process trains.
    """

    rank: int = 0
    count: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def is_first(self) -> bool:
        """Whether this process does what only one should: fit shapes, evaluate, write."""
        return self.rank == 0

    def share(self, batch: int) -> int:
        """Number of crops of a batch per process.

        Raises:
            RecipeError: not the same number for all.
        """
        if batch % self.count:
            raise RecipeError(
                f"a batch of {batch} crops cannot be shared out among {self.count} processes:"
                " change one of the numbers"
            )
        return batch // self.count

    def wait(self) -> None:
        """Return once every process has come here."""
        if self.count > 1:
            distributed.all_reduce(torch.zeros(1))


@contextmanager
def training_processes(device: str = "cpu") -> Iterator[Processes]:
    """Join the processes that torchrun started; a lone process without it.

    Gradients travel by NCCL between GPUs and by Gloo between CPUs. With `cuda` each process takes
    the GPU of its number on its machine.

    Raises:
        RuntimeError: the others cannot be reached.
    """
    where = torch.device(device)
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield Processes(device=where)
        return
    if where.type == "cuda":
        where = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(where)
    backend = "cpu:gloo,cuda:nccl" if where.type == "cuda" else "gloo"
    distributed.init_process_group(backend, timeout=_TIMEOUT)
    try:
        yield Processes(distributed.get_rank(), count, where)
    finally:
        distributed.destroy_process_group()
