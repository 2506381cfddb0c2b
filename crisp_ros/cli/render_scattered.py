"""Kinds of `crisp render` that self-training needs: unlabelled-like sets and reference sets."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import trimesh
from rich.console import Console

from crisp_ros.adaptation.guard import measured
from crisp_ros.adaptation.reference_set import reference_crops, reference_path, save_reference
from crisp_ros.cli.options import (
    OptionError,
    add_checkpoint_option,
    add_cluster_option,
    add_models_option,
    add_observed_poses_option,
    count,
)
from crisp_ros.cluster import mapping
from crisp_ros.data.bop import read_models
from crisp_ros.data.bop_writer import write_frames
from crisp_ros.network.checkpoint import load_model
from crisp_ros.progress import progress
from crisp_ros.share import checkpoint_path
from crisp_ros.synthesis.scattered_frames import DOMAINS, scattered_frames
from crisp_ros.synthesis.scenes import Viewpoints, load_observed_poses, viewpoints

_FRAMES_PER_CROP = 40  # most frames rendered for each crop asked for of a shape


def add_kinds(kinds: argparse._SubParsersAction) -> None:
    """Adds `scattered` and `reference`; each sets `make`."""
    scattered = kinds.add_parser(
        "scattered", help="objects scattered in view under a chosen light, in the BOP layout"
    )
    _add_models(scattered)
    scattered.add_argument(
        "--output", type=Path, required=True, metavar="DIR", help="data set folder to write"
    )
    scattered.add_argument(
        "--domain", choices=DOMAINS, default="day", help="light and camera (default: day)"
    )
    scattered.add_argument("--frames", type=count, default=40, help="number (default: 40)")
    scattered.add_argument("--seed", type=int, default=0, help="of all that is random (default: 0)")
    add_cluster_option(scattered)
    scattered.set_defaults(make=_scattered)

    reference = kinds.add_parser(
        "reference", help="the reference set that guards a model's self-training, beside the model"
    )
    _add_models(reference)
    add_checkpoint_option(reference)
    reference.add_argument(
        "--crops", type=count, default=6, metavar="N", help="of each shape (default: 6)"
    )
    reference.add_argument("--seed", type=int, default=2026, help="of the frames (default: 2026)")
    reference.set_defaults(make=_reference)


def _add_models(parser: argparse.ArgumentParser) -> None:
    add_models_option(parser)
    add_observed_poses_option(parser)


def _scattered(args: argparse.Namespace) -> None:
    if (args.output / "test").exists():
        raise OptionError(f"{args.output / 'test'}: is there already; name another folder")
    meshes = {obj_id: model.mesh for obj_id, model in read_models(args.models).items()}
    with mapping(args.cluster) as mapped, progress("frames") as on_frame:
        frames = scattered_frames(
            meshes,
            _viewpoints(args, meshes),
            DOMAINS[args.domain],
            args.frames,
            args.seed,
            on_frame,
            mapped,
        )
        write_frames(args.output, frames)
    copied = args.output / "models"
    if not copied.exists():
        shutil.copytree(args.models, copied)
    Console().print(f"{args.output}: {args.frames} images", highlight=False, soft_wrap=True)


def _reference(args: argparse.Namespace) -> None:
    path = checkpoint_path(args.checkpoint)
    model = load_model(path)
    models = read_models(args.models)
    meshes = {obj_id: m.mesh for obj_id, m in models.items()}
    most = _FRAMES_PER_CROP * args.crops
    with progress("frames, at most") as on_frame:
        frames = scattered_frames(
            meshes, _viewpoints(args, meshes), DOMAINS["day"], most, args.seed, on_frame
        )
        names = {obj_id: m.name for obj_id, m in models.items()}
        reference = reference_crops(model, frames, names, args.crops)
    reference = measured(model, reference)
    save_reference(reference_path(path), reference)
    told = (
        f"{reference_path(path)}: {len(reference)} crops, pose accuracy "
        f"{reference.original.pose:.3f}, shape accuracy {reference.original.shape:.3f}"
    )
    Console().print(told, highlight=False, soft_wrap=True)


def _viewpoints(args: argparse.Namespace, meshes: dict[int, trimesh.Trimesh]) -> list[Viewpoints]:
    observed = load_observed_poses(args.observed_poses) if args.observed_poses else {}
    return [viewpoints(mesh, observed.get(obj_id)) for obj_id, mesh in meshes.items()]
