"""`crisp demo`: plays a recording through the node and shows its answers."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from crisp_ros.cli.options import OptionError, add_json_option, checkpoint_path
from crisp_ros.cli.render import SHAPES_NAME
from crisp_ros.data.bop import BopDataset
from crisp_ros.data.recording import Recording, Topics, bop_frames
from crisp_ros.evaluation.html_report import (
    Report,
    SceneFrame,
    Surface,
    html_report,
)
from crisp_ros.evaluation.recording import (
    FrameScore,
    ObjectScore,
    RecordingScore,
    TrueShape,
    frame_score,
    load_shapes,
    model_shapes,
)
from crisp_ros.evaluation.report import provenance, write_json
from crisp_ros.evaluation.scene_points import scene_points
from crisp_ros.share import share_directory

RECORDING = Path("recordings") / "table"
_ATTRIBUTION = (
    "The objects of the bundled recording are those of the YCB object and model set"
    " (Calli et al., Yale-CMU-Berkeley), used under CC BY 4.0; the recording is rendered."
)
_BOP_POINTS = 5_000
_POLL_S = 0.1
_GOODBYE_S = 5.0
_SHEET_FRAMES = 6
_FIRST_DOMAIN, _DOMAINS = 40, 60  # FastDDS's ports allow up to 101 on every system


class DemoError(Exception):
    """The demo cannot go on; the message says why and where to read more."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--bag",
        type=Path,
        metavar="PATH",
        help="rosbag2 folder or file to play (default: the recording that comes along)",
    )
    source.add_argument(
        "--bop", type=Path, metavar="DIR", help="play the images of a data set in the BOP layout"
    )
    parser.add_argument(
        "--topic",
        type=_topic,
        action="append",
        default=[],
        metavar="ROLE=NAME",
        help=f"topic of the bag, for {', '.join(Topics._fields)}; may be repeated",
    )
    parser.add_argument("--frames", type=int, default=0, help="most frames to play (default: all)")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("out/demo"),
        metavar="FOLDER",
        help="for the report (default: out/demo)",
    )
    parser.add_argument(
        "--checkpoint", type=Path, metavar="FILE", help="model file (default: the package's own)"
    )
    parser.add_argument(
        "--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)"
    )
    parser.add_argument(
        "--timeout",
        type=float,
        default=120.0,
        metavar="SECONDS",
        help="how long to wait for the node to start, and for each answer (default: 120)",
    )
    add_json_option(parser)


def run(args: argparse.Namespace) -> None:
    source = _source(args)
    checkpoint = checkpoint_path(args.checkpoint)
    results = args.output / "results"
    _empty(results)
    parameters = {
        "crisp": {"checkpoint": str(checkpoint.resolve()), "device": args.device},
        "crisp_player": {
            **source.parameters,
            "frames": args.frames,
            "timeout": args.timeout,
            "bring_up": True,
            "results": str(results.resolve()),
        },
    }
    parameter_file = results / "parameters.yaml"
    parameter_file.write_text(json.dumps(_ros_parameters(parameters)))  # JSON is YAML
    console = Console()
    outcome = _Outcome()
    total = min(source.count, args.frames) if args.frames > 0 else source.count
    with _processes(results, parameter_file) as processes:
        _watch(processes, results, source.shapes, total, outcome, console)
    score = RecordingScore(tuple(outcome.scores))
    report = {**score.to_json(), "recording": source.name, "model_version": outcome.model_version}
    report["config"] = provenance(args.command_line)
    console.print(_summary(score))
    _write_pictures(args.output, outcome)
    page = _report(source, outcome, score, report["config"])
    (args.output / "report.html").write_text(html_report(page))
    console.print(f"report: {args.output / 'report.html'}", highlight=False)
    if args.json:
        write_json(args.json, report)


@dataclass(frozen=True)
class _Source:
    """What is played: player parameters, number of frames, true shapes by name."""

    name: str
    parameters: Mapping[str, Any]
    count: int
    shapes: Mapping[str, TrueShape]
    recording: Recording | None = None
    dataset: BopDataset | None = None


@dataclass
class _Outcome:
    """What came back, grown while it plays."""

    scores: list[FrameScore] = field(default_factory=list)
    entries: list[dict[str, Any]] = field(default_factory=list)
    surfaces: dict[tuple[str, int], Surface] = field(default_factory=dict)
    overlays: list[bytes] = field(default_factory=list)
    model_version: str = ""


def _source(args: argparse.Namespace) -> _Source:
    """Opens what is to be played, so that whatever is wrong with it shows at once."""
    if args.bop is not None:
        dataset = BopDataset(args.bop)
        seen = {i.obj_id for image in dataset.images for i in dataset.frame(image).instances}
        shapes = model_shapes((dataset.models[i] for i in sorted(seen)), _BOP_POINTS)
        parameters = {"bop": str(args.bop.resolve())}
        count = len(dataset.images)
        return _Source(str(args.bop), parameters, count, shapes, dataset=dataset)
    path = args.bag
    if path is None:
        path = share_directory() / RECORDING
        if not path.is_dir():
            raise OptionError(f"{path} did not come with this installation; name one by --bag")
    topics = dict(args.topic)
    recording = Recording(path, Topics(**topics))
    parameters = {"recording": str(path.resolve())}
    parameters |= {f"{role}_topic": name for role, name in topics.items()}
    known = path / SHAPES_NAME
    shapes = load_shapes(known) if known.is_file() else {}
    return _Source(path.name, parameters, recording.count, shapes, recording=recording)


def _topic(text: str) -> tuple[str, str]:
    role, _, name = text.partition("=")
    if role not in Topics._fields or not name:
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected ROLE=NAME with a role of {', '.join(Topics._fields)}"
        )
    return role, name


def _empty(results: Path) -> None:
    """Makes the folder anew: what an earlier run left would be taken for this one's."""
    if results.is_dir():
        shutil.rmtree(results)
    results.mkdir(parents=True)


def _ros_parameters(nodes: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {name: {"ros__parameters": dict(values)} for name, values in nodes.items()}


@contextmanager
def _processes(results: Path, parameter_file: Path) -> Iterator[dict[str, subprocess.Popen]]:
    """The node and the player, on a ROS domain of their own; both end with the block."""
    environment = dict(os.environ)
    environment["ROS_DOMAIN_ID"] = str(_FIRST_DOMAIN + os.getpid() % _DOMAINS)
    environment["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    environment["FASTRTPS_DEFAULT_PROFILES_FILE"] = str(
        share_directory() / "config" / "fastdds_shm.xml"
    )
    arguments = ["--ros-args", "--params-file", str(parameter_file)]
    running: dict[str, subprocess.Popen] = {}
    try:
        for name, module in (("node", "main"), ("player", "player")):
            with (results / f"{name}.log").open("wb") as log:
                running[name] = subprocess.Popen(
                    [sys.executable, "-m", f"crisp_ros.node.{module}", *arguments],
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=environment,
                    start_new_session=True,  # an interruption is ours to pass on
                )
        yield running
    finally:
        for process in running.values():
            process.send_signal(signal.SIGINT)
        for process in running.values():
            try:
                process.wait(_GOODBYE_S)
            except subprocess.TimeoutExpired:
                process.kill()


def _watch(
    processes: Mapping[str, subprocess.Popen],
    results: Path,
    shapes: Mapping[str, TrueShape],
    total: int,
    outcome: _Outcome,
    console: Console,
) -> None:
    """Shows the answers as they come, until the player has ended.

    Raises:
        DemoError: the node or the player ended early.
    """
    state = "starting"
    with Live(console=console, refresh_per_second=8, transient=True) as live:
        for entry in _entries(processes, results):
            if entry["kind"] == "state":
                state = entry["text"]
            elif entry["kind"] == "error":
                raise DemoError(f"{entry['text']} (logs: {results}/*.log)")
            elif entry["kind"] == "mesh":
                with np.load(results / entry["file"]) as arrays:
                    surface = Surface(arrays["vertices"], arrays["faces"])
                outcome.surfaces[entry["id"], int(entry["mesh_version"])] = surface
            elif entry["kind"] == "frame":
                score = frame_score(entry, shapes)
                outcome.scores.append(score)
                outcome.entries.append(entry)
                outcome.overlays.append(_content(results, entry["overlay"]))
                outcome.model_version = entry["model_version"] or outcome.model_version
                if not console.is_terminal:
                    console.print(_line(score, total), highlight=False)
            live.update(_live_view(outcome.scores, state, total))


def _entries(processes: Mapping[str, subprocess.Popen], results: Path) -> Iterator[dict[str, Any]]:
    """The player's notes, each as soon as it is there, up to the last one."""
    path = results / "results.jsonl"
    while not path.exists():
        _check_alive(processes, results)
        time.sleep(_POLL_S)
    rest = ""
    with path.open() as file:
        while True:
            ended = processes["player"].poll() is not None
            rest += file.read()
            *lines, rest = rest.split("\n")
            for line in lines:
                entry = json.loads(line)
                if entry["kind"] == "end":
                    return
                yield entry
            if not lines:
                _check_alive(processes, results)
                if ended:
                    raise DemoError(_last_words("player", results))
                time.sleep(_POLL_S)


def _check_alive(processes: Mapping[str, subprocess.Popen], results: Path) -> None:
    """Raises DemoError once the node has ended, or the player before it wrote anything."""
    if processes["node"].poll() is not None:
        raise DemoError(_last_words("node", results))
    if processes["player"].poll() is not None and not (results / "results.jsonl").exists():
        raise DemoError(_last_words("player", results))


def _last_words(name: str, results: Path) -> str:
    path = results / f"{name}.log"
    lines = [line for line in path.read_text(errors="replace").splitlines() if line.strip()]
    last = lines[-1].strip() if lines else "it said nothing"
    return f"the {name} has ended: {last} (log: {path})"


def _content(results: Path, name: str | None) -> bytes:
    return (results / name).read_bytes() if name else b""


def _live_view(scores: Sequence[FrameScore], state: str, total: int) -> Group | str:
    if not scores:
        return f"{state} ..."
    score = scores[-1]
    table = Table(title=f"frame {len(scores)} of {total}", title_justify="left")
    table.add_column("object", no_wrap=True, min_width=22)
    table.add_column("position m", justify="right", min_width=20)
    for column in ("ADD-S mm", "rotation deg"):
        table.add_column(column, justify="right")
    table.add_column("certified", min_width=24)
    for o in score.objects:
        table.add_row(o.name or str(o.label), _position(o), _add_s(o), _turn(o), _verdict(o))
    time_line = "no answer"
    if score.answered:
        stages = "  ".join(f"{name} {ms:.0f}" for name, ms in score.stage_ms.items())
        time_line = f"{score.round_trip_ms:.0f} ms from images to estimates; ms in {stages}"
    return Group(table, time_line)


def _line(score: FrameScore, total: int) -> str:
    """One frame in one line, where no table can be redrawn."""
    if not score.answered:
        return f"frame {score.index + 1}/{total}: no answer"
    certified = sum(o.certified for o in score.objects)
    errors = [1e3 * o.add_s_m for o in score.objects if np.isfinite(o.add_s_m)]
    median = f"median ADD-S {np.median(errors):5.1f} mm, " if errors else ""
    return (
        f"frame {score.index + 1}/{total}: {len(score.objects)} objects, {median}"
        f"{certified} certified, {score.round_trip_ms:.0f} ms"
    )


def _position(o: ObjectScore) -> str:
    if o.T_camera_object is None:
        return "-"
    return " ".join(f"{v:6.3f}" for v in o.T_camera_object[:3, 3])


def _add_s(o: ObjectScore) -> str:
    if np.isnan(o.add_s_m):
        return ""
    if np.isinf(o.add_s_m):
        return "missed"
    colour = "green" if o.add_s_m < 0.01 else "yellow" if o.add_s_m < 0.02 else "red"
    return f"[{colour}]{1e3 * o.add_s_m:.1f}[/{colour}]"


def _turn(o: ObjectScore) -> str:
    known = np.isfinite(o.rotation_error_rad)
    return f"{np.degrees(o.rotation_error_rad):.1f}" if known else ""


def _verdict(o: ObjectScore) -> str:
    if o.certified:
        return "[green]yes[/green]"
    return f"no: {o.reason}" if o.reason else "no"


def _summary(score: RecordingScore) -> Table:
    table = Table(title="Summary", title_justify="left", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    answered = sum(f.answered for f in score.frames)
    table.add_row("frames answered", f"{answered} of {len(score.frames)}")
    if score.has_truth:
        table.add_row("median ADD-S", f"{1e3 * score.median_add_s_m:.1f} mm")
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


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if np.isfinite(share) else "-"


def _write_pictures(output: Path, outcome: _Outcome) -> None:
    """Some overlays one by one, and all of these on one sheet."""
    shown = [(i, content) for i, content in enumerate(outcome.overlays) if content]
    if not shown:
        return
    picks = np.linspace(0, len(shown) - 1, min(_SHEET_FRAMES, len(shown))).round().astype(int)
    images = []
    for index, content in (shown[i] for i in picks):
        image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
        cv2.imwrite(str(output / f"overlay_{index:04d}.png"), image)
        images.append(image)
    height, width = images[0].shape[:2]
    columns = min(3, len(images))
    rows = -(-len(images) // columns)
    sheet = np.zeros((rows * height, columns * width, 3), np.uint8)
    for i, image in enumerate(images):
        top, left = height * (i // columns), width * (i % columns)
        sheet[top : top + height, left : left + width] = cv2.resize(image, (width, height))
    cv2.imwrite(str(output / "overlays.png"), sheet)


def _report(
    source: _Source, outcome: _Outcome, score: RecordingScore, origin: Mapping[str, Any]
) -> Report:
    if source.recording is not None:
        frames = source.recording.frames()
    else:
        frames = bop_frames(source.dataset)
    points = scene_points(frames, len(score.frames))
    scene_frames = []
    for index, (entry, overlay) in enumerate(zip(outcome.entries, outcome.overlays, strict=True)):
        T = entry["T_world_camera"]
        scene_frames.append(
            SceneFrame(
                overlay=overlay,
                T_world_camera=None if T is None else np.asarray(T),
                truth=[(t["name"], np.asarray(t["T_camera_object"])) for t in entry["truth"]],
                cloud=points.cloud_of_frame[index],
            )
        )
    machine = origin["machine"]
    device = f" and {machine['device']}" if machine["device"] != "cpu" else ""
    footer = [
        f"Model {outcome.model_version}, crisp_ros {origin['version']}, {origin['command']}",
        f"{machine['cpu']}, {machine['cores']} cores{device}, Python {machine['python']},"
        f" torch {machine['torch']}",
    ]
    if source.name == RECORDING.name:
        footer.append(_ATTRIBUTION)
    return Report(
        title="Poses and shapes, estimated by crisp_ros",
        lead=(
            f"What crisp_node published for {len(score.frames)} frames of {source.name}: each"
            " object's pose and reconstructed surface from one colour and depth image, without"
            " a CAD model, and a certificate where the surface explains the measured depth."
        ),
        footer="\n".join(footer),
        score=score,
        frames=scene_frames,
        surfaces=outcome.surfaces,
        shapes=source.shapes,
        clouds=points.clouds,
        field=points.field,
    )
