"""`crisp view`: the frames of a recording with their reconstructed objects, in 3D."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.console import Console

from crisp_ros.cli.demo_source import (
    add_frame_options,
    add_source_options,
    chosen_frames,
    open_source,
)
from crisp_ros.cli.options import add_checkpoint_option, add_device_option
from crisp_ros.network.checkpoint import load_model
from crisp_ros.observation.frame import Frame
from crisp_ros.pipeline import Estimator
from crisp_ros.progress import progress
from crisp_ros.reports.scene_view import ViewedFrame, show, write_pictures
from crisp_ros.share import checkpoint_path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_source_options(parser)
    add_frame_options(parser)
    add_png_option(parser)
    add_checkpoint_option(parser)
    add_device_option(parser)


def add_png_option(parser: argparse.ArgumentParser) -> None:
    """Add --png, the folder of pictures in place of a window."""
    parser.add_argument(
        "--png", type=Path, metavar="DIR", help="write a picture of each frame, without a screen"
    )


def run(args: argparse.Namespace) -> None:
    source = open_source(args)
    estimator = Estimator(
        load_model(checkpoint_path(args.checkpoint), args.device), device=args.device
    )

    def viewed() -> Iterator[ViewedFrame]:
        for number, images in enumerate(chosen_frames(source, args)):
            frame = Frame.from_recorded(images)
            title = f"{source.name}, frame {number * args.every}"
            yield estimated_view(title, frame, estimator)

    view(viewed(), args.png)


def estimated_view(title: str, frame: Frame, estimator: Estimator) -> ViewedFrame:
    """Estimate the objects of a frame and reconstruct their surfaces."""
    objects = estimator.estimate(frame).objects
    return ViewedFrame(title, frame, objects, estimator.meshes(objects))


def view(frames: Iterator[ViewedFrame], folder: Path | None) -> None:
    """Show frames in a window, or write their pictures to a folder. Raises ViewError."""
    if folder is None:
        show(frames)
        return
    with progress("pictures") as on_picture:
        paths = list(_counted(write_pictures(frames, folder), on_picture))
    Console().print(f"{len(paths)} pictures in {folder}", highlight=False, soft_wrap=True)


def _counted(paths: Iterator[Path], on_picture: Callable[[int, int], None]) -> Iterator[Path]:
    for number, path in enumerate(paths, start=1):
        on_picture(number, number)
        yield path
