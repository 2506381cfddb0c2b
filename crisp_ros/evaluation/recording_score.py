"""Errors of what the node published, frame by frame of a recording."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import trimesh
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from crisp_ros.data.bop import BopModel
from crisp_ros.data.meshes import MeshError, surface_samples
from crisp_ros.evaluation.metrics import add_s, auc, rotation_error, translation_error
from crisp_ros.tracking.jitter import Jitter, jitter

ADD_S_THRESHOLDS_M = {"1cm": 0.01, "2cm": 0.02, "3cm": 0.03}
HALF_VISIBLE = 0.5
SHAPES_NAME = "objects.npz"  # beside the files of a recording whose truth is known
_SHAPE_SAMPLES = 20_000


class TrueShape(NamedTuple):
    """What errors are measured on: surface points (N, 3) in metres, object frame, and the rotations
    symmetries (S, 3, 3) that map the object onto itself."""

    points: NDArray[np.float64]
    symmetries: NDArray[np.float64]


class ModelShapes(Mapping[str, TrueShape]):
    """Shapes of models by name, each with `count` points, made when it is first asked for.

    Raises:
        crisp_ros.data.meshes.MeshError: on access, where a model cannot be read.
    """

    def __init__(self, models: Iterable[BopModel], count: int, seed: int = 0) -> None:
        self._models = {model.name: model for model in models}
        self._count, self._seed = count, seed
        self._made: dict[str, TrueShape] = {}

    def __getitem__(self, name: str) -> TrueShape:
        if name not in self._made:
            model, rng = self._models[name], np.random.default_rng(self._seed)
            points = surface_samples(model.mesh, self._count, rng).points
            self._made[name] = TrueShape(points, model.symmetries()[:, :3, :3])
        return self._made[name]

    def __contains__(self, name: object) -> bool:
        return name in self._models

    def __iter__(self) -> Iterator[str]:
        return iter(self._models)

    def __len__(self) -> int:
        return len(self._models)


def save_shapes(path: Path, shapes: Mapping[str, TrueShape]) -> None:
    """Writes shapes as an .npz; points are rounded to a hundredth of a millimetre."""
    arrays = {}
    for name, shape in shapes.items():
        arrays[f"{name}/points"] = np.rint(shape.points * 1e5).astype(np.int16)
        arrays[f"{name}/symmetries"] = shape.symmetries.astype(np.float32)
    np.savez_compressed(path, **arrays)


def load_shapes(path: Path) -> dict[str, TrueShape]:
    """Reads what `save_shapes` wrote."""
    with np.load(path) as arrays:
        names = [key.removesuffix("/points") for key in arrays.files if key.endswith("/points")]
        return {
            name: TrueShape(
                arrays[f"{name}/points"] * 1e-5,
                arrays[f"{name}/symmetries"].astype(np.float64),
            )
            for name in names
        }


@dataclass(frozen=True, eq=False)
class ObjectScore:
    """One object in one frame.

    Attributes:
        name: of the true object; where no truth is known the estimate's, or made from the label.
        visible_share: of its silhouette, NaN where unknown.
        T_camera_object: (4, 4) as estimated, None where nothing was.
        T_world_object: (4, 4) the same in the frame in which the recording's camera moves, None
            where it is not known.
        add_s_m, rotation_error_rad, translation_error_m: infinite where nothing was estimated, NaN
            where no truth is known.
        certified, reason: the certificate, and why it was withheld.
        residual_m: the certificate's quantile of the depth points' distances to the surface.
        id, mesh_version: of its ObjectMesh.
    """

    frame: int
    label: int
    name: str
    visible_share: float = math.nan
    T_camera_object: NDArray[np.float64] | None = None
    T_world_object: NDArray[np.float64] | None = None
    add_s_m: float = math.nan
    rotation_error_rad: float = math.nan
    translation_error_m: float = math.nan
    certified: bool = False
    reason: str = ""
    residual_m: float = math.nan
    id: str = ""
    mesh_version: int = 0

    def to_json(self) -> dict[str, Any]:
        """JSON fields; null where there is no number."""
        return {
            "frame": self.frame,
            "label": self.label,
            "name": self.name,
            "visible_share": _finite(self.visible_share),
            "add_s_m": _finite(self.add_s_m),
            "rotation_error_deg": _finite(math.degrees(self.rotation_error_rad)),
            "translation_error_m": _finite(self.translation_error_m),
            "estimated": self.T_camera_object is not None,
            "certified": self.certified,
            "reason": self.reason,
        }


@dataclass(frozen=True, eq=False)
class FrameScore:
    """One frame: its objects, milliseconds a stage in the node, and the milliseconds from sending
    the images to receiving the estimates; all empty or NaN where no answer came in time."""

    index: int
    objects: tuple[ObjectScore, ...]
    stage_ms: Mapping[str, float] = field(default_factory=dict)
    round_trip_ms: float = math.nan

    @property
    def answered(self) -> bool:
        """Whether the node answered this frame."""
        return math.isfinite(self.round_trip_ms)


def frame_score(entry: Mapping[str, Any], shapes: Mapping[str, TrueShape]) -> FrameScore:
    """Scores one frame as the player reports it (see node/player/player_results.py)."""
    estimates = {int(e["label"]): e for e in entry["estimates"]}
    truths = {int(t["label"]): t for t in entry["truth"]}
    objects = []
    for label in sorted({*estimates, *truths}):
        estimate, truth = estimates.get(label), truths.get(label)
        fields: dict[str, Any] = {"frame": entry["index"], "label": label}
        if estimate is not None:
            T = np.asarray(estimate["T_camera_object"], np.float64)
            fields |= {"T_camera_object": T, "certified": bool(estimate["certified"])}
            if entry.get("T_world_camera") is not None:
                fields["T_world_object"] = np.asarray(entry["T_world_camera"]) @ T
            fields |= {"id": estimate["id"], "mesh_version": int(estimate["mesh_version"])}
            fields |= {"reason": estimate["reason"], "residual_m": _known(estimate["residual"])}
        if truth is not None:
            fields |= {"visible_share": _known(truth["visible_share"])}
            fields |= _errors(estimate, truth, shapes)
        name = truth["name"] if truth else estimate["class_name"]
        objects.append(ObjectScore(**fields, name=name or f"object {label}"))
    return FrameScore(
        index=int(entry["index"]),
        objects=tuple(objects),
        stage_ms=dict(entry["stage_ms"]),
        round_trip_ms=_known(entry["round_trip_ms"]),
    )


def shape_distance(
    vertices: NDArray[np.floating], faces: NDArray[np.integer], shape: TrueShape
) -> float:
    """Mean distance in metres from the true surface's points to a reconstructed surface, both in
    the object frame; infinite for a surface without area."""
    surface = trimesh.Trimesh(vertices, faces, process=False)
    try:
        rng = np.random.default_rng(0)
        reconstructed = surface_samples(surface, _SHAPE_SAMPLES, rng).points
    except MeshError:
        return math.inf
    return float(cKDTree(reconstructed).query(shape.points)[0].mean())


@dataclass(frozen=True, eq=False)
class RecordingScore:
    """Figures of a whole recording."""

    frames: tuple[FrameScore, ...]

    @property
    def objects(self) -> list[ObjectScore]:
        """All objects of all frames whose truth is known."""
        return [o for f in self.frames for o in f.objects if not math.isnan(o.add_s_m)]

    @property
    def names(self) -> list[str]:
        """Of all objects, in the order of their labels."""
        labelled = {(o.label, o.name) for f in self.frames for o in f.objects}
        return list(dict.fromkeys(name for _, name in sorted(labelled)))

    def of_object(self, name: str) -> list[ObjectScore]:
        """What was made of an object, its truth known or not, one a frame that it is in."""
        return [o for f in self.frames for o in f.objects if o.name == name]

    @property
    def has_truth(self) -> bool:
        """Whether there is anything to measure errors against."""
        return bool(self.objects)

    @property
    def median_add_s_m(self) -> float:
        """Metres; a missed object counts as infinite."""
        return float(np.median([o.add_s_m for o in self.objects]))

    @property
    def share_within_2cm(self) -> float:
        """Share of the objects, those known to be at most half visible aside, below 2 cm ADD-S."""
        errors = [o.add_s_m for o in self.objects if not o.visible_share <= HALF_VISIBLE]
        return float(np.mean(np.asarray(errors) < 0.02)) if errors else math.nan

    @property
    def auc_add_s(self) -> dict[str, float]:
        """Area under the ADD-S accuracy curve, 0 to 1, by threshold."""
        errors = [o.add_s_m for o in self.objects]
        return {name: auc(errors, limit) for name, limit in ADD_S_THRESHOLDS_M.items()}

    @property
    def certified_share(self) -> float:
        """Certified estimates over all objects, known or not."""
        everything = [o for f in self.frames for o in f.objects]
        return float(np.mean([o.certified for o in everything])) if everything else 0.0

    @property
    def certified_within_2cm(self) -> float:
        """Of the certified objects the share below 2 cm ADD-S; NaN where none is certified."""
        errors = [o.add_s_m for o in self.objects if o.certified]
        return float(np.mean(np.asarray(errors) < 0.02)) if errors else math.nan

    @property
    def jitter(self) -> dict[str, Jitter]:
        """Of each object's certified poses in the world, by its id: of one at rest, all of it is
        trembling."""
        poses: dict[str, list[NDArray[np.float64]]] = {}
        for o in (o for f in self.frames for o in f.objects):
            if o.certified and o.T_world_object is not None:
                poses.setdefault(o.id, []).append(o.T_world_object)
        return {id: jitter(track) for id, track in poses.items() if len(track) > 2}

    @property
    def stage_ms(self) -> dict[str, list[float]]:
        """Milliseconds of each stage, one an answered frame; the first frame, which warms the
        caches, is left out where there are others."""
        return _columns([f.stage_ms for f in self._settled])

    @property
    def round_trip_ms(self) -> list[float]:
        """From sending the images to receiving the estimates, as `stage_ms`."""
        return [f.round_trip_ms for f in self._settled]

    @property
    def _settled(self) -> list[FrameScore]:
        answered = [f for f in self.frames if f.answered]
        return answered[1:] or answered

    def to_json(self) -> dict[str, Any]:
        """The figures as JSON values."""
        report: dict[str, Any] = {
            "frames": len(self.frames),
            "answered": sum(f.answered for f in self.frames),
            "certified_share": self.certified_share,
            "round_trip_ms": _spread(self.round_trip_ms),
            "stages_ms": {name: _spread(values) for name, values in self.stage_ms.items()},
        }
        if self.jitter:
            report["jitter"] = {
                "median_step_m": median(j.step_m for j in self.jitter.values()),
                "median_step_deg": math.degrees(median(j.step_rad for j in self.jitter.values())),
                "objects": {id: j._asdict() for id, j in self.jitter.items()},
            }
        if self.has_truth:
            report |= {
                "median_add_s_m": _finite(self.median_add_s_m),
                "share_within_2cm": _finite(self.share_within_2cm),
                "auc_add_s": self.auc_add_s,
                "certified_within_2cm": _finite(self.certified_within_2cm),
                "instances": [o.to_json() for o in self.objects],
            }
        return report


def median(values: Iterable[float]) -> float:
    """Of the values that are not NaN; NaN where there is none."""
    known = [value for value in values if not math.isnan(value)]
    return float(np.median(known)) if known else math.nan


def number(value: float) -> str:
    """A figure with one decimal, or a dash for what is infinite or not known."""
    return f"{value:.1f}" if math.isfinite(value) else "–"


def percent(share: float) -> str:
    """A share in percent, to three figures, or a dash where it is not known."""
    return f"{100 * share:.3g}" if math.isfinite(share) else "–"


def _errors(
    estimate: Mapping[str, Any] | None, truth: Mapping[str, Any], shapes: Mapping[str, TrueShape]
) -> dict[str, float]:
    if truth["name"] not in shapes:
        return {}
    if estimate is None:
        missed = math.inf
        return {"add_s_m": missed, "rotation_error_rad": missed, "translation_error_m": missed}
    shape = shapes[truth["name"]]
    T = np.asarray(estimate["T_camera_object"], np.float64)
    T_true = np.asarray(truth["T_camera_object"], np.float64)
    return {
        "add_s_m": add_s(shape.points, T, T_true),
        "rotation_error_rad": float(rotation_error(T[:3, :3], T_true[:3, :3], shape.symmetries)),
        "translation_error_m": float(translation_error(T[:3, 3], T_true[:3, 3])),
    }


def _columns(rows: Sequence[Mapping[str, float]]) -> dict[str, list[float]]:
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row[name] for row in rows if name in row] for name in names}


def _spread(values: Sequence[float]) -> dict[str, float | None]:
    if not values:
        return {"median": None, "p95": None}
    return {"median": float(np.median(values)), "p95": float(np.percentile(values, 95))}


def _known(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
