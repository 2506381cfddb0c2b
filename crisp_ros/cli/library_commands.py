"""`crisp library`: checks, extends or builds a model's shape library."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from crisp_ros.cli.options import (
    OptionError,
    add_checkpoint_option,
    add_json_option,
    model_with_library,
    number,
    output_file,
)
from crisp_ros.data.atomic_file import write_json
from crisp_ros.data.bop import BopDataset
from crisp_ros.data.object_mesh import UNITS_M
from crisp_ros.evaluation.provenance import provenance
from crisp_ros.network.checkpoint import Model, load_model, save_model
from crisp_ros.progress import progress
from crisp_ros.reports.terminal_tables import fit_table, library_table
from crisp_ros.share import checkpoint_path
from crisp_ros.training.library_builder import (
    FittedShape,
    LibraryBuilder,
    LibraryError,
    MeshShape,
    bop_shapes,
    check_fits,
    folder_shapes,
    mesh_shape,
)
from crisp_ros.training.library_quality import check_library


def add_arguments(parser: argparse.ArgumentParser) -> None:
    kinds = parser.add_subparsers(dest="kind", metavar="KIND", required=True)

    check = kinds.add_parser("check", help="find broken and duplicate shapes")
    add_checkpoint_option(check)
    add_json_option(check)

    add = kinds.add_parser(
        "add",
        help="add a mesh to the known shapes, without training",
        description="Fit a shape code to a mesh; the decoder is unchanged. The network has not "
        "seen it: its coordinates are a guess, and only the corrector can choose the shape.",
    )
    add.add_argument("mesh", type=Path, metavar="MESH", help="PLY, OBJ, STL, GLB or OFF")
    add.add_argument("--name", required=True, help="name of the shape in the library")
    positive = number("a positive number", lambda value: 0.0 < value < float("inf"))
    add.add_argument("--scale", type=positive, default=1.0, metavar="S", help="scale of the mesh")
    add.add_argument(
        "--origin",
        choices=("box", "mesh"),
        default="box",
        help="origin of the object frame: the centre of the mesh's bounding box, as in the shipped "
        "model, or the mesh's own (default: box); the axes are always those of the mesh",
    )
    _add_fit_options(add)

    build = kinds.add_parser(
        "build",
        help="build the library from the models of a data set",
        description="Replace the library; network and decoder are unchanged. Object frames are "
        "those of the meshes, so the poses of the data set stay valid.",
    )
    _add_mesh_options(build)
    build.add_argument(
        "--codes",
        choices=("fit", "network"),
        default="fit",
        help="fit: fitted to the meshes; network: the mean of the network's codes over the "
        "object's crops in the --bop data set, as in the paper (default: fit)",
    )
    build.add_argument("--split", default="test", help="split for --codes network (default: test)")
    _add_fit_options(build)

    colors = kinds.add_parser(
        "colors",
        help="give the known shapes the colours of their meshes",
        description="With colours, the print decides between orientations that are the same in "
        "depth. Meshes belong to the shapes of the same name, in the same object frames.",
    )
    _add_mesh_options(colors)
    _add_model_options(colors)


def _add_mesh_options(parser: argparse.ArgumentParser) -> None:
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--bop", type=Path, metavar="DIR", help="data set in BOP layout")
    source.add_argument(
        "--models", type=Path, metavar="DIR", help="folder of meshes, one per shape"
    )


def _add_fit_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--force", action="store_true", help="also accept shapes that the decoder cannot represent"
    )
    _add_model_options(parser)


def _add_model_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--units",
        choices=tuple(UNITS_M),
        help="unit of the meshes (default: m, or mm for one that would be more than 2 m across)",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the samples (default: 0)")
    add_checkpoint_option(parser)
    parser.add_argument(
        "--output", type=output_file, required=True, metavar="FILE", help="model file to write"
    )
    add_json_option(parser)


def run(args: argparse.Namespace) -> None:
    {"check": _check, "add": _add, "build": _build, "colors": _colors}[args.kind](args)


def _check(args: argparse.Namespace) -> None:
    path = checkpoint_path(args.checkpoint)
    model = model_with_library(path)
    check = check_library(model.network.decoder, model.library)
    Console().print(library_table(check))
    if args.json:
        origin = provenance(args.command_line)
        write_json(args.json, {**origin, "checkpoint": str(path), **check.to_json()})
    if check.problems:
        raise LibraryError(f"{path}: {'; '.join(check.problems)}")


def _add(args: argparse.Namespace) -> None:
    builder = LibraryBuilder(model_with_library(args.checkpoint), args.seed)
    shape = mesh_shape(args.mesh, args.name, args.units, args.scale, args.origin)
    with progress("steps") as on_step:
        model, fitted = builder.with_shape(shape, on_step)
    _write(args, model, [fitted])


def _build(args: argparse.Namespace) -> None:
    if args.codes == "network" and args.bop is None:
        raise OptionError("--codes network needs the images of a data set: name it by --bop")
    builder = LibraryBuilder(load_model(checkpoint_path(args.checkpoint)), args.seed)
    shapes = _shapes(args)
    if args.codes == "network":
        with progress("images") as on_frame:
            fitted = builder.of_network(shapes, BopDataset(args.bop, args.split), on_frame)
    else:
        with progress("shapes") as on_shape:
            fitted = builder.fitted(shapes, on_shape)
    _write(args, builder.with_shapes(fitted, args.codes), fitted)


def _colors(args: argparse.Namespace) -> None:
    builder = LibraryBuilder(model_with_library(args.checkpoint), args.seed)
    model, colored = builder.with_colors(_shapes(args))
    names, version = model.library.names, model.header["version"]
    missing = [name for name in names if name not in colored]
    _save(args.output, model)
    Console().print(
        f"{args.output}: version {version}, colours of {len(colored)} of {len(names)} shapes"
        + (f"; none of {', '.join(missing)}" if missing else ""),
        highlight=False,
        soft_wrap=True,
    )
    if args.json:
        report = {"model_version": version, "colors": colored, "missing": missing}
        write_json(args.json, {**provenance(args.command_line), **report})


def _shapes(args: argparse.Namespace) -> list[MeshShape]:
    if args.models is not None:
        return folder_shapes(args.models, args.units)
    return bop_shapes(args.bop, args.units)


def _write(args: argparse.Namespace, model: Model, fitted: Sequence[FittedShape]) -> None:
    """Print the errors of the shapes, check them, and write model file and report."""
    console, warnings = Console(), Console(stderr=True)
    for source in (f.source for f in fitted):
        for note in source.mesh.notes:
            warnings.print(f"{source.source}: {note}", highlight=False, markup=False)
    console.print(fit_table({f.source.name: f.error for f in fitted}))
    if not args.force:
        check_fits(fitted)
    _save(args.output, model)
    version = model.header["version"]
    summary = f"{args.output}: version {version}, {len(model.library)} shapes"
    console.print(summary, highlight=False, soft_wrap=True)
    if args.json:
        report = {"model_version": version, "shapes": [f.to_json() for f in fitted]}
        write_json(args.json, {**provenance(args.command_line), **report})


def _save(path: Path, model: Model) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_model(path, model)
