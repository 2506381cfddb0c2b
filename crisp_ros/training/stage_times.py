"""Times of the stages of a run, over all its continuations."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from crisp_ros.data.atomic_file import write_atomically

_EVERY_S = 5.0


class StageTimes:
    """Wall and processor seconds by stage, kept in a JSON file."""

    def __init__(self, path: Path) -> None:
        """Name the file, which need not exist."""
        self._path = path

    def to_json(self) -> dict[str, Any]:
        """Seconds by stage: wall and processor."""
        return json.loads(self._path.read_text()) if self._path.exists() else {}

    @contextmanager
    def timed(self, stage: str) -> Iterator[Callable[[], None]]:
        """Add a stage's time to what is kept.

        Yields a function to call now and then, so that a killed run's work counts as well.
        """
        times = self.to_json()
        before = times.get(stage, {"wall": 0.0, "processor": 0.0})
        wall, processor, written = time.monotonic(), time.process_time(), 0.0

        def write() -> None:
            nonlocal written
            written = time.monotonic()
            times[stage] = {
                "wall": before["wall"] + written - wall,
                "processor": before["processor"] + time.process_time() - processor,
            }
            write_atomically(self._path, json.dumps(times))

        def now_and_then() -> None:
            if time.monotonic() - written > _EVERY_S:
                write()

        try:
            yield now_and_then
        finally:
            write()
