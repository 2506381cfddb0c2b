"""`crisp import-backbone`: published DINOv2 weights become a model file to train heads on."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from rich.console import Console

from crisp_ros.cli.options import OptionError, output_file
from crisp_ros.network.backbone_import import import_backbone
from crisp_ros.network.checkpoint import save_model


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "weights",
        type=Path,
        help="dinov2_vits14_pretrain.pth of torch hub, or timm's vit_small_patch14_dinov2 as"
        " .safetensors or .bin",
    )
    parser.add_argument(
        "--output",
        type=output_file,
        required=True,
        metavar="FILE",
        help="the model file to write, .safetensors, for crisp train --backbone",
    )
    parser.add_argument(
        "--half", action="store_true", help="store weights as 16-bit floats, for half the file size"
    )


def run(args: argparse.Namespace) -> None:
    if args.output.resolve() == args.weights.resolve():
        raise OptionError("the output would replace the weights: name another file")
    model = import_backbone(args.weights)
    save_model(args.output, model, torch.float16 if args.half else torch.float32)
    count = sum(weight.numel() for weight in model.network.backbone.parameters())
    Console().print(
        f"{args.output}: backbone of {count:,} parameters; its heads are random, train them with "
        f"crisp train --backbone {args.output}",
        highlight=False,
        soft_wrap=True,
    )
