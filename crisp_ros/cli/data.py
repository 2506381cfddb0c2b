"""`crisp data`: the health of data sets, and what is made of them."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from crisp_ros.cli.options import (
    OptionError,
    add_cluster_option,
    add_json_option,
    count,
    number,
)
from crisp_ros.cluster import mapping
from crisp_ros.data.atomic_file import write_json
from crisp_ros.data.bop import BopDataset
from crisp_ros.data.files import DatasetError
from crisp_ros.data.health import check_dataset
from crisp_ros.data.recorded_frame import depth_in_millimetres, scene_frames
from crisp_ros.data.recording_writer import write_recording
from crisp_ros.data.spe3r import Spe3rDataset
from crisp_ros.progress import progress

_SHOWN = 20  # problems on a terminal; all are in the JSON file


def add_arguments(parser: argparse.ArgumentParser) -> None:
    tasks = parser.add_subparsers(dest="task", metavar="TASK", required=True)
    check = tasks.add_parser("check", help="check the content of a folder and list all problems")
    check.add_argument("folder", type=Path, metavar="DIR", help="BOP, SPE3R or NOCS")
    check.add_argument(
        "--every", type=count, default=1, metavar="N", help="read only every N-th image"
    )
    add_json_option(check)
    check.set_defaults(perform=_check)

    bag = tasks.add_parser("to-bag", help="convert a scene in BOP layout to a rosbag2")
    bag.add_argument("folder", type=Path, metavar="DIR", help="folder with models/ and the split")
    bag.add_argument("--split", default="test", help="folder of the scenes (default: test)")
    bag.add_argument("--scene", type=int, required=True, metavar="N", help="number of the scene")
    bag.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="bag to write")
    rate = number("images a second, 0.01 to 1000", lambda rate: 0.01 <= rate <= 1000.0)
    bag.add_argument("--rate", type=rate, default=1.0, metavar="HZ", help="images per second (1)")
    bag.set_defaults(perform=_to_bag)

    maps = tasks.add_parser("maps", help="render the depth and coordinate maps that SPE3R lacks")
    maps.add_argument("folder", type=Path, metavar="DIR", help="folder with splits.csv")
    maps.set_defaults(perform=_maps)

    procedural = tasks.add_parser(
        "procedural", help="make meshes of household objects that no data set has, in BOP layout"
    )
    procedural.add_argument(
        "--output", type=Path, required=True, metavar="DIR", help="gets models/; must not have it"
    )
    procedural.add_argument("--count", type=count, default=500, help="objects (default: 500)")
    procedural.add_argument("--seed", type=int, default=0, help="of all of them (default: 0)")
    procedural.add_argument(
        "--kinds", nargs="+", default=(), metavar="KIND", help="such as box mug (default: all)"
    )
    add_cluster_option(procedural)
    procedural.set_defaults(perform=_procedural)


def run(args: argparse.Namespace) -> None:
    args.perform(args)


def _check(args: argparse.Namespace) -> None:
    with progress("images") as on_image:
        health = check_dataset(args.folder, args.every, on_image)
    table = Table(title=f"{args.folder}: {health.kind}", box=SIMPLE_HEAD, show_header=False)
    for name, fact in health.facts.items():
        table.add_row(name, fact)
    console = Console()
    console.print(table)
    for problem in health.problems[:_SHOWN]:
        console.print(problem, highlight=False, soft_wrap=True, markup=False)
    if args.json:
        write_json(args.json, health.to_json())
    if health.problems:
        number = len(health.problems)
        raise DatasetError(f"{args.folder}: {number} problem{'s' if number > 1 else ''} found")
    console.print("no problem found")


def _to_bag(args: argparse.Namespace) -> None:
    dataset = BopDataset(args.folder, args.split)
    with progress("frames") as on_frame:
        frames = scene_frames(dataset, args.scene, 1.0 / args.rate, on_frame)
        write_recording(
            args.output, (replace(f, depth=depth_in_millimetres(f.depth)) for f in frames)
        )
    size = sum(file.stat().st_size for file in args.output.iterdir())
    Console().print(f"{args.output}: {size / 1e6:.1f} MB", highlight=False, soft_wrap=True)


def _maps(args: argparse.Namespace) -> None:
    from crisp_ros.synthesis.spe3r_maps import write_maps  # needs the renderer

    with progress("images") as on_image:
        written = write_maps(Spe3rDataset(args.folder, "all"), on_image)
    Console().print(f"{written} images' maps written", highlight=False)


def _procedural(args: argparse.Namespace) -> None:
    from crisp_ros.synthesis.procedural.shapes import (  # needs manifold3d
        KINDS,
        procedural_shapes,
        write_procedural_models,
    )

    unknown = sorted(set(args.kinds) - set(KINDS))
    if unknown:
        raise OptionError(f"no kind {', '.join(unknown)}: choose from {', '.join(KINDS)}")
    if args.seed < 0:
        raise OptionError(f"--seed {args.seed}: expected 0 or more")
    if (args.output / "models").exists():
        raise OptionError(f"{args.output / 'models'} exists already; choose another folder")
    with mapping(args.cluster) as mapped, progress("objects") as on_object:
        shapes = procedural_shapes(args.count, args.seed, args.kinds, mapped)
        write_procedural_models(args.output, shapes, lambda done: on_object(done, args.count))
    summary = f"{args.output}: {args.count} objects"
    Console().print(summary, highlight=False, soft_wrap=True)
