"""`crisp ablate library`: own code and diameters with half of the objects outside the library."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from crisp_ros.cli.options import (
    add_checkpoint_option,
    add_frame_set_options,
    add_json_option,
    count,
    model_with_library,
)
from crisp_ros.data.atomic_file import write_json
from crisp_ros.evaluation.provenance import provenance
from crisp_ros.pipeline import model_version


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_frame_set_options(parser)
    parser.add_argument("--frames", type=count, default=10, help="first frames (default: 10)")
    parser.add_argument(
        "--passes", type=count, default=1, help="passes of self-training (default: 1)"
    )
    parser.add_argument(
        "--kept-every",
        type=count,
        default=2,
        metavar="N",
        help="every N-th shape stays in the library (default: 2)",
    )
    parser.add_argument(
        "--points",
        type=count,
        default=256,
        help="depth points per object; the time is nearly proportional to it (default: 256)",
    )
    parser.add_argument(
        "--run", type=Path, required=True, metavar="DIR", help="folder for the self-trainings"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of points (default: 0)")
    add_checkpoint_option(parser)
    add_json_option(parser)


def run(args: argparse.Namespace) -> None:
    from crisp_ros.studies.library_ablation import LibraryAblationSettings, library_ablation
    from crisp_ros.studies.self_training_run import bag_frame_set, bop_frame_set

    frames = bop_frame_set(args.bop, args.split) if args.bop else bag_frame_set(args.bag)
    model = model_with_library(args.checkpoint)
    settings = LibraryAblationSettings(
        args.frames, args.passes, args.kept_every, args.points, args.seed
    )
    table = Table("row", "steps", "certified", "e_shape AUC 3/5/10 cm", "outside the library")

    def on_row(name: str, row: dict[str, Any]) -> None:
        everything, outside = row["after_all"], row["after_outside"]
        table.add_row(
            name,
            str(row["steps"]),
            f"{everything['certified']:.2f}",
            " / ".join(f"{a:.3f}" for a in everything["auc_shape"].values()),
            " / ".join(f"{a:.3f}" for a in outside["auc_shape"].values()),
        )
        Console(stderr=True).print(f"{name}: done", highlight=False)

    found = library_ablation(model, frames, args.run, settings, on_row)
    Console().print(table)
    if args.json:
        version = {"model_version": model_version(model)}
        write_json(args.json, {**provenance(args.command_line), **version, **found})
