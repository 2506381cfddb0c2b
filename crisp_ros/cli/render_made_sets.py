"""Kinds of `crisp render` that make whole data sets of objects that no data set has."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from crisp_ros.cli.options import OptionError, add_cluster_option, count
from crisp_ros.cluster import mapping
from crisp_ros.progress import progress


def add_made_sets(kinds: argparse._SubParsersAction) -> None:
    """Add `nocs` and `spe3r`; each sets `make`."""
    nocs = kinds.add_parser(
        "nocs", help="six categories on tables, unseen instances in the test, in the NOCS layout"
    )
    _add_common(nocs)
    nocs.add_argument(
        "--instances", type=count, default=6, help="of each category for training (default: 6)"
    )
    nocs.add_argument(
        "--test-instances", type=count, default=3, help="of each category, others (default: 3)"
    )
    nocs.add_argument("--scenes", type=count, default=12, help="tables for training (default: 12)")
    nocs.add_argument(
        "--test-scenes", type=count, default=6, help="tables of the test (default: 6)"
    )
    nocs.add_argument("--views", type=count, default=3, help="images per table (default: 3)")
    nocs.set_defaults(make=_nocs)

    spe3r = kinds.add_parser(
        "spe3r", help="procedural spacecraft, unseen ones in the test, in the SPE3R layout"
    )
    _add_common(spe3r)
    spe3r.add_argument("--satellites", type=count, default=20, help="for training (default: 20)")
    spe3r.add_argument(
        "--test-satellites", type=count, default=5, help="of the test, others (default: 5)"
    )
    spe3r.add_argument("--images", type=count, default=20, help="of each satellite (default: 20)")
    spe3r.set_defaults(make=_spe3r)


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--output", type=Path, required=True, metavar="DIR", help="new folder to write"
    )
    parser.add_argument(
        "--seed", type=count_or_zero, default=0, help="seed of all random choices (default: 0)"
    )
    add_cluster_option(parser)


def count_or_zero(text: str) -> int:
    """A whole number from 0 on, as an option's type."""
    return 0 if text == "0" else count(text)


def _check_new(folder: Path) -> None:
    if folder.exists() and any(folder.iterdir()):
        raise OptionError(f"{folder} is not empty; choose another folder")


def _nocs(args: argparse.Namespace) -> None:
    from crisp_ros.synthesis.category_set import (  # needs manifold3d
        CategorySetSettings,
        write_category_set,
    )

    _check_new(args.output)
    settings = CategorySetSettings(
        args.instances, args.test_instances, args.scenes, args.test_scenes, args.views
    )
    with mapping(args.cluster) as mapped, progress("tables") as on_scene:
        write_category_set(args.output, settings, args.seed, on_scene, mapped)
    images = args.views * (args.scenes + args.test_scenes)
    Console().print(f"{args.output}: {images} images", highlight=False, soft_wrap=True)


def _spe3r(args: argparse.Namespace) -> None:
    from crisp_ros.synthesis.spacecraft_set import (  # needs manifold3d
        SpacecraftSetSettings,
        write_spacecraft_set,
    )

    _check_new(args.output)
    settings = SpacecraftSetSettings(args.satellites, args.test_satellites, args.images)
    with mapping(args.cluster) as mapped, progress("satellites") as on_satellite:
        write_spacecraft_set(args.output, settings, args.seed, on_satellite, mapped)
    images = args.images * (args.satellites + args.test_satellites)
    Console().print(f"{args.output}: {images} images", highlight=False, soft_wrap=True)
