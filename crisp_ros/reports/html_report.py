"""The page about the node's estimates of a recording, in a single file."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from string import Template

import numpy as np

from crisp_ros.evaluation.recording_score import HALF_VISIBLE, ObjectScore, RecordingScore
from crisp_ros.evaluation.summary_statistics import known_median
from crisp_ros.evaluation.true_shapes import TrueShape, shape_distance
from crisp_ros.reports.number_text import number, percent
from crisp_ros.reports.scene_data import SceneFrame, Surfaces, scene_data
from crisp_ros.reports.scene_points import ScenePoints
from crisp_ros.reports.svg_charts import (
    PALETTE,
    Axis,
    Mark,
    legend,
    line_chart,
    stacked_chart,
)

_PAGE = Path(__file__).parent / "page"


@dataclass(frozen=True, eq=False)
class Report:
    """Content of the page.

    Attributes:
        title, lead, footer: plain text.
        score: with one entry a frame.
        frames: at least one, those whose image and scene are shown (see `shown_frames`).
        surfaces: the reconstructed ones, by object id and mesh version.
        shapes: the true ones by name, as far as known.
        points: of these frames.
    """

    title: str
    lead: str
    footer: str
    score: RecordingScore
    frames: Sequence[SceneFrame]
    surfaces: Surfaces
    shapes: Mapping[str, TrueShape]
    points: ScenePoints


def html_report(report: Report) -> str:
    """The page as text."""
    data = scene_data(report.score, report.frames, report.surfaces, report.shapes, report.points)
    # `</` would end the script that the data is in.
    text = json.dumps(data, allow_nan=False, separators=(",", ":")).replace("</", "<\\/")
    page = Template((_PAGE / "page.html").read_text())
    return page.substitute(
        title=escape(report.title),
        lead=escape(report.lead),
        footer="<br>".join(escape(line) for line in report.footer.splitlines()),
        style=(_PAGE / "page.css").read_text(),
        script=(_PAGE / "page.js").read_text(),
        cards=_cards(report.score),
        charts=_charts(report.score),
        table=_table(report),
        last=len(report.frames) - 1,
        data=text,
    )


def _cards(score: RecordingScore) -> str:
    cards = []
    if score.has_truth:
        error, within = score.median_add_s_m, score.share_within_2cm
        cards += [
            (number(1e3 * error), "mm", "median ADD-S"),
            (percent(within), "%", "of objects more than half visible are within 2 cm"),
            (f"{score.auc_add_s['2cm']:.2f}", "", "area under the ADD-S curve to 2 cm"),
            (percent(score.certified_within_2cm), "%", "of certified poses are within 2 cm"),
        ]
    cards.append((percent(score.certified_share), "%", "of estimates are certified"))
    if score.round_trip_ms:
        ms = float(np.median(score.round_trip_ms))
        value, unit = (f"{ms:.0f}", "ms") if ms < 1e4 else (f"{ms / 1e3:.1f}", "s")
        cards.append((value, unit, "median from images sent to estimates received"))
    return "".join(
        f'<div class="card"><b>{value} <small>{unit}</small></b><span>{text}</span></div>'
        for value, unit, text in cards
    )


def _charts(score: RecordingScore) -> str:
    if score.has_truth:
        add_s = _over_time(score, lambda o: 1e3 * o.add_s_m, "mm", limit=20.0)
        rotation = _over_time(score, lambda o: math.degrees(o.rotation_error_rad), "deg")
        charts = [
            ("ADD-S", "filled: certified; dashed: 2 cm", add_s),
            (
                "Rotation error",
                "a can rotated about its axis counts here, hardly in ADD-S",
                rotation,
            ),
            ("Accuracy", "share of objects below an ADD-S error", _accuracy(score)),
        ]
    else:
        residual = _over_time(score, lambda o: 1e3 * o.residual_m, "mm")
        charts = [("Certificate", "distance of depth points to the surface", residual)]
    charts.append(("Latency", "from images sent to estimates received", _latency(score)))
    return "".join(
        f"<figure><figcaption>{name}<span>{note}</span></figcaption>{chart}</figure>"
        for name, note, chart in charts
    )


def _over_time(
    score: RecordingScore,
    value: Callable[[ObjectScore], float],
    unit: str,
    limit: float | None = None,
) -> str:
    """Chart of a value of each object over the frames; rings are not certified."""
    series = {
        name: [_mark(o, value(o), unit) for o in score.of_object(name) if not math.isnan(value(o))]
        for name in score.names
    }
    frames = Axis(0, max(len(score.frames) - 1, 1), "frame", counts=True)
    chart = line_chart(series, frames, _log_axis(series, unit), limit, timeline=True)
    return chart + legend(list(series))


def _latency(score: RecordingScore) -> str:
    """Chart of the latency of each frame: the node's stages, and the rest of the round trip."""
    stages = {
        name: [frame.stage_ms.get(name, 0.0) for frame in score.frames] for name in score.stage_ms
    }
    whole = [frame.round_trip_ms if frame.answered else 0.0 for frame in score.frames]
    stages["transport"] = [
        total - sum(frame.stage_ms.values())
        for total, frame in zip(whole, score.frames, strict=True)
    ]
    bars = Axis(-0.5, len(score.frames) - 0.5, "frame", counts=True)
    chart = stacked_chart(stages, bars, Axis(0, 1.05 * max(*whole, 1.0), "ms"), timeline=True)
    return chart + legend(list(stages))


def _accuracy(score: RecordingScore) -> str:
    """Chart of the accuracy by threshold: all objects, clearly visible ones, certified ones."""
    groups = {
        "all": score.objects,
        "more than half visible": [o for o in score.objects if o.visible_share > HALF_VISIBLE],
        "certified": [o for o in score.objects if o.certified],
    }
    series = {}
    for name, objects in groups.items():
        errors = np.array([1e3 * o.add_s_m for o in objects])
        if len(errors):
            marks = [
                Mark(t, 100.0 * float(np.mean(errors <= t))) for t in np.arange(0, 30.25, 0.25)
            ]
            series[f"{name} ({len(errors)})"] = marks
    chart = line_chart(series, Axis(0, 30, "ADD-S, mm"), Axis(0, 100, "%"), dots=False)
    return chart + legend(list(series))


def _table(report: Report) -> str:
    """Table with a row per object: medians over its frames; errors if there is ground truth."""
    score, shape_errors = report.score, _shape_errors(report)
    head = ["object", "frames", "certified"]
    head += ["ADD-S mm", "rotation deg", "shape mm"] if score.has_truth else []
    head.append("why withheld, most often")
    rows = []
    for index, name in enumerate(score.names):
        found = score.of_object(name)
        reasons = [o.reason for o in found if o.reason]
        row = [
            f'<i style="background:{PALETTE[index % len(PALETTE)]}"></i>{escape(name)}',
            str(len(found)),
            percent(float(np.mean([o.certified for o in found]))) + " %",
        ]
        if score.has_truth:
            shapes = (shape_errors.get((o.id, o.mesh_version), math.nan) for o in found)
            row += [
                number(1e3 * known_median(o.add_s_m for o in found)),
                number(math.degrees(known_median(o.rotation_error_rad for o in found))),
                number(1e3 * known_median(shapes)),
            ]
        row.append(escape(Counter(reasons).most_common(1)[0][0]) if reasons else "")
        rows.append(row)
    lines = ["".join(f"<td>{cell}</td>" for cell in row) for row in rows]
    header = "".join(f"<th>{cell}</th>" for cell in head)
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f"<table><thead><tr>{header}</tr></thead><tbody>{body}</tbody></table>"


def _shape_errors(report: Report) -> dict[tuple[str, int], float]:
    """Shape errors in metres by object id and mesh version, where surface and truth are known."""
    errors = {}
    for o in (o for frame in report.score.frames for o in frame.objects):
        key = (o.id, o.mesh_version)
        if key in report.surfaces and key not in errors and o.name in report.shapes:
            surface = report.surfaces[key]
            shape = report.shapes[o.name]
            errors[key] = shape_distance(surface, shape)
    return errors


def _mark(o: ObjectScore, value: float, unit: str) -> Mark:
    shown = f"{value:.1f} {unit}" if math.isfinite(value) else "missed"
    verdict = "certified" if o.certified else o.reason or "not certified"
    return Mark(o.frame, value, not o.certified, f"{o.name}, frame {o.frame}: {shown}, {verdict}")


def _log_axis(series: Mapping[str, Sequence[Mark]], unit: str) -> Axis:
    values = [m.y for marks in series.values() for m in marks if 0.0 < m.y < math.inf]
    low = max(min(values, default=1.0), 0.5)
    high = max(max(values, default=100.0), 25.0)
    ends = [m * 10.0**e for e in range(-1, 4) for m in (1, 2, 5)]
    floor = max(e for e in ends if e <= low)
    return Axis(floor, next((e for e in ends if e >= high), 1e4), unit, logarithmic=True)
