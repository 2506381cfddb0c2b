"""Tables 13 and 14 on a set whose objects are not all in the library, after self-training.

Half of the library's shapes are removed, so that the network's own code has something to add as a
column of eq. (9), and D has sizes to tell apart. Each row self-trains by the paper's recipe.
"""

from __future__ import annotations

import copy
import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from crisp_ros.adaptation.recipes import RECIPES
from crisp_ros.adaptation.recorded_self_training import RecordedSelfTraining, SequenceFrame
from crisp_ros.correction.corrector_settings import CORRECTORS, CorrectorSettings
from crisp_ros.data.recorded_frame import RecordedFrame
from crisp_ros.evaluation.metrics import auc
from crisp_ros.evaluation.self_training_comparison import Results, measure
from crisp_ros.network.checkpoint import Model
from crisp_ros.network.library import ShapeLibrary
from crisp_ros.pipeline import Estimator
from crisp_ros.studies.self_training_run import FrameSet
from crisp_ros.studies.study_error import StudyError

SHAPE_M = (0.03, 0.05, 0.10)
"""Ends of the e_shape curves of Tables 13 and 14, metres."""
_ADD_S_M = 0.02


def _with(own_code: bool, diameters: bool) -> CorrectorSettings:
    """Algorithm 2 over the whole simplex."""
    settings = CORRECTORS["alg2"]
    active = replace(
        settings.active_shape, one_hot=False, own_code=own_code, diameter_weights=diameters
    )
    return replace(settings, active_shape=active)


ROWS = {
    "with h and D": _with(True, True),
    "without h (Table 13)": _with(False, True),
    "without D (Table 14)": _with(True, False),
}


@dataclass(frozen=True)
class LibraryAblationSettings:
    """Settings of `library_ablation`.

    Attributes:
        frames: of the set, from the first on.
        passes: of self-training.
        kept_every: every so many-th of the shapes stays in the library.
        seed: of the sampling of points.
    """

    frames: int = 10
    passes: int = 1
    kept_every: int = 2
    seed: int = 0


class Measured(NamedTuple):
    """Results of a row, of all objects or of those outside the library.

    Attributes:
        objects: number.
        certified: share.
        auc_shape: e_shape AUC by `SHAPE_M`.
        auc_add_s: ADD-S AUC to 2 cm.
    """

    objects: int
    certified: float
    auc_shape: dict[str, float]
    auc_add_s: float

    @classmethod
    def of(cls, results: Results, names: set[str] | None = None) -> Measured:
        """Summarise the results of some objects by name, of all where None."""
        some = [o for o in results.objects if names is None or _plain(o.name) in names]
        if not some:
            raise StudyError("the frames show no object outside the reduced library")
        chamfer = [o.chamfer_m for o in some]
        return cls(
            len(some),
            sum(o.certified for o in some) / len(some),
            {f"{round(100 * end)}cm": auc(chamfer, end) for end in SHAPE_M},
            auc([o.add_s_m for o in some], _ADD_S_M),
        )


def library_ablation(
    model: Model,
    frames: FrameSet,
    folder: Path,
    settings: LibraryAblationSettings | None = None,
    on_row: Callable[[str, dict[str, Any]], None] = lambda name, row: None,
) -> dict[str, Any]:
    """Self-train and measure with and without the network's code and D; JSON values.

    Args:
        model: with a library.
        frames: with true poses and shapes.
        folder: for the states of the self-trainings.
        settings: see `LibraryAblationSettings`.
        on_row: called with each finished row.

    Raises:
        StudyError: the frames show no object outside the reduced library.
    """
    settings = settings or LibraryAblationSettings()
    kept = model.library.names[:: settings.kept_every]
    removed = {_plain(name) for name in set(model.library.names) - set(kept)}
    reduced = replace(model, library=_reduced(model.library, kept))
    rows = {}
    for number, (name, corrector) in enumerate(ROWS.items()):
        estimating = replace(RECIPES["ycbv"].estimator_settings(settings.seed), corrector=corrector)

        def shown() -> Iterator[RecordedFrame]:
            return itertools.islice(frames.frames(), settings.frames)

        def sequences() -> Iterator[SequenceFrame]:
            return itertools.islice(frames.sequences(), settings.frames)

        before = measure(Estimator(reduced, estimating), shown(), frames.shapes)
        training = RecordedSelfTraining(
            _copied(reduced), None, RECIPES["ycbv"].learner, estimating, folder / str(number)
        )
        count = min(settings.frames, frames.count)
        training.run(sequences, count, settings.passes)
        learned = training.model()
        after = measure(Estimator(learned, estimating), shown(), frames.shapes)
        rows[name] = {
            "steps": learned.header["self_training"]["steps"],
            **{
                f"{when}_{which}": Measured.of(results, names)._asdict()
                for when, results in (("before", before), ("after", after))
                for which, names in (("all", None), ("outside", removed))
            },
        }
        on_row(name, rows[name])
    return {
        "frames": frames.name,
        "frame_count": min(settings.frames, frames.count),
        "passes": settings.passes,
        "library": list(kept),
        "removed": sorted(removed),
        "rows": rows,
    }


def _plain(name: str) -> str:
    """A name without the number that YCB objects have in some data sets."""
    return re.sub(r"^\d+_", "", name)


def _copied(model: Model) -> Model:
    """A model whose network may change."""

    return replace(model, network=copy.deepcopy(model.network))


def _reduced(library: ShapeLibrary, names: tuple[str, ...]) -> ShapeLibrary:
    rows = [library.names.index(name) for name in names]
    index = torch.tensor(rows)
    return ShapeLibrary(
        names,
        library.codes[index],
        library.lower[index],
        library.upper[index],
        tuple(library.symmetries[row] for row in rows),
        tuple(library.colors[row] for row in rows),
    )
