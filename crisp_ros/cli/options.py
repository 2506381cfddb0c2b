"""Options that several subcommands share."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import torch

from crisp_ros.correction.corrector_settings import CORRECTORS, NODE_CORRECTOR
from crisp_ros.correction.shape_choice import ShapeMode
from crisp_ros.network.checkpoint import Model, load_model, load_prior_model
from crisp_ros.network.precision import PRECISIONS, Precision
from crisp_ros.share import BUNDLED_PRIOR, DEFAULT_CHECKPOINT, checkpoint_path, prior_path

LEFT_OUT = 3  # exit status of a command that made its result without a part of its input


class OptionError(ValueError):
    """Inconsistent options, or options that name something that does not exist."""


def add_checkpoint_option(parser: argparse.ArgumentParser) -> None:
    """Add --checkpoint FILE; resolve it by `checkpoint_path`."""
    parser.add_argument(
        "--checkpoint",
        type=Path,
        metavar="FILE",
        help=f"model file (default: {DEFAULT_CHECKPOINT} of the package)",
    )


def add_prior_checkpoint_option(parser: argparse.ArgumentParser) -> None:
    """Add --prior-checkpoint; resolve it by `crisp_ros.share.prior_path`."""
    parser.add_argument(
        "--prior-checkpoint",
        default="none",
        metavar="FILE",
        help="model file with a prior over shapes, for objects that the library does not explain;"
        f" {BUNDLED_PRIOR}: that of the package (default: none)",
    )


def prior_model(given: str, device: str = "cpu") -> Model | None:
    """Load the model that --prior-checkpoint names; None for none.

    Raises:
        crisp_ros.network.checkpoint.CheckpointError: it is unusable, or has no prior.
    """
    path = prior_path(given)
    return None if path is None else load_prior_model(path, device)


def add_device_option(parser: argparse.ArgumentParser) -> None:
    """Add --device."""
    parser.add_argument(
        "--device", type=device, default="cpu", help="cpu, cuda or cuda:N (default: cpu)"
    )


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add --checkpoint, --device and --seed."""
    add_checkpoint_option(parser)
    add_device_option(parser)
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of all random numbers (default: 0)"
    )


def add_precision_option(parser: argparse.ArgumentParser, default: Precision) -> None:
    """Add --precision, of the network's arithmetic."""
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        default=default,
        help="arithmetic of the network; auto measures what is fastest, float16 needs a GPU "
        f"(default: {default})",
    )


def add_corrector_option(
    parser: argparse.ArgumentParser,
    default: str | None = NODE_CORRECTOR,
    meaning: str = NODE_CORRECTOR,
) -> None:
    """Add --corrector, a key of `CORRECTORS`.

    Args:
        parser: of the command.
        default: without the option.
        meaning: of the default, in the help.
    """
    parser.add_argument(
        "--corrector",
        choices=tuple(CORRECTORS),
        default=default,
        help="none, the network's answer as it is; alg1, gradient steps for pose and shape, and"
        " alg2, gradient steps for the pose and least squares for the shape, as in the paper;"
        " second_order, that of the node; with the others all that the paper does not have is off,"
        f" such as refined masks and further conditions of the certificate (default: {meaning})",
    )


def add_shape_option(parser: argparse.ArgumentParser) -> None:
    """Add --shape, the source of the shapes; see `EstimatorSettings.shape_mode`."""
    parser.add_argument(
        "--shape",
        choices=get_args(ShapeMode),
        default="auto",
        help="source of the shapes: library, the known shapes; active, a combination of them;"
        " network, the network's own code; prior, fitted under the model's prior over"
        " shapes; auto, the simplest that explains an object"
        " (default: auto)",
    )


def model_with_library(checkpoint: Path | None, device: str = "cpu") -> Model:
    """Load the given model, or the package's, for a command that needs its shape library.

    Raises:
        OptionError: the model has none.
    """
    path = checkpoint_path(checkpoint)
    model = load_model(path, device)
    if model.library is None:
        raise OptionError(f"{path} has no shape code library; build one with crisp library build")
    return model


def add_frame_set_options(parser: argparse.ArgumentParser) -> None:
    """Add `--bop`, `--bag` and `--split`: frames with true poses and shapes."""
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--bop", type=Path, metavar="DIR", help="a data set in BOP layout")
    source.add_argument(
        "--bag", type=Path, metavar="PATH", help="a rosbag2 recording with true poses and shapes"
    )
    parser.add_argument("--split", default="test", help="split of --bop (default: test)")


def add_json_option(parser: argparse.ArgumentParser) -> None:
    """Add --json FILE."""
    parser.add_argument(
        "--json", type=output_file, metavar="FILE", help="also write the figures to this file"
    )


def add_models_option(parser: argparse.ArgumentParser) -> None:
    """Add --models DIR, the objects in the BOP layout."""
    parser.add_argument(
        "--models",
        type=Path,
        required=True,
        metavar="DIR",
        help="object models in BOP layout: models_info.json and obj_NNNNNN.ply",
    )


def add_observed_poses_option(parser: argparse.ArgumentParser) -> None:
    """Add --observed-poses NPZ; see `crisp_ros.synthesis.scenes.load_observed_poses`."""
    parser.add_argument(
        "--observed-poses",
        type=Path,
        metavar="NPZ",
        help="poses observed in real scenes, from which to sample likely viewpoints",
    )


def add_cluster_option(parser: argparse.ArgumentParser) -> None:
    """Add --cluster ADDRESS; open it by `crisp_ros.cluster.mapping`."""
    parser.add_argument(
        "--cluster",
        metavar="ADDRESS",
        help="distribute the work over a Dask cluster: local:N processes on this machine, or the"
        " address of a scheduler such as tcp://host:8786",
    )


def device(text: str) -> str:
    """Check that a device exists."""
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
    """Check that it is a whole number from 1 on."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number from 1 on")
    return int(text)


def number(expected: str, accepts: Callable[[float], bool]) -> Callable[[str], float]:
    """Return a parser of numbers that meet a condition.

    Args:
        expected: the condition in words, for the message about other texts.
        accepts: the condition, false for NaN.
    """

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not accepts(value):
            raise argparse.ArgumentTypeError(f"{text!r}: expected {expected}")
        return value

    return parse


def output_file(text: str) -> Path:
    """Check, before the long work, that a file can be written at a path."""
    path = Path(text)
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{text} is a folder; expected a file to write")
    return path
