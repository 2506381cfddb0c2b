"""`crisp export`: what a model holds, in files that other programs read."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from rich.console import Console

from crisp_ros.cli.options import (
    OptionError,
    add_checkpoint_option,
    model_with_library,
)
from crisp_ros.data.files import MeshError
from crisp_ros.geometry.isosurface import IsosurfaceSettings
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
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        metavar="DIR",
        help="output folder; meshes are in metres",
    )
    parser.add_argument(
        "--voxels",
        type=int,
        default=128,
        help="voxels along the longest edge of a shape's bounding box (default: 128)",
    )
    add_checkpoint_option(parser)


def run(args: argparse.Namespace) -> None:
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
