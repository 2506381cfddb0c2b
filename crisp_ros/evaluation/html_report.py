"""A page that shows what the node made of a recording; one file that needs no other."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crisp_ros.evaluation.charts import (
    PALETTE,
    Axis,
    Mark,
    legend,
    line_chart,
    stacked_chart,
)
from crisp_ros.evaluation.recording import (
    HALF_VISIBLE,
    ObjectScore,
    RecordingScore,
    TrueShape,
    median,
    number,
    percent,
    shape_distance,
)
from crisp_ros.evaluation.scene_points import Cloud

_PAGE = Path(__file__).parent / "page"
_CLOUD_UNIT_M = 2e-4  # 16 bits reach 6.5 m
_TRUTH_UNIT_M = 2e-5
_TRUTH_POINTS = 700
_ASIDE = 0.6  # radians from where the camera stood at first, so that it is in the picture
# An optical camera frame with its y axis down, stood upright.
_UPRIGHT = np.array([[1.0, 0, 0, 0], [0, 0, 1.0, 0], [0, -1.0, 0, 0], [0, 0, 0, 1.0]])


@dataclass(frozen=True)
class Surface:
    """A reconstructed shape: vertices (V, 3) in metres, object frame; faces (F, 3)."""

    vertices: NDArray[np.float32]
    faces: NDArray[np.int32]


@dataclass(frozen=True)
class SceneFrame:
    """What a frame shows besides its scores.

    Attributes:
        overlay: JPEG of the image with the estimates drawn into it, empty where there is none.
        T_world_camera: (4, 4), None where the camera's place is not known.
        truth: name and T_camera_object of the true objects.
        cloud: index of the points to show with it, None for none.
    """

    overlay: bytes = b""
    T_world_camera: NDArray[np.float64] | None = None
    truth: Sequence[tuple[str, NDArray[np.float64]]] = ()
    cloud: int | None = None


@dataclass(frozen=True)
class Report:
    """All that the page tells.

    Attributes:
        title, lead, footer: plain text.
        score: with one entry a frame.
        frames: in the same order.
        surfaces: by (id, mesh version).
        shapes: the true shapes by name.
        clouds: in the world frame where the camera's place is known, else in the camera's; they
            are what `SceneFrame.cloud` counts.
        field: half width and half height of the image at distance 1.
    """

    title: str
    lead: str
    footer: str
    score: RecordingScore
    frames: Sequence[SceneFrame]
    surfaces: Mapping[tuple[str, int], Surface] = field(default_factory=dict)
    shapes: Mapping[str, TrueShape] = field(default_factory=dict)
    clouds: Sequence[Cloud] = ()
    field: tuple[float, float] = (0.4, 0.3)


def html_report(report: Report) -> str:
    """The page as text."""
    # `</` would end the script that the data is in.
    data = json.dumps(_data(report), allow_nan=False, separators=(",", ":")).replace("</", "<\\/")
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
        last=max(len(report.frames) - 1, 0),
        data=data,
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
        median = float(np.median(score.round_trip_ms))
        value, unit = (f"{median:.0f}", "ms") if median < 1e4 else (f"{median / 1e3:.1f}", "s")
        cards.append((value, unit, "median from images sent to estimates received"))
    return "".join(
        f'<div class="card"><b>{value} <small>{unit}</small></b><span>{text}</span></div>'
        for value, unit, text in cards
    )


def _charts(score: RecordingScore) -> str:
    names = score.names
    last = max(len(score.frames) - 1, 1)
    time = Axis(0, last, "frame")
    charts = []
    if score.has_truth:
        errors = {name: [o for o in score.objects if o.name == name] for name in names}
        add_s = {n: [_mark(o, 1e3 * o.add_s_m, "mm") for o in found] for n, found in errors.items()}
        turned = {
            n: [_mark(o, math.degrees(o.rotation_error_rad), "deg") for o in found]
            for n, found in errors.items()
        }
        charts += [
            (
                "ADD-S",
                "filled: certified; dashed: 2 cm",
                line_chart(add_s, time, _log_axis(add_s, "mm"), limit=20.0) + legend(names),
            ),
            (
                "Rotation error",
                "a can turned about its axis counts as wrong here, not in ADD-S",
                line_chart(turned, time, _log_axis(turned, "deg")) + legend(names),
            ),
            ("Accuracy", "share of objects below an ADD-S error", _accuracy(score)),
        ]
    stages = {
        name: [frame.stage_ms.get(name, 0.0) for frame in score.frames] for name in score.stage_ms
    }
    if stages:
        highest = max(sum(frame.stage_ms.values()) for frame in score.frames)
        bars = Axis(-0.5, len(score.frames) - 0.5, "frame")
        chart = stacked_chart(stages, bars, Axis(0, 1.05 * max(highest, 1.0), "ms"))
        charts.append(("Time in the node", "by stage", chart + legend(list(stages))))
    return "".join(
        f"<figure><figcaption>{name}<span>{note}</span></figcaption>{chart}</figure>"
        for name, note, chart in charts
    )


def _accuracy(score: RecordingScore) -> str:
    """Accuracy over the threshold, of all objects, the clearly visible and the certified."""
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
    score = report.score
    head = [
        "object",
        "frames",
        "certified",
        "ADD-S mm",
        "rotation deg",
        "shape mm",
        "when not certified",
    ]
    rows = []
    for index, name in enumerate(score.names):
        found = score.of_object(name)
        colour = PALETTE[index % len(PALETTE)]
        reasons = [o.reason for o in found if o.reason]
        usual = max(set(reasons), key=reasons.count) if reasons else ""
        rows.append(
            [
                f'<i style="background:{colour}"></i>{escape(name) or "object"}',
                str(len(found)),
                percent(float(np.mean([o.certified for o in found]))) + " %",
                number(1e3 * median(o.add_s_m for o in found)),
                number(math.degrees(median(o.rotation_error_rad for o in found))),
                number(1e3 * _shape_error(report, found)),
                escape(usual),
            ]
        )
    lines = ["".join(f"<td>{cell}</td>" for cell in row) for row in rows]
    header = "".join(f"<th>{cell}</th>" for cell in head)
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f"<table><thead><tr>{header}</tr></thead><tbody>{body}</tbody></table>"


def _shape_error(report: Report, found: Sequence[ObjectScore]) -> float:
    """Of the surface that an object had last; NaN where it or the truth is not known."""
    for o in reversed(found):
        surface = report.surfaces.get((o.id, o.mesh_version))
        if surface is not None and o.name in report.shapes:
            return shape_distance(surface.vertices, surface.faces, report.shapes[o.name])
    return math.nan


def _data(report: Report) -> dict[str, Any]:
    score, names = report.score, report.score.names
    keys = list(
        dict.fromkeys(
            (o.id, o.mesh_version)
            for frame in score.frames
            for o in frame.objects
            if (o.id, o.mesh_version) in report.surfaces
        )
    )
    colours = {o.id: _rgb(names.index(o.name)) for f in score.frames for o in f.objects}
    truths = [name for name in names if name in report.shapes]
    frames = []
    upright = any(frame.T_world_camera is not None for frame in report.frames)
    for scored, seen in zip(score.frames, report.frames, strict=True):
        T_world_camera = _UPRIGHT if seen.T_world_camera is None else seen.T_world_camera
        frames.append(
            {
                "caption": f"frame {scored.index}",
                "image": _base64(seen.overlay),
                "shown": [
                    [
                        keys.index((o.id, o.mesh_version)),
                        _matrix(T_world_camera @ o.T_camera_object),
                        o.certified,
                    ]
                    for o in scored.objects
                    if o.T_camera_object is not None and (o.id, o.mesh_version) in keys
                ],
                "truth": [
                    [truths.index(name), _matrix(T_world_camera @ T)]
                    for name, T in seen.truth
                    if name in truths
                ],
                "camera": _matrix(T_world_camera),
                "cloud": seen.cloud,
            }
        )
    places = [place[12:15] for frame in frames for _, place, _ in frame["shown"]]
    target = np.median(places, axis=0) if places else np.array([0.0, 0.0, 0.0])
    eyes = np.array([frame["camera"][12:15] for frame in frames]) if frames else np.zeros((1, 3))
    toward = eyes[0] - target
    return {
        "frames": frames,
        "scene": {
            "meshes": [_mesh_json(report.surfaces[key], colours[key[0]]) for key in keys],
            "truths": [_points_json(_thinned(report.shapes[name].points)) for name in truths],
            "clouds": [_cloud_json(cloud, upright) for cloud in report.clouds],
            "truth_unit": _TRUTH_UNIT_M,
            "cloud_unit": _CLOUD_UNIT_M,
            "target": [round(float(v), 4) for v in target],
            "turn": round(math.atan2(toward[1], toward[0]) + _ASIDE, 3),
            "distance": round(float(np.clip(0.9 * np.linalg.norm(toward), 0.3, 3.0)), 3),
            "upright": upright,
            "field": list(report.field),
        },
    }


def _mesh_json(surface: Surface, colour: tuple[float, ...]) -> dict[str, Any]:
    reach = float(np.abs(surface.vertices).max(initial=1e-6))
    unit = reach / 32767.0
    return {
        "vertices": _shorts(surface.vertices, unit),
        "faces": _base64(np.ascontiguousarray(surface.faces, "<u4").tobytes()),
        "face_count": len(surface.faces),
        "unit": unit,
        "colour": colour,
    }


def _cloud_json(cloud: Cloud, in_world: bool) -> dict[str, Any]:
    points = cloud.points if in_world else cloud.points @ _UPRIGHT[:3, :3].T
    reach = 32767 * _CLOUD_UNIT_M
    near = (np.abs(points) < reach).all(axis=1)
    # Those of the objects come last and can be left out.
    order = np.argsort(cloud.on_object, kind="stable")
    order = order[near[order]]
    colours = np.ascontiguousarray(cloud.colours[order], np.uint8)
    return {
        "points": _shorts(points[order], _CLOUD_UNIT_M),
        "colours": _base64(colours.tobytes()),
        "count": len(order),
        "around": int(np.count_nonzero(~cloud.on_object[order])),
    }


def _points_json(points: NDArray[np.floating]) -> dict[str, Any]:
    return {"points": _shorts(points, _TRUTH_UNIT_M), "count": len(points)}


def _thinned(points: NDArray[np.float64]) -> NDArray[np.float64]:
    return points[:: max(1, len(points) // _TRUTH_POINTS)]


def _shorts(points: NDArray[np.floating], unit: float) -> str:
    return _base64(np.rint(np.asarray(points) / unit).astype("<i2").tobytes())


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _matrix(T: NDArray[np.float64]) -> list[float]:
    """Column by column, as WebGL wants it."""
    return [round(float(v), 6) for v in np.asarray(T).T.ravel()]


def _rgb(index: int) -> tuple[float, ...]:
    colour = PALETTE[index % len(PALETTE)]
    return tuple(round(int(colour[i : i + 2], 16) / 255.0, 3) for i in (1, 3, 5))


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
