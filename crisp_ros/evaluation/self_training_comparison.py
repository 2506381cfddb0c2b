"""Errors and certificates of recorded frames before and after self-training."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import trimesh

from crisp_ros.data.atomic_file import write_json
from crisp_ros.data.meshes import surface_samples
from crisp_ros.data.recorded_frame import RecordedFrame
from crisp_ros.evaluation.metrics import add_s, auc, chamfer
from crisp_ros.evaluation.recording_score import TrueShape
from crisp_ros.observation.frame import Frame
from crisp_ros.pipeline import Estimator

ADD_S_M, CHAMFER_M = 0.02, 0.05
_CHAMFER_POINTS = 2000


@dataclass(frozen=True)
class ObjectResult:
    """One object in one frame: its true name, or the found one where no truth is known; ADD-S and
    Chamfer distance in metres, infinite where nothing was estimated, NaN where no truth is known.
    """

    name: str
    certified: bool
    add_s_m: float = math.nan
    chamfer_m: float = math.nan


@dataclass(frozen=True)
class Results:
    """All objects of all frames; figures over those whose truth is known."""

    objects: tuple[ObjectResult, ...]

    @property
    def certified_share(self) -> float:
        """Over all objects."""
        return _mean([o.certified for o in self.objects])

    @property
    def auc_add_s(self) -> float:
        """Area under the ADD-S accuracy curve to 2 cm, 0 to 1; NaN without truth."""
        return _auc([o.add_s_m for o in self.objects], ADD_S_M)

    @property
    def auc_chamfer(self) -> float:
        """Area under the Chamfer accuracy curve to 5 cm, 0 to 1; NaN without truth."""
        return _auc([o.chamfer_m for o in self.objects], CHAMFER_M)

    @property
    def certified_within_2cm(self) -> float:
        """Of the certified objects the share whose ADD-S is below 2 cm; NaN without any."""
        return _mean(
            [o.add_s_m < ADD_S_M for o in self.objects if o.certified and not math.isnan(o.add_s_m)]
        )

    @property
    def names(self) -> list[str]:
        """Of all objects, in alphabetical order."""
        return sorted({o.name for o in self.objects})

    def of(self, name: str) -> Results:
        """The results of one object."""
        return Results(tuple(o for o in self.objects if o.name == name))

    def to_json(self) -> dict[str, Any]:
        """The figures, null where unknown."""
        figures = {
            "objects": len(self.objects),
            "auc_add_s_2cm": self.auc_add_s,
            "auc_chamfer_5cm": self.auc_chamfer,
            "certified_share": self.certified_share,
            "certified_within_2cm": self.certified_within_2cm,
        }
        return {k: v if math.isfinite(v) else None for k, v in figures.items()}


class Comparison(NamedTuple):
    """The same objects of the same frames before and after."""

    before: Results
    after: Results

    @property
    def won(self) -> int:
        """Objects that are certified after and were not before."""
        return self._only(self.after, self.before)

    @property
    def lost(self) -> int:
        """Objects that were certified before and are not after."""
        return self._only(self.before, self.after)

    @staticmethod
    def _only(one: Results, other: Results) -> int:
        pairs = zip(one.objects, other.objects, strict=True)
        return sum(a.certified and not b.certified for a, b in pairs)

    @property
    def told(self) -> str:
        """Certified share and ADD-S AUC in words."""
        then, now = self
        words = f"certified {100 * then.certified_share:.1f} % -> {100 * now.certified_share:.1f} %"
        words += f" ({self.won} won, {self.lost} lost)"
        if math.isfinite(then.auc_add_s):
            words += f", ADD-S AUC (2 cm) {then.auc_add_s:.3f} -> {now.auc_add_s:.3f}"
        return words

    def of(self, name: str) -> Comparison:
        """Of one object."""
        return Comparison(self.before.of(name), self.after.of(name))

    def to_json(self) -> dict[str, Any]:
        """Both sides' figures, and how many certificates were won and lost: many of either and
        little between them is chance."""
        return {
            "before": self.before.to_json(),
            "after": self.after.to_json(),
            "certificates": {"won": self.won, "lost": self.lost},
        }


def save_results(path: Path, results: Results) -> None:
    """Writes results as JSON; distances as text, as JSON knows no infinity."""
    rows = [[o.name, o.certified, str(o.add_s_m), str(o.chamfer_m)] for o in results.objects]
    write_json(path, {"objects": rows})


def load_results(path: Path) -> Results:
    """Reads what `save_results` wrote."""
    rows = json.loads(path.read_text())["objects"]
    return Results(tuple(ObjectResult(n, c, float(a), float(d)) for n, c, a, d in rows))


def measure(
    estimator: Estimator,
    frames: Iterable[RecordedFrame],
    shapes: Mapping[str, TrueShape],
    on_frame: Callable[[], None] = lambda: None,
) -> Results:
    """Estimates all frames and compares with the truth, where it is known.

    Args:
        shapes: true shapes by name.
        on_frame: called after each frame.
    """
    found: list[ObjectResult] = []
    distances: dict[tuple[bytes, str], float] = {}  # many objects have one library shape's code
    for recorded in frames:
        result = estimator.estimate(Frame.from_recorded(recorded))
        estimates = {e.label: e for e in result.objects}
        truths = {t.label: t for t in recorded.truth}
        for label in sorted({*estimates, *truths, *(r.label for r in result.rejected)}):
            estimate, truth = estimates.get(label), truths.get(label)
            name = truth.name if truth else recorded.label_names.get(label, f"label {label}")
            certified = estimate is not None and estimate.certified
            if truth is None or name not in shapes:
                found.append(ObjectResult(name, certified))
            elif estimate is None:
                found.append(ObjectResult(name, False, math.inf, math.inf))
            else:
                key = (estimate.code.tobytes(), name)
                if key not in distances:
                    distances[key] = _chamfer(estimator.mesh(estimate), shapes[name])
                error = add_s(shapes[name].points, estimate.T_camera_object, truth.T_camera_object)
                found.append(ObjectResult(name, certified, error, distances[key]))
        on_frame()
    return Results(tuple(found))


def _chamfer(mesh: Any, shape: TrueShape) -> float:
    if len(mesh.faces) == 0:
        return math.inf
    surface = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    rng = np.random.default_rng(0)
    return chamfer(surface_samples(surface, _CHAMFER_POINTS, rng).points, shape.points)


def _mean(values: Sequence[bool]) -> float:
    return float(np.mean(values)) if values else math.nan


def _auc(errors: Sequence[float], limit: float) -> float:
    known = [e for e in errors if not math.isnan(e)]
    return auc(known, limit) if known else math.nan
