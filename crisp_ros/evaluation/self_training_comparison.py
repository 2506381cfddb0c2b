"""Errors and certificates of recorded frames before and after self-training."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from crisp_ros.data.atomic_file import write_json
from crisp_ros.data.recorded_frame import RecordedFrame
from crisp_ros.evaluation.metrics import (
    Surface,
    add_s,
    auc,
    reconstructed_points,
)
from crisp_ros.evaluation.summary_statistics import finite_or_none, share
from crisp_ros.evaluation.true_shapes import TrueShape
from crisp_ros.geometry.chamfer import sampled_chamfer
from crisp_ros.observation.frame import Frame
from crisp_ros.pipeline import Estimator

ADD_S_M, CHAMFER_M = 0.02, 0.05
_CHAMFER_POINTS = 2000


@dataclass(frozen=True)
class ObjectResult:
    """The result for one object in one frame.

    Attributes:
        name: of the true object; without ground truth the label's.
        certified: the estimate has a certificate.
        add_s_m: metres, infinite where it was missed, NaN without ground truth.
        chamfer_m: between the surfaces, as `add_s_m`.
    """

    name: str
    certified: bool
    add_s_m: float = math.nan
    chamfer_m: float = math.nan


@dataclass(frozen=True)
class Results:
    """The results for all objects of all frames; errors are of those with ground truth.

    Attributes:
        objects: frame by frame.
    """

    objects: tuple[ObjectResult, ...]

    @property
    def certified_share(self) -> float:
        """Certified estimates over all objects."""
        return share([o.certified for o in self.objects])

    @property
    def auc_add_s(self) -> float:
        """Area under the ADD-S accuracy curve to 2 cm, 0 to 1; NaN without ground truth."""
        return _auc([o.add_s_m for o in self.objects], ADD_S_M)

    @property
    def auc_chamfer(self) -> float:
        """Area under the Chamfer accuracy curve to 5 cm, 0 to 1; NaN without ground truth."""
        return _auc([o.chamfer_m for o in self.objects], CHAMFER_M)

    @property
    def certified_within_2cm(self) -> float:
        """Share below 2 cm ADD-S of the certified objects; NaN without any."""
        return share(
            [o.add_s_m < ADD_S_M for o in self.objects if o.certified and not math.isnan(o.add_s_m)]
        )

    @property
    def names(self) -> list[str]:
        """Names of all objects, in alphabetical order."""
        return sorted({o.name for o in self.objects})

    def of(self, name: str) -> Results:
        """The results for one object."""
        return Results(tuple(o for o in self.objects if o.name == name))

    def to_rows(self) -> list[list[Any]]:
        """All objects as JSON values; distances as text, because JSON has no infinity."""
        return [[o.name, o.certified, str(o.add_s_m), str(o.chamfer_m)] for o in self.objects]

    @classmethod
    def from_rows(cls, rows: Iterable[Sequence[Any]]) -> Results:
        """Restore what `to_rows` returned."""
        return cls(tuple(ObjectResult(n, c, float(a), float(d)) for n, c, a, d in rows))

    def to_json(self) -> dict[str, Any]:
        """The figures, null where unknown."""
        figures = {
            "objects": len(self.objects),
            "auc_add_s_2cm": self.auc_add_s,
            "auc_chamfer_5cm": self.auc_chamfer,
            "certified_share": self.certified_share,
            "certified_within_2cm": self.certified_within_2cm,
        }
        return {k: finite_or_none(v) for k, v in figures.items()}


class Comparison(NamedTuple):
    """Results for the same objects of the same frames before and after.

    Attributes:
        before: of the original model.
        after: of the self-trained one.
    """

    before: Results
    after: Results

    @property
    def won(self) -> int:
        """Number of objects that are certified only after the self-training."""
        return self._only(self.after, self.before)

    @property
    def lost(self) -> int:
        """Number of objects that were certified only before the self-training."""
        return self._only(self.before, self.after)

    @staticmethod
    def _only(one: Results, other: Results) -> int:
        pairs = zip(one.objects, other.objects, strict=True)
        return sum(a.certified and not b.certified for a, b in pairs)

    @property
    def summary(self) -> str:
        """Certified share and ADD-S AUC in words."""
        then, now = self
        words = f"certified {100 * then.certified_share:.1f} % -> {100 * now.certified_share:.1f} %"
        words += f" ({self.won} won, {self.lost} lost)"
        if math.isfinite(then.auc_add_s):
            words += f", ADD-S AUC (2 cm) {then.auc_add_s:.3f} -> {now.auc_add_s:.3f}"
        return words

    def of(self, name: str) -> Comparison:
        """The comparison for one object."""
        return Comparison(self.before.of(name), self.after.of(name))

    def to_json(self) -> dict[str, Any]:
        """The figures of both, and the numbers of certificates won and lost: if both are large and
        nearly equal, the difference is chance."""
        return {
            "before": self.before.to_json(),
            "after": self.after.to_json(),
            "certificates": {"won": self.won, "lost": self.lost},
        }


def save_results(path: Path, results: Results) -> None:
    """Write results as JSON."""
    write_json(path, {"objects": results.to_rows()})


def load_results(path: Path) -> Results:
    """Read the results that `save_results` wrote."""
    return Results.from_rows(json.loads(path.read_text())["objects"])


def measure(
    estimator: Estimator,
    frames: Iterable[RecordedFrame],
    shapes: Mapping[str, TrueShape],
    on_frame: Callable[[int], None] = lambda done: None,
) -> Results:
    """Estimate all frames and compare with the ground truth where there is one.

    Args:
        estimator: that is measured.
        frames: of a recording or data set.
        shapes: true shapes by name.
        on_frame: called after each frame with the number done.
    """
    results: list[ObjectResult] = []
    distances: dict[tuple[bytes, str], float] = {}  # many objects have one library shape's code
    for done, recorded in enumerate(frames, start=1):
        estimate = estimator.estimate(Frame.from_recorded(recorded))
        estimates = {e.label: e for e in estimate.objects}
        truths = {t.label: t for t in recorded.truth}
        for label in sorted({*estimates, *truths, *(r.label for r in estimate.rejected)}):
            found, truth = estimates.get(label), truths.get(label)
            name = truth.name if truth else recorded.label_names.get(label, f"label {label}")
            certified = found is not None and found.certified
            if truth is None or name not in shapes:
                results.append(ObjectResult(name, certified))
            elif found is None:
                results.append(ObjectResult(name, False, math.inf, math.inf))
            else:
                key = (found.code.tobytes(), name)
                if key not in distances:
                    distances[key] = _chamfer(estimator.mesh(found), shapes[name])
                error = add_s(shapes[name].points, found.T_camera_object, truth.T_camera_object)
                results.append(ObjectResult(name, certified, error, distances[key]))
        on_frame(done)
    return Results(tuple(results))


def _chamfer(surface: Surface, shape: TrueShape) -> float:
    points = reconstructed_points(surface, _CHAMFER_POINTS, np.random.default_rng(0))
    return sampled_chamfer(points, shape.points) if len(points) else math.inf


def _auc(errors: Sequence[float], limit: float) -> float:
    known = [e for e in errors if not math.isnan(e)]
    return auc(known, limit) if known else math.nan
