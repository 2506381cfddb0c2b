"""`crisp ablate unseen` and `leave-one-out`: objects whose shapes the model does not know."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.table import Table

from crisp_ros.cli.options import (
    OptionError,
    add_checkpoint_option,
    add_frame_set_options,
    add_json_option,
    add_prior_checkpoint_option,
    add_shape_option,
    count,
    prior_model,
)
from crisp_ros.data.atomic_file import write_json
from crisp_ros.evaluation.provenance import provenance
from crisp_ros.network.checkpoint import load_model
from crisp_ros.pipeline import Estimator, model_version
from crisp_ros.pipeline.settings import EstimatorSettings
from crisp_ros.progress import progress
from crisp_ros.share import checkpoint_path
from crisp_ros.studies.posed_surfaces import (
    PosedSurface,
    posed_surfaces,
    summaries_by_name,
    summary,
)
from crisp_ros.studies.resumable_parts import KeptParts
from crisp_ros.studies.self_training_run import FrameSet, bag_frame_set, bop_frame_set


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_frame_set_options(parser)
    parser.add_argument(
        "--leave-out",
        action="store_true",
        help="estimate each object alone with a library without its shape, for a model that"
        " knows the objects; otherwise all objects with the model as it is",
    )
    parser.add_argument(
        "--instances", type=count, default=200, help="at most, without --leave-out (default: 200)"
    )
    parser.add_argument(
        "--every", type=count, default=1, metavar="N", help="only every N-th frame (default: 1)"
    )
    parser.add_argument(
        "--run", type=Path, metavar="DIR", required=True, help="folder of results to continue from"
    )
    add_shape_option(parser)
    add_checkpoint_option(parser)
    add_prior_checkpoint_option(parser)
    add_json_option(parser)


def run(args: argparse.Namespace) -> None:
    frames = bop_frame_set(args.bop, args.split) if args.bop else bag_frame_set(args.bag)
    model = load_model(checkpoint_path(args.checkpoint))
    settings = EstimatorSettings(shape_mode=args.shape)
    prior = prior_model(args.prior_checkpoint)
    made_from = (frames.place, model_version(model), args.shape, args.every, settings)
    if prior is not None:
        made_from += (model_version(prior),)
    make_estimator = partial(Estimator, settings=settings, prior_model=prior)
    kept = KeptParts(args.run, made_from)
    if args.leave_out:
        from crisp_ros.studies.leave_one_out import leave_one_out

        if model.library is None:
            raise OptionError("--leave-out needs a model with a library")
        with progress("shapes") as on_shape:
            found = leave_one_out(model, frames, make_estimator, kept, args.every, on_shape)
    else:
        found = _all_instances(make_estimator(model), frames, kept, args)
    if not found:
        raise OptionError(f"{frames.name}: no object with a true shape in its frames")
    _print(found)
    if args.json:
        figures = {"model_version": model_version(model), **summary(found)}
        details = {
            "by_name": summaries_by_name(found),
            "instances_list": [asdict(f) for f in found],
        }
        write_json(args.json, {**provenance(args.command_line), **figures, **details})


def _all_instances(
    estimator: Estimator, frames: FrameSet, kept: KeptParts, args: argparse.Namespace
) -> list[PosedSurface]:
    chosen = (f for number, f in enumerate(frames.frames()) if number % args.every == 0)
    with progress("instances") as on_instance:
        return posed_surfaces(
            estimator,
            chosen,
            frames.shapes,
            kept,
            args.instances,
            lambda done: on_instance(min(done, args.instances), args.instances),
        )


def _print(found: Sequence[PosedSurface]) -> None:
    """Print the figures of each object and of all."""
    table = Table("object", "instances", "Chamfer", "box IoU", "certified", "of these right")
    for name, figures in [*summaries_by_name(found).items(), ("all", summary(found))]:
        distance, right = figures["median_chamfer_m"], figures["right_of_certified"]
        table.add_row(
            name,
            str(figures["instances"]),
            "none" if distance is None else f"{1e3 * distance:.1f} mm",
            f"{figures['median_box_iou']:.2f}",
            str(figures["certified"]),
            "" if right is None else f"{100 * right:.0f} %",
        )
    console = Console(width=None if sys.stdout.isatty() else 100)
    console.print(table)
    figures = summary(found)
    areas = " / ".join(f"{value:.3f}" for value in figures["auc_add_s"].values())
    centroid = " / ".join(f"{value:.3f}" for value in figures["centroid_auc_add_s"].values())
    console.print(f"ADD-S AUC 1/2/3 cm {areas}, depth centroid {centroid}", highlight=False)
    console.print(f"certified although more than 1 cm off: {figures['wrong_by_1cm']}")
