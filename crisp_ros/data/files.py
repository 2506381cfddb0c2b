"""Checked reading of the files of data sets: what is wrong is said with the file's path."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

_EXIF_ORIENTATION = 0x0112
_IMAGE_TYPES = (".png", ".jpg", ".jpeg", ".tif")


class DatasetError(ValueError):
    """A data set that does not follow its layout; names the file and what was expected there."""


class MeshError(ValueError):
    """A mesh that cannot be read or used; the message says which and why."""


def read_text(path: Path) -> str:
    """Read a text file. Raises DatasetError."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise DatasetError(f"{path}: no such file; the layout of the data set has one") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path}: not readable as text ({error})") from error


def read_json(path: Path, kind: type) -> Any:
    """Read a JSON file whose top level is a `kind`. Raises DatasetError."""
    raw = read_text(path)
    try:
        content = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{path}: not readable as JSON ({error})") from error
    if not isinstance(content, kind):
        raise DatasetError(f"{path}: expected a JSON {kind.__name__}")
    return content


def array(
    entry: Any, key: str | int, shape: tuple[int, ...], where: str | Path
) -> NDArray[np.float64]:
    """The finite numbers `entry[key]` in a shape. Raises DatasetError that begins with `where`."""
    try:
        values = np.asarray(entry[key], dtype=np.float64).reshape(shape)
    except (KeyError, IndexError, TypeError, ValueError, OverflowError):
        values = None
    if values is None or not np.isfinite(values).all():
        count = f"{int(np.prod(shape))} " if -1 not in shape else ""
        raise DatasetError(f"{where}: {key}: expected {count}finite numbers")
    return values


def number(entry: Any, key: str | int, where: str | Path) -> float:
    """The finite number `entry[key]`. Raises DatasetError."""
    return float(array(entry, key, (), where))


def integer(entry: Any, key: str | int, where: str | Path) -> int:
    """The whole number `entry[key]`. Raises DatasetError."""
    value = number(entry, key, where)
    if value != int(value):
        raise DatasetError(f"{where}: {key}: expected a whole number, got {value:g}")
    return int(value)


def spelled_number(word: str) -> int | None:
    """The whole number from 0 on that a key or a file name spells; None where it spells none."""
    return int(word) if re.fullmatch("[0-9]{1,18}", word) else None


def text(entry: Any, key: str, default: str, where: str | Path) -> str:
    """The text `entry[key]`, the default where it is absent. Raises DatasetError."""
    value = entry.get(key, default) if isinstance(entry, dict) else None
    if not isinstance(value, str):
        raise DatasetError(f"{where}: {key}: expected a text")
    return value


def rigid(motions: NDArray[np.float64], where: str) -> NDArray[np.float64]:
    """Motions (..., 4, 4) with exactly orthonormal rotations; files round theirs.

    Raises:
        DatasetError: one is no rotation.
    """
    rotations = motions[..., :3, :3]
    u, _, vt = np.linalg.svd(rotations)
    u[..., 2] *= np.linalg.det(u @ vt)[..., None]
    nearest = u @ vt
    off = np.abs(nearest - rotations).max(axis=(-2, -1), initial=0.0)
    if (off > 1e-2).any():
        first = rotations[off > 1e-2][0]
        raise DatasetError(f"{where}: expected a rotation matrix, got {first.tolist()}")
    exact = motions.copy()
    exact[..., :3, :3] = nearest
    return exact


def find_image(stem: Path) -> Path:
    """The image of this path without its ending. Raises DatasetError."""
    for suffix in _IMAGE_TYPES:
        path = stem.with_name(stem.name + suffix)
        if path.is_file():
            return path
    raise DatasetError(f"{stem}: no image of this name, tried {', '.join(_IMAGE_TYPES)}")


def read_image(path: Path, mode: int, size: tuple[int, int] | None = None) -> NDArray[Any]:
    """Read an image by OpenCV, its pixels as they are stored.

    An orientation in the file's EXIF data is ignored: annotations, depth and masks of data sets
    refer to stored pixels, and only some of the files would carry one. See `exif_orientation`.

    Args:
        mode: cv2.IMREAD_...
        size: height and width that it must have, those of the colour image.

    Raises:
        DatasetError: missing, not readable, or of another size.
    """
    # IMREAD_UNCHANGED, a negative number, ignores orientations already.
    stored = mode if mode < 0 else mode | cv2.IMREAD_IGNORE_ORIENTATION
    image = cv2.imread(str(path), stored) if path.is_file() else None
    if image is None:
        raise DatasetError(f"{path}: expected an image, but it is missing or not readable")
    if size is not None and image.shape[:2] != size:
        raise DatasetError(
            f"{path}: {image.shape[1]} x {image.shape[0]} pixels,"
            f" but the colour image has {size[1]} x {size[0]}"
        )
    return image


def exif_orientation(path: Path) -> int:
    """The orientation from 1 (upright) to 8 that an image's EXIF data states; 1 where none does."""
    from PIL import Image, UnidentifiedImageError  # only the check of a data set needs it

    try:
        with Image.open(path) as image:
            return int(image.getexif().get(_EXIF_ORIENTATION, 1))
    except (OSError, UnidentifiedImageError, ValueError, TypeError, SyntaxError):
        return 1


def read_rgb(path: Path) -> NDArray[np.uint8]:
    """Read a colour or grey image as (H, W, 3) uint8 RGB. Raises DatasetError."""
    return cv2.cvtColor(read_image(path, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def read_uint16(path: Path, size: tuple[int, int], channels: int = 1) -> NDArray[np.uint16]:
    """Read (H, W), or (H, W, channels) in RGB order, of 16 bits. Raises DatasetError."""
    image = read_image(path, cv2.IMREAD_UNCHANGED, size)
    if image.dtype != np.uint16 or (1 if image.ndim == 2 else image.shape[2]) != channels:
        named = "one channel" if channels == 1 else f"{channels} channels"
        got = f"{1 if image.ndim == 2 else image.shape[2]} of {image.dtype}"
        raise DatasetError(f"{path}: expected {named} of 16 bits, got {got}")
    return image if channels == 1 else cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
