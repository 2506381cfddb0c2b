"""`crisp bench`: speed of every stage, next to baselines built like the authors' code."""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from crisp_ros.benchmark.benchmark import BenchReport, run_bench, run_random_bench
from crisp_ros.benchmark.benchmark_page import (
    answer_lines,
    comparison_table,
    device_line,
    frame_line,
    markdown_page,
    stage_table,
    version_lines,
    version_table,
)
from crisp_ros.benchmark.compared_version import commit_of, opened_version, this_version
from crisp_ros.benchmark.solver_tasks import BenchSettings
from crisp_ros.benchmark.version_comparison import (
    ComparisonSettings,
    VersionReport,
    compare_versions,
)
from crisp_ros.cli.options import (
    OptionError,
    add_json_option,
    add_model_options,
    add_precision_option,
    output_file,
)
from crisp_ros.data.atomic_file import write_json
from crisp_ros.evaluation.provenance import provenance
from crisp_ros.network.checkpoint import load_model
from crisp_ros.network.model import network_names
from crisp_ros.progress import progress
from crisp_ros.share import bundled_recording, checkpoint_path, share_directory

_NODE_RUNS = 2  # of each version


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
    parser.add_argument(
        "--compare",
        metavar="REF",
        help="also run another version alternately with this one: a folder with the package, the "
        "Python interpreter of an environment that has it, or a git revision",
    )
    parser.add_argument(
        "--only-versions",
        action="store_true",
        help="measure starts, memory and --compare alone, not the stages",
    )
    parser.add_argument(
        "--node",
        action="store_true",
        help="with --compare: also send frames to the nodes of both versions, by turns, which needs"
        " ROS; each has its own model and default parameters",
    )
    add_precision_option(parser, "auto")
    add_json_option(parser)
    parser.add_argument(
        "--markdown",
        type=output_file,
        metavar="FILE",
        help="also write a Markdown page with the figures",
    )


def run(args: argparse.Namespace) -> None:
    _check(args)
    origin = provenance(args.command_line, args.device)
    origin["commit"] = commit_of(share_directory())
    console = Console()
    report = None if args.only_versions else _stages(args)
    versions = None if args.network else _versions(args)
    if report is not None:
        report = replace(report, versions=versions)
        _print_stages(console, report)
    if versions is not None:
        console.print(version_table(versions))
        for line in version_lines(versions):
            console.print(line, highlight=False)
    if args.json:
        content = {"versions": versions.to_json()} if report is None else report.to_json()
        write_json(args.json, {**origin, **content})
    if args.markdown:
        args.markdown.parent.mkdir(parents=True, exist_ok=True)
        args.markdown.write_text(markdown_page(report, origin))


def _check(args: argparse.Namespace) -> None:
    if args.network and args.checkpoint:
        raise OptionError("--network stands for random weights: give it or --checkpoint, not both")
    if args.network and (args.compare or args.only_versions):
        raise OptionError("versions are compared with a model: leave out --network")
    if args.node and not args.compare:
        raise OptionError("--node compares the nodes of two versions: give --compare as well")
    if args.only_versions and args.markdown:
        raise OptionError("the page needs the stages: leave out --markdown or --only-versions")


def _stages(args: argparse.Namespace) -> BenchReport:
    settings = BenchSettings(quick=args.quick, seed=args.seed, precision=args.precision)
    recording = bundled_recording(args.bag)
    if args.network:
        with progress("runs") as on_run:
            return run_random_bench(args.network, recording, settings, args.device, on_run)
    model = load_model(checkpoint_path(args.checkpoint))
    with progress("runs") as on_run:
        return run_bench(model, recording, settings, args.device, on_run)


def _versions(args: argparse.Namespace) -> VersionReport:
    """Measure starts of this version, and its frames alternately with those of the other one."""
    settings = ComparisonSettings(args.checkpoint, bundled_recording(args.bag), args.device)
    with ExitStack() as stack:
        versions = [this_version()]
        if args.compare:
            versions.append(stack.enter_context(opened_version(args.compare, args.node)))
            settings = settings._replace(node_runs=_NODE_RUNS if args.node else 0)
        elif not args.only_versions:
            settings = settings._replace(rounds=0)  # its frames are among the stages
        settings = settings.quick() if args.quick else settings
        on_run = stack.enter_context(progress("versions"))
        return compare_versions(versions, settings, on_run)


def _print_stages(console: Console, report: BenchReport) -> None:
    console.print(stage_table(report))
    if report.comparisons:
        console.print(comparison_table(report))
        for line in answer_lines(report):
            console.print(line, highlight=False)
    console.print(f"{frame_line(report)} {device_line(report)}", highlight=False)
