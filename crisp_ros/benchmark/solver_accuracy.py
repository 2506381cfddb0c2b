"""Accuracy and speed-up of our solvers compared with the baselines."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
import trimesh
from scipy.spatial import cKDTree
from torch import Tensor

from crisp_ros.benchmark.solver_tasks import BenchSettings, Problem
from crisp_ros.benchmark.stopwatch import Timing
from crisp_ros.correction.residuals import surface_objective
from crisp_ros.geometry.isosurface import IsosurfaceSettings, TriangleMesh, largest_pieces
from crisp_ros.geometry.se3 import transform
from crisp_ros.network.decoder import ShapeDecoder
from crisp_ros.network.library import ShapeLibrary

_SCALE_M = 0.01  # of the robust objective of all solvers
_MARGIN = 0.05  # of the mesher's grid


class Answers(NamedTuple):
    """Accuracy of our solver and of the baseline on the same objects.

    Attributes:
        as_good: whether our solver is at least as accurate.
        figures: the accuracies as JSON values.
        words: the accuracies as text.
    """

    as_good: bool
    figures: dict[str, Any]
    words: str


@dataclass(frozen=True)
class Comparison:
    """Comparison of one of our solvers with a baseline.

    Attributes:
        name: row of our solver.
        stages: rows whose times add up to ours.
        baseline: row of the baseline.
        required: minimum ratio of the times; None if there is no requirement.
        ours_ms: median time of our solver.
        baseline_ms: median time of the baseline.
        answers: the accuracy of both.
    """

    name: str
    stages: tuple[str, ...]
    baseline: str
    required: float | None
    ours_ms: float
    baseline_ms: float
    answers: Answers

    @property
    def ratio(self) -> float:
        """Speed-up over the baseline."""
        return self.baseline_ms / self.ours_ms

    @property
    def holds(self) -> bool:
        """Whether our solver is as accurate and fast enough."""
        return self.answers.as_good and (self.required is None or self.ratio >= self.required)

    def to_json(self) -> dict[str, Any]:
        """The comparison as JSON values."""
        return {
            "name": self.name,
            "stages": list(self.stages),
            "baseline": self.baseline,
            "ours_ms": self.ours_ms,
            "baseline_ms": self.baseline_ms,
            "ratio": self.ratio,
            "required_ratio": self.required,
            "answer_at_least_as_good": self.answers.as_good,
            "holds": self.holds,
            "answers": self.answers.figures,
            "in_words": self.answers.words,
        }


def comparisons(
    timings: Mapping[str, Timing],
    given: Sequence[Problem],
    decoder: ShapeDecoder,
    library: ShapeLibrary,
    settings: BenchSettings,
) -> list[Comparison]:
    """Compare our solvers with the baselines.

    Args:
        timings: by the rows' names.
        given: the solved problems.
        decoder: used by all solvers.
        library: the known shapes.
        settings: of the benchmark.
    """
    judge = _Judge(given, decoder, library, settings.voxels)
    registered = ("registration",)
    made = [
        ("z_second_order", registered, "baseline_z", 10.0, judge.poses),
        ("z_gradient", registered, "baseline_z", None, judge.poses),
        ("h_gradient", (), "baseline_h", 3.0, judge.codes),
        ("lsq", (), "baseline_lsq", 4.0, judge.columns),
        ("mesh", (), "baseline_mesh", 8.0, judge.meshes),
        ("mesh", (), "mesh_dense", None, judge.meshes),
    ]
    found = []
    for name, before, baseline, required, compare in made:
        ours, theirs = timings[name], timings[baseline]
        common = sorted(ours.answers.keys() & theirs.answers.keys())
        stages = (*before, name)
        found.append(
            Comparison(
                name,
                stages,
                baseline,
                required,
                sum(timings[stage].median_ms for stage in stages),
                theirs.median_ms,
                compare([(i, ours.answers[i], theirs.answers[i]) for i in common]),
            )
        )
    return found


@dataclass(frozen=True)
class _Judge:
    """Compares answers; pairs contain the problem's index, our answer and the baseline's."""

    given: Sequence[Problem]
    decoder: ShapeDecoder
    library: ShapeLibrary
    voxels: int

    def poses(self, pairs: Sequence[tuple[int, Tensor, Tensor]]) -> Answers:
        def objective(i: int, T: Tensor) -> Tensor:
            problem = self.given[i]
            return self._objective(i, transform(T, problem.views.points), problem.codes)

        return _lower(pairs, objective)

    def codes(self, pairs: Sequence[tuple[int, Tensor, Tensor]]) -> Answers:
        return _lower(pairs, lambda i, codes: self._objective(i, self.given[i].z, codes))

    def columns(self, pairs: Sequence[tuple[int, Tensor, Tensor]]) -> Answers:
        def objective(i: int, chosen: Tensor) -> Tensor:
            return self._objective(i, self.given[i].z, self.library.codes[chosen])

        truth = [self.given[i].views.shapes for i, _, _ in pairs]
        right = [
            sum(int((pair[side] == true).sum()) for pair, true in zip(pairs, truth, strict=True))
            for side in (1, 2)
        ]
        count = sum(len(true) for true in truth)
        residuals = _lower(pairs, objective)
        return Answers(
            right[0] >= right[1],
            {**residuals.figures, "right_shapes": right[0], "baseline_right_shapes": right[1]},
            f"right shape of {count} objects: ours {right[0]}, baseline {right[1]}",
        )

    def meshes(
        self, pairs: Sequence[tuple[int, list[TriangleMesh], list[TriangleMesh]]]
    ) -> Answers:
        apart, closed, shapes = 0.0, 0, 0
        for i, ours, theirs in pairs:
            kinds = self.given[i].views.shapes.cpu()
            size = (self.library.upper - self.library.lower).amax(-1).cpu()[kinds]
            edges = (size * (1 + 2 * _MARGIN) / self.voxels).tolist()
            for mesh, dense, edge in zip(ours, theirs, edges, strict=True):
                apart = max(apart, _farthest(mesh, dense) / edge)
                closed += _is_closed(mesh)
                shapes += 1
        figures = {"largest_distance_voxels": apart, "watertight": closed, "shapes": shapes}
        words = f"surfaces at most {apart:.2g} voxels apart, {closed} of {shapes} watertight"
        return Answers(bool(apart <= 0.5 and closed == shapes), figures, words)

    def _objective(self, i: int, z: Tensor, codes: Tensor) -> Tensor:
        sdf = self.decoder.sdf(z, codes)
        return surface_objective(sdf, self.given[i].views.valid, sdf.new_tensor(_SCALE_M))


def _lower(
    pairs: Sequence[tuple[int, Tensor, Tensor]], objective: Callable[[int, Tensor], Tensor]
) -> Answers:
    """Compare the medians of the robust root mean square distances of all objects."""
    ours = torch.cat([objective(i, answer) for i, answer, _ in pairs]).sqrt()
    theirs = torch.cat([objective(i, answer) for i, _, answer in pairs]).sqrt()
    a, b = float(ours.median()), float(theirs.median())
    good = int((ours <= theirs * 1.001).sum())
    figures = {
        "median_distance_m": a,
        "baseline_median_distance_m": b,
        "objects": len(ours),
        "objects_at_least_as_good": good,
    }
    words = (
        f"median distance to the surface {1e3 * a:.2f} mm, baseline {1e3 * b:.2f} mm; "
        f"{good} of {len(ours)} objects at least as good"
    )
    return Answers(a <= b, figures, words)


def _farthest(ours: TriangleMesh, dense: TriangleMesh) -> float:
    """The largest distance, metres, between a vertex and the vertices of the other surface.

    The dense surface is reduced to the box of ours, without small disconnected pieces.
    """
    if ours.is_empty or dense.is_empty:
        return 0.0 if ours.is_empty and dense.is_empty else float("inf")
    low, high = ours.vertices.min(0) - 1e-4, ours.vertices.max(0) + 1e-4
    share = IsosurfaceSettings().min_component
    kept, _ = largest_pieces(dense.vertices, dense.faces, share)
    inside = kept[((kept >= low) & (kept <= high)).all(-1)]
    there = cKDTree(kept).query(ours.vertices)[0].max()
    back = cKDTree(ours.vertices).query(inside)[0].max() if len(inside) else np.inf
    return float(max(there, back))


def _is_closed(mesh: TriangleMesh) -> bool:
    surface = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    return not mesh.is_empty and bool(surface.is_watertight and surface.volume > 0)
