"""Terminal output of `crisp demo`."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from crisp_ros.evaluation.recording_score import FrameScore, ObjectScore, RecordingScore
from crisp_ros.evaluation.summary_statistics import known_median
from crisp_ros.reports.number_text import number, percent

_BAR_WIDTH = 40
_GOOD_M, _FAIR_M = 0.01, 0.02
_ERRORS = ("ADD-S\nmm", "rotation\ndeg")


def live_view(scores: Sequence[FrameScore], state: str, total: int) -> RenderableType:
    """The newest frame and the figures so far; before the first frame, what is awaited."""
    if not scores:
        return Text(f"{state} ...", style="dim")
    bar = Table.grid(padding=(0, 1))
    progress = ProgressBar(total, len(scores), width=_BAR_WIDTH)
    bar.add_row(f"frame {len(scores)} of {total}", progress)
    return Group(bar, _frame_table(scores[-1]), _times(scores[-1]), _so_far(scores))


def frame_line(score: FrameScore, total: int) -> str:
    """One frame in one line, where no table can be redrawn."""
    start = f"frame {score.index + 1}/{total}: "
    if not score.answered:
        return f"{start}no answer"
    certified = sum(o.certified for o in score.objects)
    error = known_median(o.add_s_m for o in score.objects)
    errors = "" if math.isnan(error) else f"median ADD-S {number(1e3 * error)} mm, "
    return (
        f"{start}{len(score.objects)} objects, {errors}{certified} certified,"
        f" {score.round_trip_ms:.0f} ms"
    )


def summary(score: RecordingScore) -> RenderableType:
    """Accuracy, where the truth is known, of each object and of all; and latency."""
    return Group(_object_table(score), _figure_table(score))


def _object_table(score: RecordingScore) -> Table:
    table = Table(title="Objects, medians", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("object", no_wrap=True)
    for column in ("frames", *(_ERRORS if score.has_truth else ()), "certified"):
        table.add_column(column, justify="right", no_wrap=True)
    for name in score.names:
        found = score.of_object(name)
        errors = (
            number(1e3 * known_median(o.add_s_m for o in found)),
            number(math.degrees(known_median(o.rotation_error_rad for o in found))),
        )
        certified = percent(float(np.mean([o.certified for o in found])))
        shown = errors if score.has_truth else ()
        table.add_row(name, str(len(found)), *shown, f"{certified} %")
    return table


def _figure_table(score: RecordingScore) -> Table:
    table = Table(title="Summary", title_justify="left", box=SIMPLE_HEAD, show_header=False)
    table.add_column()
    table.add_column(justify="right")
    answered = sum(f.answered for f in score.frames)
    table.add_row("frames answered", f"{answered} of {len(score.frames)}")
    if score.has_truth:
        table.add_row("median ADD-S", f"{number(1e3 * score.median_add_s_m)} mm")
        share = f"{percent(score.share_within_2cm)} %"
        table.add_row("ADD-S below 2 cm, of those more than half visible", share)
        for name, area in score.auc_add_s.items():
            table.add_row(f"area under the ADD-S curve to {name}", f"{area:.3f}")
        share = f"{percent(score.certified_within_2cm)} %"
        table.add_row("ADD-S below 2 cm, of those certified", share)
    table.add_row("certified", f"{percent(score.certified_share)} %")
    if score.round_trip_ms:
        middle, p95 = np.percentile(score.round_trip_ms, [50, 95])
        table.add_row("images to estimates, median and p95", f"{middle:.0f} and {p95:.0f} ms")
    for name, values in score.stage_ms.items():
        table.add_row(f"  {name}", f"{np.median(values):.0f} ms")
    return table


def _frame_table(score: FrameScore) -> Table:
    has_truth = any(not math.isnan(o.add_s_m) for o in score.objects)
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("object", no_wrap=True)
    table.add_column("x, y, z\nm", justify="right", no_wrap=True)
    for column in _ERRORS if has_truth else ():
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("certified")  # the one that gives way where it is narrow
    for o in score.objects:
        errors = (_add_s(o), number(math.degrees(o.rotation_error_rad))) if has_truth else ()
        table.add_row(o.name, _position(o), *errors, _verdict(o))
    return table


def _times(score: FrameScore) -> Text:
    if not score.answered:
        return Text("no answer", style="red")
    stages = ", ".join(f"{name} {ms:.0f}" for name, ms in score.stage_ms.items())
    return Text(f"{score.round_trip_ms:.0f} ms from images to estimates ({stages})")


def _so_far(scores: Sequence[FrameScore]) -> Text:
    score = RecordingScore(tuple(scores))
    parts = [f"median ADD-S {number(1e3 * score.median_add_s_m)} mm"] if score.has_truth else []
    parts.append(f"{percent(score.certified_share)} % certified")
    if score.round_trip_ms:
        parts.append(f"median {np.median(score.round_trip_ms):.0f} ms")
    return Text(f"so far: {', '.join(parts)}", style="bold")


def _position(o: ObjectScore) -> str:
    if o.T_camera_object is None:
        return "-"
    return " ".join(f"{v:6.3f}" for v in o.T_camera_object[:3, 3])


def _add_s(o: ObjectScore) -> Text:
    if math.isnan(o.add_s_m):
        return Text()
    colour = "green" if o.add_s_m < _GOOD_M else "yellow" if o.add_s_m < _FAIR_M else "red"
    return Text("missed" if math.isinf(o.add_s_m) else number(1e3 * o.add_s_m), style=colour)


def _verdict(o: ObjectScore) -> Text:
    verdict, colour = ("yes", "green") if o.certified else (f"no: {o.reason}", "yellow")
    return Text(verdict, style=colour, no_wrap=True, overflow="ellipsis")
