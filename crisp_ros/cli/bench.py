"""`crisp bench`: speed of every stage, next to baselines built like the authors' code."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from crisp_ros.benchmark.benchmark import run_bench, run_random_bench
from crisp_ros.benchmark.benchmark_page import (
    answer_lines,
    comparison_table,
    device_line,
    frame_line,
    markdown_page,
    stage_table,
)
from crisp_ros.benchmark.solver_tasks import BenchSettings
from crisp_ros.cli.options import (
    OptionError,
    add_json_option,
    add_model_options,
    output_file,
)
from crisp_ros.data.atomic_file import write_json
from crisp_ros.evaluation.provenance import provenance
from crisp_ros.network.checkpoint import load_model
from crisp_ros.network.model import network_names
from crisp_ros.progress import progress
from crisp_ros.share import bundled_recording, checkpoint_path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model_options(parser)
    parser.add_argument(
        "--network",
        choices=network_names(),
        help="time network and frame of this design with random weights, instead of a model",
    )
    parser.add_argument(
        "--bag",
        type=Path,
        metavar="PATH",
        help="recording for the timing of a whole frame (default: the bundled one)",
    )
    parser.add_argument(
        "--quick", action="store_true", help="fewer repetitions and objects, within a minute"
    )
    add_json_option(parser)
    parser.add_argument(
        "--markdown",
        type=output_file,
        metavar="FILE",
        help="also write a Markdown page with the figures",
    )


def run(args: argparse.Namespace) -> None:
    if args.network and args.checkpoint:
        raise OptionError("--network stands for random weights: give it or --checkpoint, not both")
    settings = BenchSettings(quick=args.quick, seed=args.seed)
    recording = bundled_recording(args.bag)
    if args.network:
        with progress("runs") as on_run:
            report = run_random_bench(args.network, recording, settings, args.device, on_run)
    else:
        model = load_model(checkpoint_path(args.checkpoint))
        with progress("runs") as on_run:
            report = run_bench(model, recording, settings, args.device, on_run)
    console = Console()
    console.print(stage_table(report))
    if report.comparisons:
        console.print(comparison_table(report))
        for line in answer_lines(report):
            console.print(line, highlight=False)
    console.print(f"{frame_line(report)} {device_line(report)}", highlight=False)
    origin = provenance(args.command_line, args.device)
    if args.json:
        write_json(args.json, {**origin, **report.to_json()})
    if args.markdown:
        args.markdown.parent.mkdir(parents=True, exist_ok=True)
        args.markdown.write_text(markdown_page(report, origin))
