"""Reader and writer of the result files of the BOP benchmark: one line per estimate.

    scene_id,im_id,obj_id,score,R,t,time

R: nine numbers row by row; t: millimetres; time: seconds per image, or -1.
"""

from __future__ import annotations

import csv
import io
import math
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from crisp_ros.data.bop import MM
from crisp_ros.data.files import DatasetError, read_text, rigid

_COLUMNS = ("scene_id", "im_id", "obj_id", "score", "R", "t", "time")


class BopResult(NamedTuple):
    """One estimate.

    Attributes:
        scene_id: of the data set.
        image_id: of the scene.
        obj_id: of the model.
        score: higher is better.
        T_camera_object: (4, 4) metres.
        time_s: of the whole image, -1 if unknown.
    """

    scene_id: int
    image_id: int
    obj_id: int
    score: float
    T_camera_object: NDArray[np.float64]
    time_s: float = -1.0


def write_bop_csv(path: Path, results: Iterable[BopResult]) -> None:
    """Write results; every number is read back exactly."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_COLUMNS)
        for r in results:
            R, t = r.T_camera_object[:3, :3], r.T_camera_object[:3, 3] / MM
            writer.writerow(
                (r.scene_id, r.image_id, r.obj_id, float(r.score), _text(R), _text(t), r.time_s)
            )


def read_bop_csv(path: Path) -> list[BopResult]:
    """Read results.

    Raises:
        DatasetError: missing or malformed; names the line.
    """
    rows = csv.reader(io.StringIO(read_text(path)))
    if next(rows, None) != list(_COLUMNS):
        raise DatasetError(f"{path}: expected a first line {','.join(_COLUMNS)}")
    return [_result(row, f"{path}: line {n}") for n, row in enumerate(rows, start=2) if row]


def _result(row: list[str], where: str) -> BopResult:
    try:
        scene_id, image_id, obj_id = (int(field) for field in row[:3])
        score, time_s = float(row[3]), float(row[6])
        T_camera_object = np.eye(4)
        T_camera_object[:3, :3] = np.array([float(x) for x in row[4].split()]).reshape(3, 3)
        T_camera_object[:3, 3] = [float(x) * MM for x in row[5].split()]
        whole = len(row) == len(_COLUMNS) and len(row[5].split()) == 3
    except (ValueError, IndexError):
        whole = False
    if not whole or not (np.isfinite(T_camera_object).all() and np.isfinite([score, time_s]).all()):
        raise DatasetError(
            f"{where}: expected three ids, a score, nine numbers of R, three of t and a time"
        )
    return BopResult(scene_id, image_id, obj_id, score, rigid(T_camera_object, where), time_s)


def _text(values: NDArray[np.float64]) -> str:
    return " ".join(repr(float(value)) for value in values.ravel())


def median_image_time_s(results: Iterable[BopResult]) -> float:
    """Median over the images of the time of all their estimates, seconds; NaN without results."""
    times = {(r.scene_id, r.image_id): r.time_s for r in results}
    return statistics.median(times.values()) if times else math.nan


def median_score(results: Iterable[BopResult]) -> float:
    """Median score of the estimates, of a registration its fitness; NaN without results."""
    scores = [r.score for r in results]
    return statistics.median(scores) if scores else math.nan
