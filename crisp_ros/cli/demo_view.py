"""What `crisp demo` shows in a terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from crisp_ros.evaluation.recording import FrameScore, ObjectScore, RecordingScore

_BAR_WIDTH = 40
_GOOD_M, _FAIR_M = 0.01, 0.02


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
    errors = [o.add_s_m for o in score.objects if not math.isnan(o.add_s_m)]
    median = f"median ADD-S {_millimetres(float(np.median(errors)))}, " if errors else ""
    return (
        f"{start}{len(score.objects)} objects, {median}{certified} certified,"
        f" {score.round_trip_ms:.0f} ms"
    )


def summary(score: RecordingScore) -> Table:
    """Accuracy, where the truth is known, and latency."""
    table = Table(title="Summary", title_justify="left", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    answered = sum(f.answered for f in score.frames)
    table.add_row("frames answered", f"{answered} of {len(score.frames)}")
    if score.has_truth:
        table.add_row("median ADD-S", _millimetres(score.median_add_s_m))
        table.add_row("within 2 cm, more than half visible", _percent(score.share_within_2cm))
        for name, area in score.auc_add_s.items():
            table.add_row(f"ADD-S AUC to {name}", f"{area:.3f}")
        table.add_row("certified and within 2 cm", _percent(score.certified_within_2cm))
    table.add_row("certified", _percent(score.certified_share))
    if score.round_trip_ms:
        median, p95 = np.percentile(score.round_trip_ms, [50, 95])
        table.add_row("images to estimates, median and p95", f"{median:.0f} and {p95:.0f} ms")
    for name, values in score.stage_ms.items():
        table.add_row(f"  {name}", f"{np.median(values):.0f} ms")
    return table


def _frame_table(score: FrameScore) -> Table:
    has_truth = any(not math.isnan(o.add_s_m) for o in score.objects)
    table = Table()
    table.add_column("object", no_wrap=True)
    table.add_column("x, y, z in m", justify="right", no_wrap=True)
    for column in ("ADD-S mm", "rotation deg") if has_truth else ():
        table.add_column(column, justify="right")
    table.add_column("certified", no_wrap=True, min_width=24)
    for o in score.objects:
        errors = (_add_s(o), _rotation(o)) if has_truth else ()
        table.add_row(o.name or str(o.label), _position(o), *errors, _verdict(o))
    return table


def _times(score: FrameScore) -> Text:
    if not score.answered:
        return Text("no answer", style="red")
    stages = ", ".join(f"{name} {ms:.0f}" for name, ms in score.stage_ms.items())
    return Text(f"{score.round_trip_ms:.0f} ms from images to estimates ({stages})")


def _so_far(scores: Sequence[FrameScore]) -> Text:
    score = RecordingScore(tuple(scores))
    parts = [f"median ADD-S {_millimetres(score.median_add_s_m)}"] if score.has_truth else []
    parts.append(f"{_percent(score.certified_share)} certified")
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
    if math.isinf(o.add_s_m):
        return Text("missed", style="red")
    colour = "green" if o.add_s_m < _GOOD_M else "yellow" if o.add_s_m < _FAIR_M else "red"
    return Text(f"{1e3 * o.add_s_m:.1f}", style=colour)


def _rotation(o: ObjectScore) -> str:
    known = math.isfinite(o.rotation_error_rad)
    return f"{math.degrees(o.rotation_error_rad):.1f}" if known else ""


def _verdict(o: ObjectScore) -> Text:
    if o.certified:
        return Text("yes", style="green")
    return Text(f"no: {o.reason}" if o.reason else "no", style="yellow")


def _millimetres(metres: float) -> str:
    return f"{1e3 * metres:.1f} mm" if math.isfinite(metres) else "-"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if math.isfinite(share) else "-"
