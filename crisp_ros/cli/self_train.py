"""`crisp self-train`: a model learns from its own certified estimates of recorded frames."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from rich.console import Console

from crisp_ros.adaptation.recipes import RECIPES
from crisp_ros.cli.options import (
    LEFT_OUT,
    add_corrector_option,
    add_json_option,
    add_model_options,
    add_precision_option,
    add_shape_option,
    count,
    output_file,
)
from crisp_ros.correction.corrector_settings import NODE_CORRECTOR
from crisp_ros.data.atomic_file import write_json
from crisp_ros.evaluation.provenance import provenance
from crisp_ros.network.checkpoint import save_model
from crisp_ros.reports.self_training_page import self_training_page
from crisp_ros.share import checkpoint_path
from crisp_ros.studies.self_training_run import (
    NODE,
    FrameSet,
    SelfTrainingOptions,
    SelfTrainingRun,
    bag_frame_set,
    bop_frame_set,
    spe3r_frame_set,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--bop", type=Path, metavar="DIR", help="a data set in BOP layout")
    source.add_argument(
        "--bag", type=Path, metavar="PATH", help="a rosbag2 recording of an RGB-D camera"
    )
    source.add_argument(
        "--spe3r",
        type=Path,
        metavar="DIR",
        help="SPE3R with its derived maps (see crisp data maps)",
    )
    parser.add_argument("--split", default="test", help="split of the data set (default: test)")
    parser.add_argument(
        "--check",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="a data set in BOP layout to evaluate before and after, not used for training;"
        " can be repeated",
    )
    meaning = {NODE: NODE_CORRECTOR} | {name: part.corrector for name, part in RECIPES.items()}
    add_corrector_option(
        parser, None, ", ".join(f"{corrector} for {name}" for name, corrector in meaning.items())
    )
    add_shape_option(parser)
    add_precision_option(parser, "float32")
    parser.add_argument(
        "--recipe",
        choices=(NODE, *RECIPES),
        default=NODE,
        help="node: guarded, as the node trains; ycbv and spe3r: as the paper, with its batches, "
        f"rates and certificates, every certified sample once, without a guard (default: {NODE})",
    )
    parser.add_argument(
        "--passes", type=count, default=3, help="passes over all frames (default: 3)"
    )
    parser.add_argument(
        "--run",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder for the state, from which an interrupted run continues",
    )
    parser.add_argument(
        "--output", type=output_file, metavar="FILE", help="write the trained model to this file"
    )
    parser.add_argument("--html", type=output_file, metavar="FILE", help="write an HTML report")
    add_model_options(parser)
    add_json_option(parser)


def run(args: argparse.Namespace) -> int | None:
    if args.corrector is None:
        is_node = args.recipe == NODE
        args.corrector = NODE_CORRECTOR if is_node else RECIPES[args.recipe].corrector
    source = _source(args)
    if source.left_out:
        warning = f"{args.bag}: {source.left_out}"
        Console(stderr=True).print(warning, highlight=False, soft_wrap=True, markup=False)
    outcome = SelfTrainingRun(
        source,
        tuple(bop_frame_set(folder, "test") for folder in args.check),
        checkpoint_path(args.checkpoint),
        SelfTrainingOptions(
            args.corrector, args.shape, args.precision, args.recipe, args.passes, args.seed
        ),
        args.run,
        args.device,
    ).run()
    if args.output:
        save_model(args.output, outcome.kept.model, torch.float32)  # exactly what was measured
    console = Console()
    console.print(outcome.summary, highlight=False, soft_wrap=True)
    for name, one in outcome.held_out.items():
        console.print(f"not learned from, {name}: {one.summary}", highlight=False, soft_wrap=True)
    origin = provenance(args.command_line, args.device)
    if args.html:
        lead = f"Corrector {args.corrector}, {args.passes} passes: {outcome.summary}."
        footer = f"{origin['command']}, version {origin['version']}, {origin['machine']['cpu']}"
        page = self_training_page("Self-training", lead, footer, outcome.compared, outcome.held_out)
        args.html.parent.mkdir(parents=True, exist_ok=True)
        args.html.write_text(page)
    if args.json:
        options = {
            "corrector": args.corrector,
            "shape": args.shape,
            "precision": outcome.precision,
            "recipe": args.recipe,
            "passes": args.passes,
        }
        write_json(args.json, {**options, **outcome.to_json(), **origin})
    return LEFT_OUT if source.left_out else None


def _source(args: argparse.Namespace) -> FrameSet:
    if args.bop:
        return bop_frame_set(args.bop, args.split)
    if args.spe3r:
        return spe3r_frame_set(args.spe3r, args.split)
    return bag_frame_set(args.bag)
