"""Progress of long work in the node's log."""

from __future__ import annotations

import time
from collections.abc import Callable


def progress_log(
    log: Callable[[str], object], every_s: float = 1.0
) -> Callable[[str, int, int], None]:
    """Return a function to call with what is done, the number done and that of all.

    Work that takes less than a period is not logged.

    Args:
        log: writes a line.
        every_s: period of the lines, seconds.
    """
    last = time.monotonic()

    def progress(what: str, done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last >= every_s:
            last = time.monotonic()
            log(f"{what}: {done} of {total}")

    return progress
