"""Output paths of services, checked before anything is written."""

from __future__ import annotations

import itertools
import os
from pathlib import Path


class OutputPathError(ValueError):
    """Path that cannot be written to; the text gives the cause."""


def output_directory(parameter: str) -> Path:
    """Get the node's output folder: that of its parameter, or by default ~/.ros/crisp_ros.

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
    """Get the file that a caller names, and create its parent folders.

    Args:
        text: path, with or without suffix; relative to `base`; empty for `default`.
        base: see `output_directory`.
        default: name of the file without `text`; "_2" and so on is appended if it exists.
        suffix: of the file's name, with its dot.

    Raises:
        OutputPathError: another suffix, a folder, or a relative path that leads out of `base`.
        OSError: the folders cannot be created.
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
    """Get the folder that a caller names, and create it if needed; see `output_file`.

    Raises:
        OutputPathError: a file, or a relative path that leads out of `base`.
        OSError: it cannot be created.
    """
    path = _resolved(text or default, base)
    if path.exists() and not path.is_dir():
        raise OutputPathError(f"{path} is a file: name a folder")
    path = path if text else _free(path)
    path.mkdir(parents=True, exist_ok=True)
    return path


def _expanded(text: str) -> Path:
    if any(ord(character) < 32 for character in text):
        raise OutputPathError(f"{text!r} contains control characters")
    try:
        return Path(text).expanduser()
    except RuntimeError as error:  # ~nobody
        raise OutputPathError(f"{text!r}: {error}") from error


def _free(path: Path) -> Path:
    """Append the first number from 2 on to the name of a path that exists."""
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
