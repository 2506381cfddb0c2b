"""The benchmark as tables for a terminal and as a page for the documentation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from crisp_ros.benchmark.benchmark import FRAME_LIMIT_MS, BenchReport

_INTRODUCTION = """\
# How fast it is

This page is written by the command below it; run it to get the page for your machine.

The rows named `baseline_…` restate, in our words, how the released code of the paper's authors is
built (`crisp_ros/benchmark/baselines.py` says how); they are not that code itself. Both get the
same decoder and objects, and are timed in turns in one run, each until it has ended by itself.

Objects are library shapes seen from one random side, half visible, with {depth:.0f} mm of depth
noise, {pnc:.0f} mm of noise on the network's coordinates, {outliers:.0f} % outliers, and
coordinates shrunk by {shrink:.0f} %. Pose rows know the true shape; shape rows know the true pose
and start from another shape's code. Both projected gradients take the paper's step. Meshes are
compared without the small loose pieces that ours leaves out. A row's time is for all its objects
together; the memory is the process's, baselines included.
"""


def stage_table(report: BenchReport) -> Table:
    """One row a stage."""
    table = Table(title="Stages", box=SIMPLE_HEAD)
    table.add_column("stage", no_wrap=True)
    for column in ("objects", "points", "median\nms", "95 %\nms"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("how")
    for cells in _stage_rows(report):
        table.add_row(*cells)
    return table


def comparison_table(report: BenchReport) -> Table:
    """One row a comparison with a baseline."""
    table = Table(title="Against the baselines", box=SIMPLE_HEAD)
    table.add_column("ours", no_wrap=True)
    table.add_column("baseline", no_wrap=True)
    for column in ("times\nfaster", "at least"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("holds", justify="center")
    for cells in _comparison_rows(report):
        table.add_row(*cells[:-1])
    return table


def answer_lines(report: BenchReport) -> list[str]:
    """What the answers of each comparison are, a line each."""
    return [f"{c.name} and {c.baseline}: {c.answers.words}" for c in report.comparisons]


def frame_line(report: BenchReport) -> str:
    """A frame and its parts in one line."""
    frame = report.timings["frame"]
    parts = ", ".join(f"{name} {ms:.0f}" for name, ms in report.frame_stages.items())
    return (
        f"A frame with {frame.task.objects} objects takes {frame.median_ms:.0f} ms (95 % within "
        f"{frame.p95_ms:.0f} ms; {FRAME_LIMIT_MS:.0f} ms are allowed). "
        f"Medians of its parts, ms: {parts}."
    )


def device_line(report: BenchReport) -> str:
    """Memory, and on a GPU how often a frame waits for it."""
    line = f"The process held {report.process_peak_mb:.0f} MB at most"
    if report.device_use is None:
        return line + "."
    return (
        f"{line}; on the GPU a frame holds {report.device_use.peak_memory_mb:.0f} MB at most and "
        f"waits for it {report.device_use.host_synchronisations} times."
    )


def markdown_page(report: BenchReport, origin: Mapping[str, Any]) -> str:
    """The page, with the machine and the command that made it.

    Args:
        report: what was measured.
        origin: of `provenance`.
    """
    machine = origin["machine"]
    noise = report.settings.noise
    lines = [
        _INTRODUCTION.format(
            depth=1e3 * noise.depth_m,
            pnc=1e3 * noise.pnc_m,
            outliers=100 * noise.pnc_outliers,
            shrink=100 * (1 - noise.pnc_shrink),
        ),
        f"    {origin['command']}\n",
        f"Machine: {machine['cpu']}, {machine['threads']} threads, device {machine['device']}; "
        f"Python {machine['python']}, PyTorch {machine['torch']}, crisp_ros {origin['version']}. "
        f"Network: {report.network}{' with random weights' if report.random_weights else ''}.\n",
    ]
    if report.comparisons:
        lines += ["## Against the baselines\n"]
        header = ("ours", "baseline", "times faster", "at least", "holds", "answers")
        lines += _markdown_table(header, _comparison_rows(report))
    lines += [
        "## A frame of the bundled recording\n",
        frame_line(report) + " " + device_line(report),
        "Meshes are made when a shape is new or has changed: in the first frame of an object, "
        "mostly.\n",
        "## Stages\n",
    ]
    header = ("stage", "objects", "points", "median ms", "95 % ms", "how")
    return "\n".join([*lines, *_markdown_table(header, _stage_rows(report))])


def _stage_rows(report: BenchReport) -> list[tuple[str, ...]]:
    rows = []
    for name, timing in report.timings.items():
        task = timing.task
        points = f"{task.points}^3" if "mesh" in name else str(task.points or "")
        times = f"{timing.median_ms:.1f}", f"{timing.p95_ms:.1f}"
        rows.append((name, str(task.objects), points, *times, task.solver))
    return rows


def _comparison_rows(report: BenchReport) -> list[tuple[str, ...]]:
    return [
        (
            " + ".join(comparison.stages),
            comparison.baseline,
            f"{comparison.ratio:.1f}",
            "" if comparison.required is None else f"{comparison.required:g}",
            "yes" if comparison.holds else "no",
            comparison.answers.words,
        )
        for comparison in report.comparisons
    ]


def _markdown_table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    lines = [f"| {' | '.join(header)} |", "|" + "---|" * len(header)]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    return [*lines, ""]
