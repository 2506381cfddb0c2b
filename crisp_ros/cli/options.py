"""Options and output that several subcommands share."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from crisp_ros.share import DEFAULT_CHECKPOINT, share_directory


class OptionError(ValueError):
    """Options that do not fit together or name something that is not there."""


def add_checkpoint_option(parser: argparse.ArgumentParser) -> None:
    """Adds --checkpoint FILE; resolve it by `checkpoint_path`."""
    parser.add_argument(
        "--checkpoint",
        type=Path,
        metavar="FILE",
        help=f"model file (default: {DEFAULT_CHECKPOINT} of the package)",
    )


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Adds --checkpoint, --device and --seed."""
    add_checkpoint_option(parser)
    parser.add_argument(
        "--device", type=device, default="cpu", help="cpu, cuda or cuda:N (default: cpu)"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="of everything drawn at random (default: 0)"
    )


def add_json_option(parser: argparse.ArgumentParser) -> None:
    """Adds --json FILE."""
    parser.add_argument(
        "--json", type=output_file, metavar="FILE", help="also write the figures to this file"
    )


def add_models_option(parser: argparse.ArgumentParser) -> None:
    """Adds --models DIR, the objects in the BOP layout."""
    parser.add_argument(
        "--models",
        type=Path,
        required=True,
        metavar="DIR",
        help="object models in the BOP layout: models_info.json and obj_NNNNNN.ply",
    )


def add_observed_poses_option(parser: argparse.ArgumentParser) -> None:
    """Adds --observed-poses NPZ; see `crisp_ros.synthesis.scenes.load_observed_poses`."""
    parser.add_argument(
        "--observed-poses",
        type=Path,
        metavar="NPZ",
        help="poses seen in real scenes, to draw likely viewpoints from",
    )


def add_cluster_option(parser: argparse.ArgumentParser) -> None:
    """Adds --cluster ADDRESS; open it by `crisp_ros.cluster.mapping`."""
    parser.add_argument(
        "--cluster",
        metavar="ADDRESS",
        help="share the work among a Dask cluster: local:N processes here, or a scheduler's address"
        " such as tcp://host:8786",
    )


def device(text: str) -> str:
    """Checks that a device exists."""
    try:
        wanted = torch.device(text)
    except RuntimeError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a device; expected cpu or cuda"
        ) from None
    if wanted.type == "cuda" and (wanted.index or 0) >= torch.cuda.device_count():
        raise argparse.ArgumentTypeError(
            f"no device {text}; this machine has {torch.cuda.device_count()} CUDA devices"
        )
    return text


def count(text: str) -> int:
    """Checks that it is a whole number from 1 on."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number from 1 on")
    return int(text)


def output_file(text: str) -> Path:
    """Checks, before the long work, that a file can be written at a path."""
    path = Path(text)
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{text} is a folder; expected a file to write")
    return path


def checkpoint_path(given: Path | None) -> Path:
    """The given model file, or the one that comes with the package.

    Raises:
        OptionError: none was given and none came with the package.
    """
    if given is not None:
        return given
    try:
        path = share_directory() / DEFAULT_CHECKPOINT
    except FileNotFoundError as error:
        raise OptionError(f"{error}; or name a model file by --checkpoint") from error
    if not path.is_file():
        raise OptionError(
            f"{path} did not come with this installation; name a model file by --checkpoint"
        )
    return path


@contextmanager
def progress(description: str) -> Iterator[Callable[[int, int], None]]:
    """Shows progress on stderr: a bar on a terminal, a line every tenth of the work elsewhere.

    Yields a function to call with the count done and the total.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda done, total: _tenths(console, description, done, total)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(description, total=None)
        try:
            yield lambda done, total: bar.update(task, completed=done, total=total)
        except BaseException:
            bar.live.transient = True  # what remains on the screen is the error alone
            raise


def _tenths(console: Console, description: str, done: int, total: int) -> None:
    if 10 * done // total > 10 * (done - 1) // total:
        console.print(f"{description}: {done}/{total}", highlight=False)
