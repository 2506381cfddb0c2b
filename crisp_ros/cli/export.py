"""`crisp export`: shapes of a model and points of its objects, in files for other programs."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from rich.console import Console

from crisp_ros.cli.demo_source import (
    add_frame_options,
    add_source_options,
    chosen_frames,
    open_source,
)
from crisp_ros.cli.options import (
    OptionError,
    add_checkpoint_option,
    model_with_library,
)
from crisp_ros.data.files import MeshError
from crisp_ros.geometry.isosurface import IsosurfaceSettings
from crisp_ros.network.checkpoint import load_model
from crisp_ros.observation.frame import Frame
from crisp_ros.observation.object_points import object_points, write_points
from crisp_ros.pipeline import Estimator
from crisp_ros.progress import progress
from crisp_ros.share import checkpoint_path
from crisp_ros.training.library_quality import BoxedShape, decoded_mesh


def add_arguments(parser: argparse.ArgumentParser) -> None:
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--library",
        action="store_true",
        help="export the mesh of every shape in the library, as PLY",
    )
    what.add_argument(
        "--points",
        action="store_true",
        help="export the depth points of the objects of each frame of a recording or data set, as "
        "PLY with colour, label and certified (0 or 1), in the camera's optical frame",
    )
    add_source_options(parser)
    add_frame_options(parser, "points: ")
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        metavar="DIR",
        help="output folder; meshes and points are in metres",
    )
    parser.add_argument(
        "--voxels",
        type=int,
        default=128,
        help="voxels along the longest edge of a shape's bounding box (default: 128)",
    )
    add_checkpoint_option(parser)


def run(args: argparse.Namespace) -> None:
    if args.points:
        _export_points(args)
    else:
        _export_library(args)


def _export_points(args: argparse.Namespace) -> None:
    source = open_source(args)
    estimator = Estimator(load_model(checkpoint_path(args.checkpoint)))
    args.output.mkdir(parents=True, exist_ok=True)
    written = 0
    with progress("frames") as on_frame:
        for recorded in chosen_frames(source, args):
            frame = Frame.from_recorded(recorded)
            estimates = estimator.estimate(frame).objects
            certified = {e.label for e in estimates if e.certified}
            write_points(args.output / f"{written:06d}.ply", object_points(frame, certified))
            written += 1
            on_frame(written, args.frames or -(-source.count // args.every))
    Console().print(f"{written} point clouds in {args.output}", highlight=False)


def _export_library(args: argparse.Namespace) -> None:
    path = checkpoint_path(args.checkpoint)
    if args.voxels < 8:
        raise OptionError(f"--voxels {args.voxels}: expected at least 8")
    model = model_with_library(path)
    library = model.library
    settings = IsosurfaceSettings(voxels=args.voxels)
    args.output.mkdir(parents=True, exist_ok=True)
    with progress("shapes") as on_shape:
        for index, name in enumerate(library.names):
            shape = BoxedShape.of_library(library, index)
            mesh = decoded_mesh(model.network.decoder, shape, settings)
            if len(mesh.faces) == 0:
                raise MeshError(f"{path}: the code of {name} has no surface inside its box")
            mesh.export(args.output / f"{_file_name(name)}.ply")
            on_shape(index + 1, len(library))
    Console().print(f"{len(library)} meshes in {args.output}", highlight=False)


def _file_name(name: str) -> str:
    """The name with everything that is special to a file system replaced."""
    return re.sub(r"[^\w.+-]", "_", name).lstrip(".") or "_"
