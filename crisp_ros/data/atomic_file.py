"""Files that appear whole or not at all."""

from __future__ import annotations

import glob
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write, which takes its place at the end of the context.

    A kill or a power cut at any moment leaves the old file or the new one; an error in the context
    leaves the old one and no other file.

    Raises:
        OSError: the file cannot be written.
    """
    _remove_left_over(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(6)}.tmp")
    try:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    # The rename itself is only safe from a power cut once the folder is on the disk.
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def write_atomically(path: Path, contents: bytes | str) -> None:
    """Write a file as `atomic_file` does, text in UTF-8.

    Raises:
        OSError: the file cannot be written.
    """
    with atomic_file(path) as file:
        file.write(contents.encode() if isinstance(contents, str) else contents)


def write_json(path: str | Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file as `atomic_file` does, and the folders above it where they are missing.

    Raises:
        OSError: the file cannot be written.
        ValueError: a value has no JSON form, such as infinity.
    """
    path = Path(path)
    text = json.dumps(content, indent=1, allow_nan=False) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, text)


def _remove_left_over(path: Path) -> None:
    """Remove unfinished files of killed processes of this machine next to a file."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*-*.tmp"):
        writer = left.name.removeprefix(f".{path.name}.").split("-")[0]
        if writer.isdecimal() and not Path(f"/proc/{writer}").exists():
            left.unlink(missing_ok=True)
