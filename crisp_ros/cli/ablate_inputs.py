"""`crisp ablate inputs`: a finished model without geometry, colours of its library, other crops."""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console

from crisp_ros.cli.options import add_checkpoint_option, add_json_option, model_with_library
from crisp_ros.data.atomic_file import write_json
from crisp_ros.data.bop import BopDataset
from crisp_ros.evaluation.dataset_loop import DatasetLoop
from crisp_ros.evaluation.provenance import provenance
from crisp_ros.pipeline import model_version
from crisp_ros.progress import progress
from crisp_ros.reports.study_tables import inputs_table
from crisp_ros.studies.inputs_ablation import InputsAblation


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--bop", type=Path, action="append", required=True, metavar="DIR",
        help="data set in BOP layout to measure on; can be repeated",
    )  # fmt: skip
    parser.add_argument("--split", default="test", help="split of --bop (default: test)")
    parser.add_argument(
        "--colour-model", type=Path, metavar="FILE", help="a model of colour alone to compare with"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of points (default: 0)")
    add_checkpoint_option(parser)
    add_json_option(parser)


def run(args: argparse.Namespace) -> None:
    model = model_with_library(args.checkpoint)
    colour = model_with_library(args.colour_model) if args.colour_model else None
    ablation = InputsAblation(model, colour, args.seed)
    datasets = {str(folder): BopDataset(folder, args.split) for folder in args.bop}
    found, console = {}, Console()
    for place, dataset in datasets.items():
        with ExitStack() as bars:
            found[place] = ablation.run(
                dataset, lambda name, bars=bars: DatasetLoop(bars.enter_context(progress(name)))
            )
        console.print(inputs_table(place, found[place]))
    if args.json:
        versions = {"model_version": model_version(model)}
        if colour is not None:
            versions["colour_model_version"] = model_version(colour)
        write_json(args.json, {**provenance(args.command_line), **versions, "data_sets": found})
