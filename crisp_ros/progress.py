"""Progress of long work on the standard error output."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


@contextmanager
def progress(description: str) -> Iterator[Callable[[int, int], None]]:
    """Show progress on stderr: a bar on a terminal, a line every tenth of the work elsewhere.

    Yields a function to call with the count done and the total.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda done, total: _tenths(console, description, done, total)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(description, total=None)
        try:
            yield lambda done, total: bar.update(task, completed=done, total=total)
        except BaseException:
            bar.live.transient = True  # what remains on the screen is the error alone
            raise


def _tenths(console: Console, description: str, done: int, total: int) -> None:
    if 10 * done // total > 10 * (done - 1) // total:
        console.print(f"{description}: {done}/{total}", highlight=False)
