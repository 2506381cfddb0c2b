"""The `crisp` command: finds and runs the subcommand; bad input is a one-line error."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NamedTuple, NoReturn

from crisp_ros import __version__


class Command(NamedTuple):
    """A subcommand: its module offers `add_arguments(parser)` and `run(args)`.

    `run` returns None, or an exit status other than 0.
    """

    module: str
    summary: str


COMMANDS = {
    "ablate": Command("crisp_ros.cli.ablate", "measure what each part of the method contributes"),
    "bench": Command("crisp_ros.cli.bench", "time every stage, next to plain baselines"),
    "data": Command("crisp_ros.cli.data", "check data sets; convert and complete them"),
    "demo": Command(
        "crisp_ros.cli.demo", "play a recording through the node and show its estimates"
    ),
    "doctor": Command(
        "crisp_ros.cli.doctor", "check machine, ROS, model and topics, and how to fix problems"
    ),
    "evaluate": Command("crisp_ros.cli.evaluate", "measure pose and shape errors on a data set"),
    "export": Command(
        "crisp_ros.cli.export",
        "write a model's known shapes, or the points of a recording's objects",
    ),
    "figure": Command("crisp_ros.cli.figure", "draw the method's figures from a model"),
    "import-backbone": Command(
        "crisp_ros.cli.import_backbone", "convert published DINOv2 weights, to train heads on"
    ),
    "import-official": Command(
        "crisp_ros.cli.import_official", "convert a checkpoint of the authors' released code"
    ),
    "library": Command(
        "crisp_ros.cli.library_commands", "check, extend or build a model's shape library"
    ),
    "render": Command("crisp_ros.cli.render", "render synthetic recordings and test sets"),
    "replay": Command("crisp_ros.cli.replay", "repeat the estimate of a dumped frame"),
    "self-train": Command(
        "crisp_ros.cli.self_train", "train a model on its own certified estimates"
    ),
    "train": Command("crisp_ros.cli.train", "train a model from a folder of meshes"),
    "view": Command("crisp_ros.cli.view", "show frames with their reconstructed objects in 3D"),
}


class _Parser(argparse.ArgumentParser):
    """Says what was wrong in one line, where argparse prints the whole usage before it."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `crisp` and return its exit status.

    0; 1 for bad input; 3 where a result was made although a part of the input could not be used;
    130 when interrupted.
    A command line that cannot be read ends the process with status 2.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    chosen = next((a for a in arguments if not a.startswith("-")), "")
    try:
        args = _parser(chosen).parse_args(arguments)
        args.command_line = " ".join(["crisp", *arguments])
        return args.execute(args) or 0
    except KeyboardInterrupt:
        print(f"crisp {chosen}: interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        if not _is_the_users(error):
            raise
        print(f"crisp {chosen}: {_one_line(error)}", file=sys.stderr)
        return 1


def _parser(chosen: str) -> argparse.ArgumentParser:
    """Build the parser; only the chosen subcommand is imported, as torch loads slowly."""
    parser = _Parser(prog="crisp", description="Object pose and shape from RGB-D, certified.")
    parser.add_argument("--version", action="version", version=f"crisp_ros {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, command in COMMANDS.items():
        sentence = f"{command.summary[0].upper()}{command.summary[1:]}."
        subparser = subparsers.add_parser(name, help=command.summary, description=sentence)
        if name == chosen:
            module = import_module(command.module)
            module.add_arguments(subparser)
            subparser.set_defaults(execute=module.run)
    return parser


def _is_the_users(error: Exception) -> bool:
    """Our own error types, the file system's and a missing package; any other is a defect."""
    if isinstance(error, ModuleNotFoundError):
        return not (error.name or "").startswith("crisp_ros")
    return isinstance(error, OSError) or type(error).__module__.split(".")[0] == "crisp_ros"


def _one_line(error: Exception) -> str:
    """Return the error in one line, a file name first."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror[0].lower()}{error.strerror[1:]}"
    return " ".join(str(error).split())
