"""`crisp demo`: plays a recording through the node and shows its answers."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from rich.console import Console
from rich.live import Live

from crisp_ros.cli import options
from crisp_ros.cli.demo_graph import Graph, free_domain, running_graph
from crisp_ros.cli.demo_view import frame_line, live_view, summary
from crisp_ros.cli.options import LEFT_OUT, OptionError
from crisp_ros.data.atomic_file import write_json
from crisp_ros.data.bag_topics import Topics
from crisp_ros.data.bop import BopDataset
from crisp_ros.data.recorded_frame import WORLD_FRAME, DatasetFrames, RecordedFrame
from crisp_ros.data.recording import Recording
from crisp_ros.data.rgbd_messages import InputRules
from crisp_ros.evaluation.metrics import ADD_S_POINTS
from crisp_ros.evaluation.provenance import provenance
from crisp_ros.evaluation.recording_score import FrameScore, RecordingScore, frame_score
from crisp_ros.evaluation.true_shapes import (
    SHAPES_NAME,
    ModelShapes,
    TrueShape,
    load_shapes,
)
from crisp_ros.reports.html_report import Report, html_report
from crisp_ros.reports.scene_data import SceneFrame, Surface, shown_frames
from crisp_ros.reports.scene_points import scene_points
from crisp_ros.share import checkpoint_path, share_directory

RECORDING = Path("recordings") / "table"
_ATTRIBUTION = (
    "The objects of the bundled recording are those of the YCB object and model set"
    " (Calli et al., Yale-CMU-Berkeley), used under CC BY 4.0; the recording is rendered."
)
_SHEET_FRAMES = 6


def add_arguments(parser: argparse.ArgumentParser) -> None:
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--bag",
        type=Path,
        metavar="PATH",
        help="rosbag2 folder or file to play (default: the bundled recording)",
    )
    source.add_argument(
        "--bop", type=Path, metavar="DIR", help="play the images of a data set in BOP layout"
    )
    parser.add_argument(
        "--topic",
        type=_topic,
        action="append",
        default=[],
        metavar="ROLE=NAME",
        help=f"topic of the bag, for {', '.join(Topics._fields)}; can be repeated (default: the"
        " usual names, otherwise the only topic of its type)",
    )
    parser.add_argument(
        "--raw",
        action="store_true",
        help="the bag's images are not rectified: rectify them with camera_info's K and D",
    )
    parser.add_argument(
        "--depth-unit",
        type=_unit,
        default=0.0,
        metavar="METRES",
        help="length of one step of the bag's depth, such as 0.0001 (default: by the encoding)",
    )
    parser.add_argument(
        "--frames", type=options.count, help="maximum number of frames to play (default: all)"
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("out/demo"),
        metavar="FOLDER",
        help="folder for the report (default: out/demo)",
    )
    options.add_checkpoint_option(parser)
    parser.add_argument(
        "--device", type=_device, default="auto", help="auto, cpu, cuda or cuda:N (default: auto)"
    )
    parser.add_argument(
        "--smoothing",
        type=_smoothing,
        default=0.0,
        metavar="SECONDS",
        help="time constant of the node's pose filter, up to 10 (default: 0, no filter)",
    )
    parser.add_argument(
        "--timeout",
        type=_seconds,
        default=120.0,
        metavar="SECONDS",
        help="maximum time to wait for the node to start, and for each estimate (default: 120)",
    )
    options.add_json_option(parser)


def run(args: argparse.Namespace) -> int | None:
    source = _source(args)
    checkpoint = checkpoint_path(args.checkpoint)
    if not checkpoint.is_file():
        raise OptionError(f"{checkpoint}: there is no such file")
    results = _new_results(args.output)
    parameters = {
        "crisp": {
            "checkpoint": str(checkpoint.resolve()),
            "device": args.device,
            "fixed_frame": source.fixed_frame,
            "pose_smoothing": args.smoothing,
        },
        "crisp_player": {
            **source.parameters,
            "frames": args.frames or 0,
            "timeout": args.timeout,
            "bring_up": True,
            "results": str(results.resolve()),
        },
    }
    console = Console()
    domain = free_domain()
    line = f"playing {source.name} on ROS_DOMAIN_ID={domain}"
    console.print(line, highlight=False, soft_wrap=True)
    total = min(source.count, args.frames or source.count)
    with running_graph(results, parameters, domain) as graph:
        outcome = _watched(graph, results, source.shapes, total, console)
    score = RecordingScore(tuple(outcome.scores))
    origin = provenance(args.command_line, args.device)
    console.print(summary(score))
    _write_pictures(args.output, results, outcome)
    page = html_report(_report(source, results, outcome, origin))
    (args.output / "report.html").write_text(page)
    console.print(f"report: {args.output / 'report.html'}", highlight=False, soft_wrap=True)
    if args.json:
        figures = score.to_json()
        figures |= {"recording": source.name, "model_version": outcome.model_version}
        figures["left_out"] = outcome.left_out
        write_json(args.json, {**figures, "config": origin})
    if outcome.left_out:
        warning = Console(stderr=True)
        warning.print(outcome.left_out, highlight=False, soft_wrap=True, markup=False)
        return LEFT_OUT
    return None


@dataclass(frozen=True)
class _Source:
    """Input of the demo: frames, parameters of the player, and true shapes by name."""

    name: str
    parameters: Mapping[str, Any]
    opened: Recording | DatasetFrames
    shapes: Mapping[str, TrueShape]

    @property
    def count(self) -> int:
        """Most frames that there are."""
        return self.opened.count

    @property
    def fixed_frame(self) -> str:
        """The frame in which the objects rest, where the recording says where the camera is."""
        first = next(self.frames(), None)
        return WORLD_FRAME if first is not None and first.T_world_camera is not None else ""

    def frames(self) -> Iterator[RecordedFrame]:
        """All of them, in the order in which they are played."""
        return self.opened.frames()


@dataclass
class _Outcome:
    """Output of the demo: scores and records of the player, one per frame."""

    scores: list[FrameScore] = field(default_factory=list)
    notes: list[dict[str, Any]] = field(default_factory=list)
    surfaces: dict[tuple[str, int], Surface] = field(default_factory=dict)
    model_version: str = ""
    left_out: str = ""


def _source(args: argparse.Namespace) -> _Source:
    """Open what is to be played, so that whatever is wrong with it shows at once."""
    if args.bop is not None:
        of_bags = {"--topic": args.topic, "--raw": args.raw, "--depth-unit": args.depth_unit}
        if given := next((option for option, value in of_bags.items() if value), None):
            raise OptionError(f"{given} is for bags; --bop has none")
        dataset = BopDataset(args.bop)
        shapes = ModelShapes(dataset.models.values(), ADD_S_POINTS)
        frames = DatasetFrames(dataset)
        return _Source(str(args.bop), {"bop": str(args.bop.resolve())}, frames, shapes)
    path = args.bag
    if path is None:
        path = share_directory() / RECORDING
        if not path.is_dir():
            raise OptionError(f"{path} did not come with this installation; name one by --bag")
    topics = dict(args.topic)
    recording = Recording(path, topics, InputRules(not args.raw, args.depth_unit))
    parameters: dict[str, Any] = {"recording": str(path.resolve())}
    parameters |= {"rectified": not args.raw, "depth_unit": args.depth_unit}
    parameters |= {f"{role}_topic": name for role, name in topics.items()}
    known = path / SHAPES_NAME
    shapes = load_shapes(known) if known.is_file() else {}
    return _Source(path.name, parameters, recording, shapes)


def _new_results(output: Path) -> Path:
    """An empty folder in `output`: what an earlier run left would be taken for this one's."""
    results = output / "results"
    if results.exists():
        if not (results / "parameters.yaml").is_file():
            raise OptionError(f"{results} is not of an earlier demo; choose another --output")
        shutil.rmtree(results)
    results.mkdir(parents=True)
    for picture in output.glob("overlay*.png"):
        picture.unlink()
    return results


def _watched(
    graph: Graph, results: Path, shapes: Mapping[str, TrueShape], total: int, console: Console
) -> _Outcome:
    """Show the answers as they come, until the player has ended.

    Raises:
        DemoError: the node or the player ended early.
    """
    outcome, state = _Outcome(), "starting"
    with Live(console=console, refresh_per_second=8, transient=True) as live:
        for note in graph.notes():
            if note["kind"] == "state":
                state = note["text"]
            elif note["kind"] == "left_out":
                outcome.left_out = note["text"]
            elif note["kind"] == "mesh":
                with np.load(results / note["file"]) as arrays:
                    surface = Surface(arrays["vertices"], arrays["faces"])
                outcome.surfaces[note["id"], int(note["mesh_version"])] = surface
            elif note["kind"] == "frame":
                score = frame_score(note, shapes)
                outcome.scores.append(score)
                outcome.notes.append(note)
                outcome.model_version = note["model_version"] or outcome.model_version
                if not console.is_terminal:
                    console.print(frame_line(score, total), highlight=False, soft_wrap=True)
            live.update(live_view(outcome.scores, state, total))
    return outcome


def _write_pictures(output: Path, results: Path, outcome: _Outcome) -> None:
    """Some overlays one by one, and all of these on one sheet."""
    shown = [note for note in outcome.notes if note["overlay"]]
    if not shown:
        return
    picks = np.linspace(0, len(shown) - 1, min(_SHEET_FRAMES, len(shown))).round().astype(int)
    images = []
    for note in (shown[i] for i in picks):
        image = cv2.imread(str(results / note["overlay"]))
        cv2.imwrite(str(output / f"overlay_{note['index']:04d}.png"), image)
        images.append(image)
    height, width = images[0].shape[:2]
    columns = min(3, len(images))
    rows = -(-len(images) // columns)
    sheet = np.zeros((rows * height, columns * width, 3), np.uint8)
    for i, image in enumerate(images):
        top, left = height * (i // columns), width * (i % columns)
        sheet[top : top + height, left : left + width] = cv2.resize(image, (width, height))
    cv2.imwrite(str(output / "overlays.png"), sheet)


def _report(source: _Source, results: Path, outcome: _Outcome, origin: Mapping[str, Any]) -> Report:
    score = RecordingScore(tuple(outcome.scores))
    shown = shown_frames(len(score.frames))
    frames = []
    for index in shown:
        note = outcome.notes[index]
        T = note["T_world_camera"]
        frames.append(
            SceneFrame(
                index=index,
                overlay=(results / note["overlay"]).read_bytes() if note["overlay"] else b"",
                T_world_camera=None if T is None else np.array(T),
                truth=[(t["name"], np.array(t["T_camera_object"])) for t in note["truth"]],
            )
        )
    machine = origin["machine"]
    device = f" and {machine['device']}" if machine["device"] != "cpu" else ""
    footer = [
        f"Model {outcome.model_version}, crisp_ros {origin['version']}, {origin['command']}",
        f"{machine['cpu']}, {machine['cores']} cores{device}, Python {machine['python']},"
        f" torch {machine['torch']}",
    ]
    if outcome.left_out:
        footer.insert(0, outcome.left_out)
    if source.parameters.get("recording") == str((share_directory() / RECORDING).resolve()):
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
        frames=frames,
        surfaces=outcome.surfaces,
        shapes=source.shapes,
        points=scene_points(source.frames(), shown),
    )


def _topic(text: str) -> tuple[str, str]:
    role, _, name = text.partition("=")
    if role not in Topics._fields or not name:
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected ROLE=NAME with a role of {', '.join(Topics._fields)}"
        )
    return role, name


def _unit(text: str) -> float:
    try:
        metres = float(text)
    except ValueError:
        metres = 0.0
    if not 0.0 < metres <= 1.0:
        raise argparse.ArgumentTypeError(f"{text!r}: expected metres, more than 0 and up to 1")
    return metres


def _smoothing(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0.0 <= seconds <= 10.0:
        raise argparse.ArgumentTypeError(f"{text!r}: expected seconds from 0 to 10")
    return seconds


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not seconds > 0.0:
        raise argparse.ArgumentTypeError(f"{text!r}: expected seconds, more than 0")
    return seconds


def _device(text: str) -> str:
    if text == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return options.device(text)
