"""`crisp evaluate`: pose and shape errors of a model on a data set."""

from __future__ import annotations

import argparse
from dataclasses import asdict, replace
from pathlib import Path

from rich.console import Console

from crisp_ros.cli.options import add_json_option, add_model_options, checkpoint_path, progress
from crisp_ros.data.bop import BopDataset
from crisp_ros.evaluation.bop import BopEvaluationSettings, evaluate_bop
from crisp_ros.evaluation.report import provenance, write_json
from crisp_ros.evaluation.tables import instance_table, summary_table
from crisp_ros.geometry.registration import RegistrationSettings
from crisp_ros.network.checkpoint import load_model
from crisp_ros.observation.objects import ObservationSettings
from crisp_ros.pipeline import Estimator, EstimatorSettings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    kinds = parser.add_subparsers(dest="kind", metavar="KIND", required=True)
    bop = kinds.add_parser("bop", help="a folder in the BOP layout: models/ and test/")
    bop.add_argument("folder", type=Path, metavar="DIR", help="holds models/ and the split")
    bop.add_argument("--split", default="test", help="folder of the scenes (default: test)")
    add_model_options(bop)
    add_json_option(bop)


def run(args: argparse.Namespace) -> None:
    dataset = BopDataset(args.folder, args.split)
    path = checkpoint_path(args.checkpoint)
    settings = EstimatorSettings(
        observation=ObservationSettings(seed=args.seed),
        registration=RegistrationSettings(seed=args.seed),
    )
    estimator = Estimator(load_model(path, args.device), settings, args.device)
    with progress("images") as on_frame:
        evaluation = evaluate_bop(
            estimator, dataset, BopEvaluationSettings(seed=args.seed), on_frame
        )
    config = {
        **evaluation.config,
        "checkpoint": str(path),
        "device": args.device,
        "model_version": estimator.model_version,
        "estimator": asdict(estimator.settings),
        **provenance(args.command_line, args.device),
    }
    evaluation = replace(evaluation, config=config)
    console = Console()
    console.print(instance_table(evaluation, {i: m.name for i, m in dataset.models.items()}))
    console.print(summary_table(evaluation))
    if args.json:
        write_json(args.json, evaluation.to_json())
