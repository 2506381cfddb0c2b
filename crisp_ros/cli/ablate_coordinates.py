"""`crisp ablate coordinates`: metric and normalised coordinates under the same self-training."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from crisp_ros.cli.options import (
    add_checkpoint_option,
    add_json_option,
    add_models_option,
    add_observed_poses_option,
    count,
    model_with_library,
    output_file,
)
from crisp_ros.data.atomic_file import write_json
from crisp_ros.evaluation.provenance import provenance
from crisp_ros.pipeline import model_version
from crisp_ros.reports.study_tables import coordinates_table
from crisp_ros.studies.coordinates_comparison import CoordinatesComparison
from crisp_ros.studies.coordinates_study import CoordinatesSettings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    defaults = CoordinatesSettings()
    add_models_option(parser)
    add_observed_poses_option(parser)
    parser.add_argument(
        "--crops",
        type=count,
        default=8,
        help="crops per shape by day, with ground truth, to train the head (default: 8)",
    )
    parser.add_argument(
        "--dusk-crops",
        type=count,
        default=4,
        help="crops per shape at dusk, for self-training (default: 4)",
    )
    parser.add_argument(
        "--head-steps",
        type=count,
        default=defaults.head_steps,
        help=f"steps of the head's training (default: {defaults.head_steps})",
    )
    parser.add_argument(
        "--steps",
        type=count,
        default=defaults.steps,
        help=f"steps of self-training (default: {defaults.steps})",
    )
    parser.add_argument(
        "--work",
        type=Path,
        default=Path("out/ablate_coordinates"),
        metavar="FOLDER",
        help="folder for the result of each kind, from which an interrupted run continues"
        " (default: out/ablate_coordinates)",
    )
    parser.add_argument("--png", type=output_file, metavar="FILE", help="draw the figure")
    add_checkpoint_option(parser)
    add_json_option(parser)


def run(args: argparse.Namespace) -> None:
    model = model_with_library(args.checkpoint)
    comparison = CoordinatesComparison(
        args.models,
        args.observed_poses,
        args.crops,
        args.dusk_crops,
        args.work,
        CoordinatesSettings(head_steps=args.head_steps, steps=args.steps),
    )
    kinds = comparison.run(model)
    Console().print(coordinates_table(kinds))
    if args.png:
        from crisp_ros.reports.coordinates_figure import draw_coordinates  # needs matplotlib

        draw_coordinates(kinds, args.png)
    if args.json:
        figures = comparison.to_json(model, kinds)
        version = {"model_version": model_version(model)}
        write_json(args.json, {**provenance(args.command_line), **version, **figures})
