"""Kinds of `crisp render` for self-training: data sets to learn from, and reference sets."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from rich.console import Console

from crisp_ros.adaptation.guard import with_original_accuracy
from crisp_ros.adaptation.reference_set import (
    reference_path,
    rendered_reference,
    save_reference,
)
from crisp_ros.cli.options import (
    OptionError,
    add_checkpoint_option,
    add_cluster_option,
    add_models_option,
    add_observed_poses_option,
    count,
)
from crisp_ros.cluster import mapping
from crisp_ros.data.bop_writer import write_frames
from crisp_ros.network.checkpoint import load_model
from crisp_ros.progress import progress
from crisp_ros.share import checkpoint_path
from crisp_ros.synthesis.scattered_frames import DOMAINS
from crisp_ros.synthesis.scattered_models import ScatteredModels


def add_kinds(kinds: argparse._SubParsersAction) -> None:
    """Add `scattered` and `reference`; each sets `make`."""
    scattered = kinds.add_parser(
        "scattered", help="images of scattered objects under selected lighting, in BOP layout"
    )
    _add_models(scattered)
    scattered.add_argument(
        "--output", type=Path, required=True, metavar="DIR", help="data set folder to write"
    )
    scattered.add_argument(
        "--domain", choices=DOMAINS, default="day", help="lighting and camera (default: day)"
    )
    scattered.add_argument(
        "--frames", type=count, default=40, help="number of frames (default: 40)"
    )
    scattered.add_argument(
        "--seed", type=int, default=0, help="seed of all random choices (default: 0)"
    )
    add_cluster_option(scattered)
    scattered.set_defaults(make=_scattered)

    reference = kinds.add_parser(
        "reference", help="the reference set that guards a model's self-training, next to the model"
    )
    _add_models(reference)
    add_checkpoint_option(reference)
    reference.add_argument(
        "--crops", type=count, default=6, metavar="N", help="crops per shape (default: 6)"
    )
    reference.add_argument(
        "--seed", type=int, default=2026, help="seed of the frames (default: 2026)"
    )
    reference.set_defaults(make=_reference)


def _add_models(parser: argparse.ArgumentParser) -> None:
    add_models_option(parser)
    add_observed_poses_option(parser)


def check_new_split(output: Path, split: str) -> None:
    """Check that a data set folder does not have a split yet.

    Raises:
        OptionError: it has.
    """
    if (output / split).exists():
        raise OptionError(f"{output / split} exists already; choose another folder")


def copy_models(models: Path, output: Path) -> None:
    """Copy the models of a data set into a rendered one that has none."""
    if not (output / "models").exists():
        shutil.copytree(models, output / "models")


def _scattered(args: argparse.Namespace) -> None:
    check_new_split(args.output, "test")
    objects = ScatteredModels.read(args.models, args.observed_poses)
    with mapping(args.cluster) as mapped, progress("frames") as on_frame:
        frames = objects.frames(DOMAINS[args.domain], args.frames, args.seed, on_frame, mapped)
        write_frames(args.output, frames)
    copy_models(args.models, args.output)
    Console().print(f"{args.output}: {args.frames} images", highlight=False, soft_wrap=True)


def _reference(args: argparse.Namespace) -> None:
    path = checkpoint_path(args.checkpoint)
    model = load_model(path)
    objects = ScatteredModels.read(args.models, args.observed_poses)
    with progress("frames, at most") as on_frame:
        crops = rendered_reference(
            model, objects, DOMAINS["day"], args.crops, args.seed, on_frame=on_frame
        )
    reference = with_original_accuracy(model, crops)
    save_reference(reference_path(path), reference)
    summary = (
        f"{reference_path(path)}: {len(reference)} crops, pose accuracy "
        f"{reference.original.pose:.3f}, shape accuracy {reference.original.shape:.3f}"
    )
    Console().print(summary, highlight=False, soft_wrap=True)
