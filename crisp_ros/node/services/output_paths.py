"""Output paths of services: checked before anything is written."""

from __future__ import annotations

import itertools
import os
from pathlib import Path


class OutputPathError(ValueError):
    """A path that cannot be written to; the text says why."""


def output_directory(parameter: str) -> Path:
    """The node's folder for files: that of its parameter, else crisp_ros in ROS's own (~/.ros).

    Raises:
        OutputPathError: not an absolute path.
    """
    if parameter:
        folder = _expanded(parameter)
        if not folder.is_absolute():
            raise OutputPathError(f"output_directory {parameter!r} is not an absolute path")
        return folder
    return Path(os.environ.get("ROS_HOME") or "~/.ros").expanduser() / "crisp_ros"


def output_file(text: str, base: Path, default: str, suffix: str) -> Path:
    """The file that a caller names; the folders above it are made.

    Args:
        text: path; a relative one lies in `base`, an empty one means `default` there. The suffix
            may be left out.
        base: see `output_directory`.
        default: name of the file where none is given; where it is taken, "_2" or so is added.
        suffix: of the file's name, with its dot.

    Raises:
        OutputPathError: another suffix, a folder, or a relative path that leads out of `base`.
        OSError: the folders cannot be made.
    """
    path = _resolved(text or default, base)
    if path.suffix != suffix:
        if path.suffix and not text.endswith("/"):
            raise OutputPathError(f"{text!r}: expected a name that ends in {suffix}")
        path = path.with_name(path.name + suffix)
    if path.is_dir():
        raise OutputPathError(f"{path} is a folder: name a file")
    path.parent.mkdir(parents=True, exist_ok=True)
    return path if text else _free(path)


def output_folder(text: str, base: Path, default: str) -> Path:
    """The folder that a caller names, made where it does not exist; see `output_file`.

    Raises:
        OutputPathError: a file, or a relative path that leads out of `base`.
        OSError: it cannot be made.
    """
    path = _resolved(text or default, base)
    if path.exists() and not path.is_dir():
        raise OutputPathError(f"{path} is a file: name a folder")
    path = path if text else _free(path)
    path.mkdir(parents=True, exist_ok=True)
    return path


def _expanded(text: str) -> Path:
    if any(ord(character) < 32 for character in text):
        raise OutputPathError(f"{text!r} holds control characters")
    try:
        return Path(text).expanduser()
    except RuntimeError as error:  # ~nobody
        raise OutputPathError(f"{text!r}: {error}") from error


def _free(path: Path) -> Path:
    """The path, or the first with a number from 2 on behind its name that does not exist yet."""
    numbered = (path.with_stem(f"{path.stem}_{number}") for number in itertools.count(2))
    return next(p for p in itertools.chain([path], numbered) if not p.exists())


def _resolved(text: str, base: Path) -> Path:
    path = _expanded(text)
    if path.is_absolute():
        return path
    inside = Path(os.path.normpath(base / path))
    if not inside.is_relative_to(base) or inside == base:
        raise OutputPathError(
            f"{text!r} leads out of {base}: give an absolute path, or one below that folder"
        )
    return inside
