"""Wall times of several tasks, measured alternately under the same machine load."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch


@dataclass(frozen=True)
class Task:
    """A task to be timed.

    Attributes:
        name: of the row in the report.
        run: processes the input of the given index and returns the answer.
        inputs: number of inputs; repetition i processes input i modulo this number.
        repetitions: number of timed runs.
        objects: number of objects in one run.
        points: number of points per object.
        solver: description of the method.
        device: on which the task runs.
    """

    name: str
    run: Callable[[int], Any]
    inputs: int
    repetitions: int
    objects: int
    points: int
    solver: str
    device: str = "cpu"


@dataclass
class Timing:
    """Times of one task.

    Attributes:
        task: the task.
        milliseconds: wall time of each repetition.
        answers: of the first run on each input, by its index.
    """

    task: Task
    milliseconds: list[float] = field(default_factory=list)
    answers: dict[int, Any] = field(default_factory=dict)

    @property
    def median_ms(self) -> float:
        """Median over the repetitions."""
        return float(np.median(self.milliseconds))

    @property
    def p95_ms(self) -> float:
        """95th percentile over the repetitions."""
        return float(np.quantile(self.milliseconds, 0.95))

    def to_json(self) -> dict[str, Any]:
        """The row as JSON values."""
        return {
            "name": self.task.name,
            "objects": self.task.objects,
            "points": self.task.points,
            "solver": self.task.solver,
            "median_ms": self.median_ms,
            "p95_ms": self.p95_ms,
            "repetitions": len(self.milliseconds),
        }


def timed(
    tasks: Sequence[Task], on_run: Callable[[int, int], None] = lambda done, total: None
) -> dict[str, Timing]:
    """Run every task once to warm up and then round by round, and return timings by name.

    Tasks with fewer repetitions are not part of the later rounds.

    Args:
        tasks: with distinct names.
        on_run: called with the number of finished runs and of all runs, including warm-ups.
    """
    timings = {task.name: Timing(task) for task in tasks}
    total = sum(task.repetitions + 1 for task in tasks)
    done = 0
    for repetition in range(-1, max(task.repetitions for task in tasks)):
        for task in tasks:
            if repetition >= task.repetitions:
                continue
            index = max(repetition, 0) % task.inputs
            synchronised(task.device)
            start = time.perf_counter()
            answer = task.run(index)
            synchronised(task.device)
            if repetition >= 0:
                timings[task.name].milliseconds.append(1e3 * (time.perf_counter() - start))
                timings[task.name].answers.setdefault(index, answer)
            done += 1
            on_run(done, total)
    return timings


def synchronised(device: str) -> None:
    """Wait until a GPU has finished its work; do nothing on a CPU."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


@dataclass(frozen=True)
class DeviceUse:
    """GPU memory and synchronisations of one run.

    Attributes:
        peak_memory_mb: peak memory of tensors, 2^20 bytes.
        host_synchronisations: number of times that the CPU waited for the GPU.
    """

    peak_memory_mb: float
    host_synchronisations: int


def device_use(run: Callable[[], Any], device: str) -> DeviceUse | None:
    """Measure memory and synchronisations of one run; None on a CPU."""
    if torch.device(device).type != "cuda":
        run()
        return None
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            run()
        finally:
            torch.cuda.set_sync_debug_mode(before)
    waits = sum("synchroniz" in str(warning.message) for warning in caught)
    return DeviceUse(torch.cuda.max_memory_allocated(device) / 2**20, waits)
