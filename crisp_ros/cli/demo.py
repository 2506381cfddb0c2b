"""`crisp demo`: plays a recording through the node and shows its answers."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.live import Live

from crisp_ros.cli import options
from crisp_ros.cli.demo_graph import SEGMENTER, Graph, free_domain, running_graph
from crisp_ros.cli.demo_source import DemoSource, add_source_options, open_source
from crisp_ros.cli.demo_view import frame_line, live_view, summary
from crisp_ros.cli.options import LEFT_OUT, OptionError
from crisp_ros.data.atomic_file import write_json
from crisp_ros.evaluation.provenance import provenance
from crisp_ros.reports.demo_report import DemoAnswers, demo_page, write_overlays
from crisp_ros.share import checkpoint_path, prior_path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_source_options(parser)
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
    options.add_prior_checkpoint_option(parser)
    options.add_corrector_option(parser)
    options.add_shape_option(parser)
    options.add_precision_option(parser, "auto")
    parser.add_argument(
        "--device", type=_device, default="auto", help="auto, cpu, cuda or cuda:N (default: auto)"
    )
    parser.add_argument(
        "--segment",
        action="store_true",
        help="find the objects with the built-in segmenter, without the recording's labels",
    )
    parser.add_argument(
        "--smoothing",
        type=options.number("seconds from 0 to 10", lambda seconds: 0.0 <= seconds <= 10.0),
        default=0.0,
        metavar="SECONDS",
        help="time constant of the node's pose filter, up to 10 (default: 0, no filter)",
    )
    parser.add_argument(
        "--timeout",
        type=options.number("seconds, more than 0", lambda seconds: seconds > 0.0),
        default=120.0,
        metavar="SECONDS",
        help="maximum time to wait for the node to start, and for each estimate (default: 120)",
    )
    options.add_json_option(parser)


def run(args: argparse.Namespace) -> int | None:
    source = open_source(args)
    checkpoint = checkpoint_path(args.checkpoint)
    if not checkpoint.is_file():
        raise OptionError(f"{checkpoint}: there is no such file")
    answers = DemoAnswers(_new_results(args.output), source.shapes)
    domain, console = free_domain(), Console()
    line = f"playing {source.name} on ROS_DOMAIN_ID={domain}"
    console.print(line, highlight=False, soft_wrap=True)
    parameters = _parameters(args, source, checkpoint, answers.results)
    with running_graph(answers.results, parameters, domain) as graph:
        _collect(graph, answers, min(source.count, args.frames or source.count), console)
    console.print(summary(answers.score))
    origin = provenance(args.command_line, args.device)
    write_overlays(args.output, answers)
    page = args.output / "report.html"
    page.write_text(demo_page(answers, source.name, source.frames(), origin, source.bundled))
    console.print(f"report: {page}", highlight=False, soft_wrap=True)
    if args.json:
        figures = {**answers.to_json(), "recording": source.name, "config": origin}
        write_json(args.json, figures)
    if answers.left_out:
        warning = Console(stderr=True)
        warning.print(answers.left_out, highlight=False, soft_wrap=True, markup=False)
        return LEFT_OUT
    return None


def _absolute(prior_checkpoint: str) -> str:
    """The prior for the node, which runs in another folder."""
    path = prior_path(prior_checkpoint)
    if path is None:
        return "none"
    if not path.is_file():
        raise OptionError(f"{path}: there is no such file")
    return str(path.resolve())


def _new_results(output: Path) -> Path:
    """Create an empty folder in `output`, instead of the one of an earlier run."""
    results = output / "results"
    if results.exists():
        if not (results / "parameters.yaml").is_file():
            raise OptionError(f"{results} is not of an earlier demo; choose another --output")
        shutil.rmtree(results)
    results.mkdir(parents=True)
    for picture in output.glob("overlay*.png"):
        picture.unlink()
    return results


def _parameters(
    args: argparse.Namespace, source: DemoSource, checkpoint: Path, results: Path
) -> dict[str, dict[str, Any]]:
    """The parameters of the nodes, by their names in the graph."""
    segmenter = {SEGMENTER: {"autostart": True}} if args.segment else {}
    return {
        **segmenter,
        "crisp": {
            "checkpoint": str(checkpoint.resolve()),
            "prior_checkpoint": _absolute(args.prior_checkpoint),
            "device": args.device,
            "fixed_frame": source.fixed_frame,
            "pose_smoothing": args.smoothing,
            "corrector": args.corrector,
            "shape_mode": args.shape,
            "precision": args.precision,
            "background_searches": False,  # the same answers on a slow machine
            # Poses are compared with the truth, and the frame of a hull is arbitrary.
            "observed_hulls": False,
        },
        "crisp_player": {
            **source.parameters,
            "frames": args.frames or 0,
            "timeout": args.timeout,
            "bring_up": True,
            "segmented": args.segment,
            "results": str(results.resolve()),
        },
    }


def _collect(graph: Graph, answers: DemoAnswers, total: int, console: Console) -> None:
    """Collect and show the answers as they come, until the player has ended.

    Raises:
        DemoError: the node or the player ended early.
    """
    state = "starting"
    with Live(console=console, refresh_per_second=8, transient=True) as live:
        for note in graph.notes():
            if note["kind"] == "state":
                state = note["text"]
            score = answers.add(note)
            if score is not None and not console.is_terminal:
                console.print(frame_line(score, total), highlight=False, soft_wrap=True)
            live.update(live_view(answers.scores, state, total))


def _device(text: str) -> str:
    if text == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return options.device(text)
