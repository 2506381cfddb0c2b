"""Clock of the stages of a frame."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

STAGES = ("observe", "network", "registration", "correction", "certificate", "covariance", "answer")


class StageClock:
    """Adds up the wall time of `STAGES`; waits for the device at both ends of each."""

    def __init__(self, device: torch.device) -> None:
        self.milliseconds = dict.fromkeys(STAGES, 0.0)
        self._wait: Callable[[], None] = (
            (lambda: torch.cuda.synchronize(device)) if device.type == "cuda" else (lambda: None)
        )

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count what is done within for this stage."""
        self._wait()
        start = time.perf_counter()
        try:
            yield
        finally:
            self._wait()
            self.milliseconds[name] += 1e3 * (time.perf_counter() - start)
