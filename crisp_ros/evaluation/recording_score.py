"""Errors of the node's published estimates, frame by frame of a recording."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crisp_ros.evaluation.metrics import add_s, rotation_error, translation_error
from crisp_ros.evaluation.summary_statistics import (
    ADD_S_THRESHOLDS_M,
    areas,
    finite_or_none,
    known_median,
    known_or_nan,
    share,
)
from crisp_ros.evaluation.true_shapes import TrueShape
from crisp_ros.tracking.jitter import Jitter, jitter

HALF_VISIBLE = 0.5
_NEAR_M = 0.02  # ADD-S of an accurate pose


@dataclass(frozen=True, eq=False)
class ObjectScore:
    """The score of one object in one frame.

    Attributes:
        frame: index in the recording.
        label: in the frame.
        name: of the true object; without ground truth the estimate's, or made from the label.
        visible_share: of its silhouette, NaN where unknown.
        T_camera_object: (4, 4) as estimated, None where it was missed.
        T_world_object: (4, 4) the same in the frame in which the recording's camera moves, None
            where it is not known.
        add_s_m: infinite where it was missed, NaN without ground truth.
        rotation_error_rad: as `add_s_m`.
        translation_error_m: as `add_s_m`.
        certified: the estimate has a certificate.
        reason: why it has none.
        residual_m: the certificate's quantile of the depth points' distances to the surface.
        id: of its ObjectMesh.
        mesh_version: of its ObjectMesh.
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
            "visible_share": finite_or_none(self.visible_share),
            "add_s_m": finite_or_none(self.add_s_m),
            "rotation_error_deg": finite_or_none(math.degrees(self.rotation_error_rad)),
            "translation_error_m": finite_or_none(self.translation_error_m),
            "estimated": self.T_camera_object is not None,
            "certified": self.certified,
            "reason": self.reason,
        }


@dataclass(frozen=True, eq=False)
class FrameScore:
    """The score of one frame.

    Attributes:
        index: in the recording.
        objects: true and estimated ones.
        stage_ms: milliseconds by stage of the node; empty where no answer came in time.
        round_trip_ms: from sending the images to receiving the estimates; NaN where no answer came.
    """

    index: int
    objects: tuple[ObjectScore, ...]
    stage_ms: Mapping[str, float] = field(default_factory=dict)
    round_trip_ms: float = math.nan

    @property
    def answered(self) -> bool:
        """Whether the node answered this frame."""
        return math.isfinite(self.round_trip_ms)


def frame_score(entry: Mapping[str, Any], shapes: Mapping[str, TrueShape]) -> FrameScore:
    """Score one frame as the player reports it (see node/player/player_results.py).

    Args:
        entry: of kind frame.
        shapes: true shapes by name.
    """
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
            fields["reason"] = estimate["reason"]
            fields["residual_m"] = known_or_nan(estimate["residual"])
        if truth is not None:
            fields["visible_share"] = known_or_nan(truth["visible_share"])
            fields |= _errors(estimate, truth, shapes)
        name = truth["name"] if truth else estimate["class_name"]
        objects.append(ObjectScore(**fields, name=name or f"object {label}"))
    return FrameScore(
        index=int(entry["index"]),
        objects=tuple(objects),
        stage_ms=dict(entry["stage_ms"]),
        round_trip_ms=known_or_nan(entry["round_trip_ms"]),
    )


@dataclass(frozen=True, eq=False)
class RecordingScore:
    """The score of a whole recording.

    Attributes:
        frames: in their order.
    """

    frames: tuple[FrameScore, ...]

    @property
    def objects(self) -> list[ObjectScore]:
        """All objects with ground truth, of all frames."""
        return [o for f in self.frames for o in f.objects if not math.isnan(o.add_s_m)]

    @property
    def names(self) -> list[str]:
        """Names of all objects, in the order of their labels."""
        labelled = {(o.label, o.name) for f in self.frames for o in f.objects}
        return list(dict.fromkeys(name for _, name in sorted(labelled)))

    def of_object(self, name: str) -> list[ObjectScore]:
        """The scores of one object, one per frame that shows it, with or without ground truth."""
        return [o for f in self.frames for o in f.objects if o.name == name]

    @property
    def has_truth(self) -> bool:
        """Whether any object has ground truth."""
        return bool(self.objects)

    @property
    def median_add_s_m(self) -> float:
        """Median ADD-S, metres; a missed object counts as infinite."""
        return float(np.median([o.add_s_m for o in self.objects]))

    @property
    def share_within_2cm(self) -> float:
        """Share below 2 cm ADD-S of the objects that are not known to be at most half visible."""
        return share(
            [o.add_s_m < _NEAR_M for o in self.objects if not o.visible_share <= HALF_VISIBLE]
        )

    @property
    def auc_add_s(self) -> dict[str, float]:
        """Area under the ADD-S accuracy curve, 0 to 1, by threshold."""
        return areas([o.add_s_m for o in self.objects], ADD_S_THRESHOLDS_M)

    @property
    def certified_share(self) -> float:
        """Certified estimates over all objects, with or without ground truth."""
        certified = [o.certified for f in self.frames for o in f.objects]
        return share(certified) if certified else 0.0

    @property
    def certified_within_2cm(self) -> float:
        """Share below 2 cm ADD-S of the certified objects; NaN where none is certified."""
        return share([o.add_s_m < _NEAR_M for o in self.objects if o.certified])

    @property
    def jitter(self) -> dict[str, Jitter]:
        """Jitter of each object's certified poses in the world, by its id; for an object at rest
        all motion is jitter."""
        poses: dict[str, list[NDArray[np.float64]]] = {}
        for o in (o for f in self.frames for o in f.objects):
            if o.certified and o.T_world_object is not None:
                poses.setdefault(o.id, []).append(o.T_world_object)
        return {id: jitter(track) for id, track in poses.items() if len(track) > 2}

    @property
    def stage_ms(self) -> dict[str, list[float]]:
        """Milliseconds of each stage, one per answered frame, without the first frame, which warms
        the caches."""
        rows = [f.stage_ms for f in self._timed]
        names = dict.fromkeys(name for row in rows for name in row)
        return {name: [row[name] for row in rows if name in row] for name in names}

    @property
    def round_trip_ms(self) -> list[float]:
        """Milliseconds from sending the images to receiving the estimates; frames as `stage_ms`."""
        return [f.round_trip_ms for f in self._timed]

    @property
    def _timed(self) -> list[FrameScore]:
        answered = [f for f in self.frames if f.answered]
        return answered[1:] or answered

    def to_json(self) -> dict[str, Any]:
        """The figures as JSON values."""
        report: dict[str, Any] = {
            "frames": len(self.frames),
            "answered": sum(f.answered for f in self.frames),
            "certified_share": self.certified_share,
            "round_trip_ms": _median_and_p95(self.round_trip_ms),
            "stages_ms": {name: _median_and_p95(values) for name, values in self.stage_ms.items()},
        }
        if self.jitter:
            steps = self.jitter.values()
            report["jitter"] = {
                "median_step_m": known_median(j.step_m for j in steps),
                "median_step_deg": math.degrees(known_median(j.step_rad for j in steps)),
                "objects": {id: j._asdict() for id, j in self.jitter.items()},
            }
        if self.has_truth:
            report |= {
                "median_add_s_m": finite_or_none(self.median_add_s_m),
                "share_within_2cm": finite_or_none(self.share_within_2cm),
                "auc_add_s": self.auc_add_s,
                "certified_within_2cm": finite_or_none(self.certified_within_2cm),
                "instances": [o.to_json() for o in self.objects],
            }
        return report


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


def _median_and_p95(values: Sequence[float]) -> dict[str, float | None]:
    if not values:
        return {"median": None, "p95": None}
    return {"median": float(np.median(values)), "p95": float(np.percentile(values, 95))}
