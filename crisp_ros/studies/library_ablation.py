"""Tables 13 and 14 on a set whose objects are not all in the library, after self-training.

Half of the library's shapes are removed, so that the network's own code has something to add as a
column of eq. (9), and D has sizes to tell apart. Each row self-trains by the paper's recipe.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from crisp_ros.adaptation.recipes import RECIPES
from crisp_ros.adaptation.recorded_self_training import RecordedSelfTraining, SequenceFrame
from crisp_ros.correction.corrector_settings import CORRECTORS, CorrectorSettings
from crisp_ros.data.bop_models import plain_name
from crisp_ros.evaluation.metrics import auc
from crisp_ros.evaluation.self_training_comparison import Results, measure
from crisp_ros.network.checkpoint import Model
from crisp_ros.pipeline import Estimator
from crisp_ros.progress import progress
from crisp_ros.studies.resumable_parts import KeptParts, fingerprint
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
        points: depth points of an object. Gradient steps on all of them take nearly the whole
            time: 1000 points of eight objects 9 seconds of a core.
        seed: of the sampling of points.
    """

    frames: int = 10
    passes: int = 1
    kept_every: int = 2
    points: int = 256
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
        some = [o for o in results.objects if names is None or plain_name(o.name) in names]
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
        folder: for the states of the self-trainings and the finished rows; an interrupted run
            continues.
        settings: see `LibraryAblationSettings`.
        on_row: called with each finished row.

    Raises:
        StudyError: the frames show no object outside the reduced library.
    """
    settings = settings or LibraryAblationSettings()
    names = model.library.names[:: settings.kept_every]
    removed = {plain_name(name) for name in set(model.library.names) - set(names)}
    reduced = replace(model, library=model.library.subset(names))
    kept = KeptParts(folder, settings)
    rows = {}
    for name, corrector in ROWS.items():
        key = fingerprint(corrector, settings, reduced.header["sha256"], frames.place)

        def row(corrector: CorrectorSettings = corrector, key: str = key) -> dict[str, Any]:
            return _measured_row(reduced, corrector, frames, folder / key, settings)

        measured = kept.part(key, row)
        results = {when: Results.from_rows(measured[when]) for when in ("before", "after")}
        rows[name] = {
            "steps": measured["steps"],
            **{
                f"{when}_{which}": Measured.of(results[when], outside)._asdict()
                for when in results
                for which, outside in (("all", None), ("outside", removed))
            },
        }
        on_row(name, rows[name])
    return {
        "frames": frames.name,
        "frame_count": min(settings.frames, frames.count),
        "passes": settings.passes,
        "points": settings.points,
        "library": list(names),
        "removed": sorted(removed),
        "rows": rows,
    }


def _measured_row(
    model: Model,
    corrector: CorrectorSettings,
    frames: FrameSet,
    folder: Path,
    settings: LibraryAblationSettings,
) -> dict[str, Any]:
    """Results before and after a self-training with a corrector, and its steps; JSON values."""
    estimating = RECIPES["ycbv"].estimator_settings(settings.seed)
    observing = replace(estimating.observation, points=settings.points)
    estimating = replace(estimating, corrector=corrector, observation=observing)
    count = min(settings.frames, frames.count)

    def results(model: Model, when: str) -> Any:
        shown = itertools.islice(frames.frames(), count)
        with progress(f"measuring {when}") as on_frame:
            found = measure(
                Estimator(model, estimating), shown, frames.shapes, lambda n: on_frame(n, count)
            )
        return found.to_rows()

    def sequences() -> Iterator[SequenceFrame]:
        return itertools.islice(frames.sequences(), count)

    before = results(model, "before")
    learning = replace(model, network=copy.deepcopy(model.network))
    training = RecordedSelfTraining(learning, None, RECIPES["ycbv"].learner, estimating, folder)
    with progress("learning") as on_frame:
        training.run(sequences, count, settings.passes, on_frame)
    learned = training.model()
    steps = learned.header["self_training"]["steps"]
    return {"before": before, "after": results(learned, "after"), "steps": steps}
