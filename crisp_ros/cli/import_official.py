"""`crisp import-official`: a checkpoint of the authors' released code becomes a model file."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from rich.console import Console

from crisp_ros.cli.options import OptionError, add_json_option, count, output_file
from crisp_ros.data.atomic_file import write_json
from crisp_ros.evaluation.provenance import provenance
from crisp_ros.network.checkpoint import load_model, save_model
from crisp_ros.network.official import OfficialOptions, import_official
from crisp_ros.observation.crop_channels import CROP_RULES
from crisp_ros.progress import progress


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", type=Path, help="the released checkpoint, a .pth file")
    parser.add_argument(
        "--output",
        type=output_file,
        required=True,
        metavar="FILE",
        help="the model file to write, .safetensors",
    )
    parser.add_argument(
        "--shapes",
        choices=("metric", "normalised"),
        help="unit of its coordinates, where the checkpoint does not say it (normalized_recons)",
    )
    parser.add_argument(
        "--crop-size",
        type=count,
        metavar="PX",
        help="side of its crops, where the checkpoint does not say it (default: 420)",
    )
    parser.add_argument(
        "--crops",
        choices=CROP_RULES,
        default="tight",
        help="what its crops show: the box of the mask, stretched (tight, the default); the whole"
        " image (SPE3R); a square with a margin, as networks of this repository",
    )
    library = parser.add_mutually_exclusive_group()
    library.add_argument(
        "--library", type=Path, metavar="FILE", help="its shape_code_lib.pkl, a file of its own"
    )
    library.add_argument(
        "--no-library", action="store_true", help="a category-agnostic model without known shapes"
    )
    parser.add_argument(
        "--objects-info",
        type=Path,
        metavar="FILE",
        help="its objects_info.yaml; a library of normalised shapes needs the sizes in it",
    )
    parser.add_argument(
        "--half",
        action="store_true",
        help="store network weights as 16-bit floats, for half the file size",
    )
    add_json_option(parser)


def run(args: argparse.Namespace) -> None:
    if not args.output.parent.is_dir():
        raise OptionError(f"there is no folder {args.output.parent} to write the model file to")
    if args.output.resolve() == args.checkpoint.resolve():
        raise OptionError("the output would replace the checkpoint: name another file")
    options = OfficialOptions(
        args.shapes,
        args.crop_size,
        args.crops,
        args.library,
        args.objects_info,
        not args.no_library,
    )
    with progress("importing") as on_shape:
        model = import_official(args.checkpoint, on_shape, options)
    save_model(args.output, model, torch.float16 if args.half else torch.float32)
    written = load_model(args.output)
    parameters = sum(weight.numel() for weight in written.network.parameters())
    shapes = list(written.library.names) if written.library else []
    open_shapes = written.header["open_shapes"]

    console = Console()
    config = written.network.config
    kind = "normalised" if config.normalised_shapes else "metric"
    console.print(
        f"{args.output}: {parameters:,} parameters, {kind} shapes, "
        f"{config.crop_rule} crops of {config.crop_size} px"
    )
    if shapes:
        console.print(f"library: {len(shapes)} shapes")
    else:
        console.print("no library: poses and shapes of any object, but none is named or known")
    if open_shapes:
        console.print(
            f"[yellow]no closed surface is decoded for {', '.join(open_shapes)}; "
            "do not use these shapes[/yellow]"
        )
    if args.json:
        report = {
            "output": str(args.output),
            "sha256": written.header["sha256"],
            "parameters": parameters,
            "crop_size": config.crop_size,
            "crop_rule": config.crop_rule,
            "shape_unit": kind,
            "shapes": shapes,
            "open_shapes": open_shapes,
            **provenance(args.command_line),
        }
        write_json(args.json, report)
