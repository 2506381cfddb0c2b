"""Damage to files of a data set, for tests of the errors of its reader."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

Damage = Callable[[Path], object]


def edit(path: str, change: Callable[[Any], object]) -> Damage:
    """Change the content of a JSON file."""

    def apply(folder: Path) -> None:
        content = json.loads((folder / path).read_text())
        change(content)
        (folder / path).write_text(json.dumps(content))

    return apply


def remove(path: str) -> Damage:
    """Remove a file or a folder."""

    def apply(folder: Path) -> None:
        (shutil.rmtree if (folder / path).is_dir() else Path.unlink)(folder / path)

    return apply


def paint(path: str, image: np.ndarray) -> Damage:
    """Replace a file by an image."""
    return lambda folder: cv2.imwrite(str(folder / path), image)


def write(path: str, text: str) -> Damage:
    """Replace a file by a text."""
    return lambda folder: (folder / path).write_text(text)


def cut(path: str) -> Damage:
    """Truncate a file to its first third, like a full disk or a lost connection."""

    def apply(folder: Path) -> None:
        data = (folder / path).read_bytes()
        (folder / path).write_bytes(data[: len(data) // 3])

    return apply
