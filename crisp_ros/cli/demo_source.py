"""The input of `crisp demo`: a recording, or the images of a data set."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from crisp_ros.cli.options import OptionError, count, number
from crisp_ros.data.bag_topics import Topics
from crisp_ros.data.bop import BopDataset
from crisp_ros.data.recorded_frame import WORLD_FRAME, DatasetFrames, RecordedFrame
from crisp_ros.data.recording import Recording
from crisp_ros.data.rgbd_messages import InputRules
from crisp_ros.evaluation.metrics import ADD_S_POINTS
from crisp_ros.evaluation.true_shapes import (
    SHAPES_NAME,
    ModelShapes,
    TrueShape,
    load_shapes,
)
from crisp_ros.share import bundled_recording


@dataclass(frozen=True)
class DemoSource:
    """An open recording or data set.

    Attributes:
        name: shown to the reader.
        parameters: of the player node that plays it.
        opened: the frames.
        shapes: the true shapes by name, as far as known.
        bundled: whether it is the recording of the package.
    """

    name: str
    parameters: Mapping[str, Any]
    opened: Recording | DatasetFrames
    shapes: Mapping[str, TrueShape]
    bundled: bool = False

    @property
    def count(self) -> int:
        """Maximum number of frames."""
        return self.opened.count

    @property
    def fixed_frame(self) -> str:
        """The frame in which the objects rest, if the recording contains the camera poses."""
        first = next(self.frames(), None)
        return WORLD_FRAME if first is not None and first.T_world_camera is not None else ""

    def frames(self) -> Iterator[RecordedFrame]:
        """All frames, in the order in which they are played."""
        return self.opened.frames()


def add_frame_options(parser: argparse.ArgumentParser, prefix: str = "") -> None:
    """Add --every and --frames, which `chosen_frames` obeys.

    Args:
        parser: of a command with the options of `add_source_options`.
        prefix: of the help texts.
    """
    parser.add_argument(
        "--every", type=count, default=1, metavar="N", help=f"{prefix}use only every N-th frame"
    )
    parser.add_argument("--frames", type=count, metavar="N", help=f"{prefix}stop after N frames")


def chosen_frames(source: DemoSource, args: argparse.Namespace) -> Iterator[RecordedFrame]:
    """The frames that the options of `add_frame_options` leave."""
    return islice(islice(source.frames(), 0, None, args.every), args.frames)


def add_source_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that name the input; open it by `open_source`."""
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--bag",
        type=Path,
        metavar="PATH",
        help="rosbag2 folder or file to play (default: the bundled recording)",
    )
    source.add_argument(
        "--bop", type=Path, metavar="DIR", help="play the images of a data set in BOP layout"
    )
    parser.add_argument(
        "--topic",
        type=_topic,
        action="append",
        default=[],
        metavar="ROLE=NAME",
        help=f"topic of the bag, for {', '.join(Topics._fields)}; can be repeated (default: the"
        " usual names, otherwise the only topic of its type)",
    )
    parser.add_argument(
        "--raw",
        action="store_true",
        help="the bag's images are not rectified: rectify them with camera_info's K and D",
    )
    parser.add_argument(
        "--depth-unit",
        type=number("metres, more than 0 and up to 1", lambda metres: 0.0 < metres <= 1.0),
        default=0.0,
        metavar="METRES",
        help="length of one step of the bag's depth, such as 0.0001 (default: by the encoding)",
    )


def open_source(args: argparse.Namespace) -> DemoSource:
    """Open the input named by the options, so that errors in it show at once.

    Raises:
        OptionError: options of bags are given for a data set.
        NotInstalledError: no input is named, and the package has no recording.
        RecordingError, DatasetError: the input cannot be read.
    """
    return _bag(args) if args.bop is None else _dataset(args)


def _dataset(args: argparse.Namespace) -> DemoSource:
    of_bags = {"--topic": args.topic, "--raw": args.raw, "--depth-unit": args.depth_unit}
    if given := next((option for option, value in of_bags.items() if value), None):
        raise OptionError(f"{given} is for bags; --bop has none")
    dataset = BopDataset(args.bop)
    shapes = ModelShapes(dataset.models.values(), ADD_S_POINTS)
    parameters = {"bop": str(args.bop.resolve())}
    return DemoSource(str(args.bop), parameters, DatasetFrames(dataset), shapes)


def _bag(args: argparse.Namespace) -> DemoSource:
    path, topics = bundled_recording(args.bag), dict(args.topic)
    recording = Recording(path, topics, InputRules(not args.raw, args.depth_unit))
    parameters: dict[str, Any] = {"recording": str(path.resolve())}
    parameters |= {"rectified": not args.raw, "depth_unit": args.depth_unit}
    parameters |= {f"{role}_topic": name for role, name in topics.items()}
    known = path / SHAPES_NAME
    shapes = load_shapes(known) if known.is_file() else {}
    return DemoSource(path.name, parameters, recording, shapes, bundled=args.bag is None)


def _topic(text: str) -> tuple[str, str]:
    role, _, name = text.partition("=")
    if role not in Topics._fields or not name:
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected ROLE=NAME with a role of {', '.join(Topics._fields)}"
        )
    return role, name
