"""`crisp render`: synthetic recordings, test sets and reference sets of known objects."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from crisp_ros.cli.options import OptionError, add_cluster_option, add_models_option, count
from crisp_ros.cli.render_made_sets import add_made_sets
from crisp_ros.cli.render_scattered import add_kinds, check_new_split, copy_models
from crisp_ros.cluster import mapping
from crisp_ros.data.bop import BopModel, read_models
from crisp_ros.data.bop_models import plain_name
from crisp_ros.data.bop_writer import write_frames
from crisp_ros.data.recording_writer import write_recording
from crisp_ros.evaluation.metrics import ADD_S_POINTS
from crisp_ros.evaluation.true_shapes import SHAPES_NAME, ModelShapes, save_shapes
from crisp_ros.progress import progress
from crisp_ros.synthesis.cycles import CyclesSettings
from crisp_ros.synthesis.rendered_recording import RecordingSettings, table_recording
from crisp_ros.synthesis.renderers import RENDERERS
from crisp_ros.synthesis.table_frames import TableFrameSettings, table_frames


def add_arguments(parser: argparse.ArgumentParser) -> None:
    kinds = parser.add_subparsers(dest="kind", metavar="KIND", required=True)
    recording = kinds.add_parser(
        "recording", help="a rosbag2 recording of a camera that moves around a table with objects"
    )
    add_models_option(recording)
    recording.add_argument(
        "--output",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="rosbag2 folder to write, including the true shapes as objects.npz",
    )
    recording.add_argument(
        "--objects",
        type=_ids,
        default=(1, 2, 3, 4, 5, 12, 14, 15),
        metavar="ID,ID,...",
        help="ids of the models on the table (default: 1,2,3,4,5,12,14,15)",
    )
    recording.add_argument(
        "--frames", type=count, default=40, help="number of frames (default: 40)"
    )
    recording.add_argument(
        "--seed", type=int, default=0, help="seed of all random choices (default: 0)"
    )
    _add_renderer(recording)
    recording.set_defaults(make=_recording)

    tables = kinds.add_parser("tables", help="annotated images of objects on tables, in BOP layout")
    add_models_option(tables)
    tables.add_argument(
        "--output", type=Path, required=True, metavar="DIR", help="data set folder to write"
    )
    tables.add_argument("--split", default="test", help="folder of the scenes (default: test)")
    tables.add_argument("--scenes", type=count, default=8, help="number of tables (default: 8)")
    tables.add_argument("--views", type=count, default=3, help="images per table (default: 3)")
    tables.add_argument("--objects", type=count, default=6, help="objects per table (default: 6)")
    tables.add_argument(
        "--seed", type=int, default=0, help="seed of all random choices (default: 0)"
    )
    _add_renderer(tables)
    add_cluster_option(tables)
    tables.set_defaults(make=_tables)
    add_kinds(kinds)
    add_made_sets(kinds)


def _add_renderer(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--renderer",
        choices=RENDERERS,
        default="fast",
        help="cycles is path-traced and needs crisp_ros[cycles] (default: fast)",
    )
    parser.add_argument(
        "--samples", type=count, default=32, help="paths per pixel with cycles (default: 32)"
    )


def _camera_settings(args: argparse.Namespace) -> RecordingSettings:
    return RecordingSettings(renderer=args.renderer, cycles=CyclesSettings(samples=args.samples))


def run(args: argparse.Namespace) -> None:
    args.make(args)


def _tables(args: argparse.Namespace) -> None:
    models = read_models(args.models)
    check_new_split(args.output, args.split)
    settings = TableFrameSettings(args.scenes, args.views, args.objects, _camera_settings(args))
    meshes = {obj_id: model.mesh for obj_id, model in models.items()}
    with mapping(args.cluster) as mapped, progress("images") as on_frame:
        frames = table_frames(meshes, settings, args.seed, on_frame, mapped)
        write_frames(args.output, frames, args.split)
    copy_models(args.models, args.output)
    summary = f"{args.output}: {args.scenes * args.views} images of {args.scenes} tables"
    Console().print(summary, highlight=False, soft_wrap=True)


def _recording(args: argparse.Namespace) -> None:
    models = read_models(args.models)
    chosen = [_chosen(models, obj_id, args.models) for obj_id in args.objects]
    chosen = [replace(model, name=plain_name(model.name)) for model in chosen]
    settings = replace(_camera_settings(args), frames=args.frames)
    with progress("frames") as on_frame:
        meshes = {model.name: model.mesh for model in chosen}
        frames = table_recording(meshes, settings, args.seed, on_frame)
        write_recording(args.output, frames)
    save_shapes(args.output / SHAPES_NAME, ModelShapes(chosen, ADD_S_POINTS))
    size = sum(file.stat().st_size for file in args.output.iterdir())
    summary = f"{args.output}: {args.frames} frames, {size / 1e6:.1f} MB"
    Console().print(summary, highlight=False, soft_wrap=True)


def _ids(text: str) -> tuple[int, ...]:
    try:
        ids = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: expected ids such as 1,2,5") from None
    if len(set(ids)) != len(ids):
        raise argparse.ArgumentTypeError(f"{text!r}: expected each model once")
    return ids


def _chosen(models: dict[int, BopModel], obj_id: int, folder: Path) -> BopModel:
    if obj_id not in models:
        known = ", ".join(map(str, models))
        raise OptionError(f"{folder}: no model {obj_id}; it has {known}")
    return models[obj_id]
