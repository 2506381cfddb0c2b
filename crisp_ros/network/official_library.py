"""The separately published library files of the authors' code."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from crisp_ros.data.files import DatasetError
from crisp_ros.data.plain_pickle import read_plain_pickle
from crisp_ros.data.plain_yaml import parse_yaml

_MOST_BYTES = 16 * 1024**2
_SCALE = "recons_s_blender"  # normalised coordinates are this factor times those in metres


def read_library_codes(path: Path) -> Mapping[str, Any]:
    """Read shape codes by object name from `shape_code_lib.pkl`, without running its code.

    Raises:
        DatasetError: the file is missing, damaged, or not a dictionary of arrays.
    """
    codes = read_plain_pickle(path)
    if not isinstance(codes, Mapping) or not codes:
        raise DatasetError(f"{path}: not a dictionary of shape codes by object name")
    return codes


def read_unit_sizes(path: Path, names: Sequence[str]) -> dict[str, float]:
    """Read the metres per unit of normalised shapes from `objects_info.yaml`.

    Args:
        path: of the file.
        names: of the shapes.

    Raises:
        DatasetError: the file is missing or no YAML, or a shape has no positive scale in it.
    """
    objects = _read_yaml(path)
    if not isinstance(objects, Mapping):
        raise DatasetError(f"{path}: not a dictionary of objects by name")
    objects = {str(name): entry for name, entry in objects.items()}
    sizes = {}
    for name in names:
        entry = objects.get(name)
        scale = entry.get(_SCALE) if isinstance(entry, Mapping) else None
        if isinstance(scale, bool) or not isinstance(scale, (int, float)):
            raise DatasetError(f"{path}: no {_SCALE} of {name}")
        if not (math.isfinite(scale) and scale > 0):
            raise DatasetError(f"{path}: {_SCALE} of {name} is {scale}, expected above 0")
        sizes[name] = 1.0 / scale
    return sizes


def _read_yaml(path: Path) -> Any:
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise DatasetError(f"{path}: larger than {_MOST_BYTES} bytes")
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path}: not readable ({error})") from error
    try:
        return parse_yaml(text)
    except ValueError as error:
        raise DatasetError(f"{path}: not YAML ({error})") from error
