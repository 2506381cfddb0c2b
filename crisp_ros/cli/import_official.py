"""`crisp import-official`: a checkpoint of the authors' released code becomes a model file."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from rich.console import Console

from crisp_ros.cli.options import OptionError, add_json_option, output_file
from crisp_ros.data.atomic_file import write_json
from crisp_ros.evaluation.provenance import provenance
from crisp_ros.network.checkpoint import load_model, save_model
from crisp_ros.network.official import import_official
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
    with progress("importing") as on_shape:
        model = import_official(args.checkpoint, on_shape)
    save_model(args.output, model, torch.float16 if args.half else torch.float32)
    written = load_model(args.output)
    parameters = sum(weight.numel() for weight in written.network.parameters())
    shapes = list(written.library.names) if written.library else []
    open_shapes = written.header["open_shapes"]

    console = Console()
    console.print(
        f"{args.output}: {parameters:,} parameters, crops of {written.network.crop_size} px"
    )
    if shapes:
        console.print(f"library: {len(shapes)} shapes")
    else:
        console.print("no library in the checkpoint: build one with `crisp library`")
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
            "crop_size": written.network.crop_size,
            "shapes": shapes,
            "open_shapes": open_shapes,
            **provenance(args.command_line),
        }
        write_json(args.json, report)
