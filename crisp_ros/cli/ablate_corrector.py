"""`crisp ablate corrector`: pose and shape errors by each solver of the corrector, and without."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from crisp_ros.cli.options import (
    add_checkpoint_option,
    add_json_option,
    add_models_option,
    count,
    device,
    model_with_library,
)
from crisp_ros.data.atomic_file import write_json
from crisp_ros.evaluation.provenance import provenance
from crisp_ros.pipeline import model_version
from crisp_ros.reports.corrector_report import (
    corrector_json,
    error_tables,
    requirement_table,
    requirements,
)
from crisp_ros.studies.corrector_comparison import CorrectorComparison


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_models_option(parser)
    parser.add_argument(
        "--bop", type=Path, metavar="DIR", help="data set with real images to evaluate as well"
    )
    parser.add_argument(
        "--scenes",
        type=count,
        default=3,
        help="number of clean scenes, and of degraded ones (default: 3)",
    )
    parser.add_argument("--frames", type=count, default=8, help="frames per scene (default: 8)")
    parser.add_argument("--objects", type=count, default=7, help="objects per scene (default: 7)")
    parser.add_argument(
        "--views", type=count, default=2, help="views per object in the trials (default: 2)"
    )
    parser.add_argument(
        "--trials",
        action="store_true",
        help="measure the solvers alone on single objects, without scenes and images",
    )
    parser.add_argument(
        "--work",
        type=Path,
        default=Path("out/ablate_corrector"),
        metavar="FOLDER",
        help="folder for scenes and parts of the result, from which an interrupted run continues"
        " (default: out/ablate_corrector)",
    )
    parser.add_argument("--seed", type=int, default=5000, help="seed of the scenes (default: 5000)")
    parser.add_argument(
        "--device", type=device, default="cpu", help="cpu, cuda or cuda:N (default: cpu)"
    )
    add_checkpoint_option(parser)
    add_json_option(parser)


def run(args: argparse.Namespace) -> None:
    model = model_with_library(args.checkpoint, args.device)
    parts = CorrectorComparison(
        args.models,
        args.bop,
        args.scenes,
        args.frames,
        args.objects,
        args.views,
        args.work,
        args.seed,
        args.device,
        args.trials,
    ).run(model)
    console = Console()
    for table in error_tables(parts):
        console.print(table)
    console.print(requirement_table(requirements(parts)))
    if args.json:
        figures = {"model_version": model_version(model), **corrector_json(parts)}
        write_json(args.json, {**provenance(args.command_line, args.device), **figures})
