"""`crisp library`: checks, extends or builds a model's shape library."""

from __future__ import annotations

import argparse
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
import trimesh
from rich.console import Console
from torch import Tensor

from crisp_ros.cli.options import (
    OptionError,
    add_checkpoint_option,
    add_json_option,
    output_file,
)
from crisp_ros.correction.certificate import CertificateSettings
from crisp_ros.data.atomic_file import write_json
from crisp_ros.data.bop import BopDataset, read_models
from crisp_ros.data.meshes import mesh_files
from crisp_ros.data.object_mesh import UNITS_M, ObjectMesh, read_object_mesh
from crisp_ros.evaluation.library_quality import FitError, check_library, fit_error
from crisp_ros.evaluation.provenance import provenance
from crisp_ros.network.checkpoint import Model, load_model, save_model
from crisp_ros.network.decoder import ShapeDecoder
from crisp_ros.network.library import ShapeLibrary, shape_boxes
from crisp_ros.progress import progress
from crisp_ros.reports.terminal_tables import fit_table, library_table
from crisp_ros.share import checkpoint_path
from crisp_ros.training.mesh_codes import fit_mesh_code
from crisp_ros.training.network_codes import mean_network_codes
from crisp_ros.training.shape_codes import neutral_codes
from crisp_ros.training.surface_colors import mesh_surface_colors

_SYMMETRY_STEPS = 36  # of a full rotation


class LibraryError(ValueError):
    """A library that something is wrong with, or a shape that its decoder cannot express."""


class _Shape(NamedTuple):
    """A shape to come into a library, with the mesh that it stands for."""

    name: str
    mesh: ObjectMesh
    source: str
    symmetries: Tensor


class _Fitted(NamedTuple):
    code: Tensor  # (C,)
    lower: Tensor  # (3,)
    upper: Tensor  # (3,)
    error: FitError


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
    add.add_argument("--scale", type=_positive, default=1.0, metavar="S", help="scale of the mesh")
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
    source = build.add_mutually_exclusive_group(required=True)
    source.add_argument("--bop", type=Path, metavar="DIR", help="data set in BOP layout")
    source.add_argument(
        "--models", type=Path, metavar="DIR", help="folder of meshes, one per shape"
    )
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
    source = colors.add_mutually_exclusive_group(required=True)
    source.add_argument("--bop", type=Path, metavar="DIR", help="data set in BOP layout")
    source.add_argument(
        "--models", type=Path, metavar="DIR", help="folder of meshes, one per shape"
    )
    _add_model_options(colors)


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
    model = load_model(path)
    found = check_library(model.network.decoder, _library(model, path))
    Console().print(library_table(found))
    if args.json:
        write_json(
            args.json,
            {**provenance(args.command_line), "checkpoint": str(path), **found.to_json()},
        )
    if found.problems:
        raise LibraryError(f"{path}: {'; '.join(found.problems)}")


def _add(args: argparse.Namespace) -> None:
    path = checkpoint_path(args.checkpoint)
    model = load_model(path)
    library = _library(model, path)
    if args.name in library.names:
        raise LibraryError(f"{path} has a shape named {args.name!r} already: choose another name")
    mesh = read_object_mesh(args.mesh, args.units, args.scale, args.origin)
    shape = _Shape(args.name, mesh, args.mesh.name, torch.eye(4)[None])
    decoder = model.network.decoder
    with progress("steps") as on_step:
        code, _ = fit_mesh_code(decoder, library.codes, mesh.mesh, seed=args.seed, on_step=on_step)
    fitted = _measured(decoder, code, mesh.mesh, args.seed)
    added = library.with_shape(
        shape.name,
        fitted.code,
        fitted.lower,
        fitted.upper,
        shape.symmetries,
        mesh_surface_colors(mesh.look, args.seed),
    )
    entry = _entry(shape, fitted)
    header = {
        **_without(model.header, "self_training"),
        "version": next_version(str(model.header.get("version", "")), "minor"),
        "added_shapes": [*model.header.get("added_shapes", []), entry],
    }
    _write(args, replace(model, library=added, header=header), [shape], [fitted])


def _build(args: argparse.Namespace) -> None:
    if args.codes == "network" and args.bop is None:
        raise OptionError("--codes network needs the images of a data set: name it by --bop")
    path = checkpoint_path(args.checkpoint)
    model = load_model(path)
    shapes = _models_of(args)
    decoder = model.network.decoder
    if args.codes == "network":
        codes = _network_codes(args, model, [shape.name for shape in shapes])
    else:
        known = model.library.codes if model.library else neutral_codes(decoder, 4, 0.02, args.seed)
        codes = []
        with progress("shapes") as on_shape:
            for shape in shapes:
                codes.append(fit_mesh_code(decoder, known, shape.mesh.mesh, seed=args.seed).code)
                on_shape(len(codes), len(shapes))
    fitted = [
        _measured(decoder, code, shape.mesh.mesh, args.seed)
        for code, shape in zip(codes, shapes, strict=True)
    ]
    library = ShapeLibrary(
        tuple(shape.name for shape in shapes),
        torch.stack([f.code for f in fitted]),
        torch.stack([f.lower for f in fitted]),
        torch.stack([f.upper for f in fitted]),
        tuple(shape.symmetries for shape in shapes),
        tuple(mesh_surface_colors(shape.mesh.look, args.seed) for shape in shapes),
    )
    header = {
        **_without(model.header, "self_training", "added_shapes"),
        "version": next_version(str(model.header.get("version", "")), "major"),
        "library_codes": args.codes,
        "library_shapes": [_entry(s, f) for s, f in zip(shapes, fitted, strict=True)],
    }
    _write(args, replace(model, library=library, header=header), shapes, fitted)


def _colors(args: argparse.Namespace) -> None:
    path = checkpoint_path(args.checkpoint)
    model = load_model(path)
    library = _library(model, path)
    found = {
        shape.name: mesh_surface_colors(shape.mesh.look, args.seed)
        for shape in _models_of(args)
        if shape.name in library.names
    }
    colors = {name: part for name, part in found.items() if part is not None}
    missing = [name for name in library.names if name not in colors]
    if not colors:
        raise LibraryError(f"no mesh has colours and the name of a shape: {', '.join(missing)}")
    header = {
        **model.header,
        "version": next_version(str(model.header.get("version", "")), "minor"),
    }
    args.output.parent.mkdir(parents=True, exist_ok=True)
    colored = replace(model, library=library.with_colors(colors), header=header)
    save_model(args.output, colored)
    console = Console()
    console.print(
        f"{args.output}: version {header['version']}, colours of {len(colors)} of "
        f"{len(library)} shapes" + (f"; none of {', '.join(missing)}" if missing else ""),
        highlight=False,
        soft_wrap=True,
    )
    if args.json:
        report = {"model_version": header["version"], "colors": list(colors), "missing": missing}
        write_json(args.json, {**provenance(args.command_line), **report})


def _models_of(args: argparse.Namespace) -> list[_Shape]:
    if args.models is not None:
        meshes = {
            name: read_object_mesh(path, args.units, origin="mesh")
            for name, path in mesh_files(args.models).items()
        }
        return [_Shape(name, mesh, name, torch.eye(4)[None]) for name, mesh in meshes.items()]
    return [
        _Shape(
            model.name,
            read_object_mesh(model.path, args.units or "mm", origin="mesh"),
            model.path.name,
            torch.from_numpy(model.symmetries(_SYMMETRY_STEPS)).float(),
        )
        for model in read_models(args.bop / "models").values()
    ]


def _network_codes(args: argparse.Namespace, model: Model, names: list[str]) -> list[Tensor]:
    dataset = BopDataset(args.bop, args.split)
    with progress("images") as on_frame:
        means = mean_network_codes(model.network, dataset, on_frame=on_frame)
    codes = {dataset.models[obj_id].name: code for obj_id, code in means.items()}
    missing = [name for name in names if name not in codes]
    if missing:
        raise LibraryError(f"no image of {args.split} shows enough of {', '.join(missing)}")
    return [codes[name] for name in names]


def _measured(decoder: ShapeDecoder, code: Tensor, mesh: trimesh.Trimesh, seed: int) -> _Fitted:
    boxes = shape_boxes(decoder, code[None])
    lower, upper = boxes.lower[0], boxes.upper[0]
    quantile = CertificateSettings().quantile
    return _Fitted(code, lower, upper, fit_error(decoder, code, lower, upper, mesh, quantile, seed))


def _write(
    args: argparse.Namespace, model: Model, shapes: list[_Shape], fitted: list[_Fitted]
) -> None:
    """Report the fits, refuse those that no certificate would pass, write the rest's
    model file and report."""
    console, warnings = Console(), Console(stderr=True)
    for shape in shapes:
        for note in shape.mesh.notes:
            warnings.print(f"{shape.source}: {note}", highlight=False, markup=False)
    console.print(fit_table({s.name: f.error for s, f in zip(shapes, fitted, strict=True)}))
    limit = CertificateSettings().threshold_m
    refused = [
        shape.name
        for shape, fit in zip(shapes, fitted, strict=True)
        if not max(fit.error.quantile_m, fit.error.chamfer_m) <= limit
    ]
    if refused and not args.force:
        raise LibraryError(
            f"the decoder cannot express {', '.join(refused)}: off by more than the certificate's "
            f"{1e3 * limit:g} mm, so that no estimate would be certified (--force takes them)"
        )
    args.output.parent.mkdir(parents=True, exist_ok=True)
    save_model(args.output, model)
    console.print(
        f"{args.output}: version {model.header['version']}, {len(model.library)} shapes",
        highlight=False,
        soft_wrap=True,
    )
    if args.json:
        entries = [_entry(s, f) for s, f in zip(shapes, fitted, strict=True)]
        report = {"model_version": model.header["version"], "shapes": entries}
        write_json(args.json, {**provenance(args.command_line), **report})


def _entry(shape: _Shape, fitted: _Fitted) -> dict[str, Any]:
    """Return the entry of a shape in header and report; its box is the decoded one."""
    chamfer = fitted.error.chamfer_m
    return {
        "name": shape.name,
        "mesh": shape.source,
        "mesh_origin_in_object_frame_m": shape.mesh.shift.tolist(),
        "diameter_m": float(torch.linalg.norm(fitted.upper - fitted.lower)),
        "notes": list(shape.mesh.notes),
        **fitted.error._asdict(),
        "chamfer_m": chamfer if chamfer < float("inf") else None,
    }


def next_version(version: str, part: Literal["major", "minor"]) -> str:
    """X.Y.Z with the part raised: minor for a shape more, major where shapes are replaced.

    Any other text gets "+1" at its end, or the number there raised; nothing becomes 0.1.0.
    """
    numbers = re.fullmatch(r"(\d+)\.(\d+)\.(\d+)", version)
    if numbers:
        major, minor = int(numbers[1]), int(numbers[2])
        return f"{major + 1}.0.0" if part == "major" else f"{major}.{minor + 1}.0"
    if not version:
        return "0.1.0"
    text, _, count = version.rpartition("+")
    return f"{text}+{int(count) + 1}" if text and count.isdecimal() else f"{version}+1"


def _without(header: dict[str, Any], *keys: str) -> dict[str, Any]:
    """Remove the self-training entries: with other shapes they no longer apply."""
    return {key: value for key, value in header.items() if key not in keys}


def _library(model: Model, path: Path) -> ShapeLibrary:
    if model.library is None:
        raise OptionError(f"{path} holds no shape code library: make one by crisp library build")
    return model.library


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r}: expected a positive number")
    return value
