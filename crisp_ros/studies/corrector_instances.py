"""Instances of the corrector's study, and the summaries of their errors."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from crisp_ros.correction.corrector_settings import CORRECTORS, CorrectorSettings
from crisp_ros.evaluation.summary_statistics import finite_or_none, known_or_nan

NO_CORRECTOR = "no corrector"
ALGORITHM_1 = "Alg. 1: gradient, projected gradient"
ALGORITHM_2 = "Alg. 2: gradient, LSQ"
SECOND_ORDER = "second order, LSQ"
SYMMETRIES = "the node: with near-symmetries and other sources of shapes"
MULTI_VIEW = "the same, shape from all views so far"
METHODS = (NO_CORRECTOR, ALGORITHM_1, ALGORITHM_2, SECOND_ORDER, SYMMETRIES, MULTI_VIEW)
SETTINGS: Mapping[str, CorrectorSettings] = {
    ALGORITHM_1: CORRECTORS["alg1"],
    ALGORITHM_2: CORRECTORS["alg2"],
    SECOND_ORDER: CORRECTORS["second_order"],
}
SEVERAL_VIEWS = 3
_ROTATED_RAD, _NEAR_RAD = math.radians(1.0), math.radians(30.0)


class Errors(NamedTuple):
    """Errors of one estimate; all infinite for a missed object.

    Attributes:
        e_pose_m: L1 Chamfer distance, the mean of both directions of nearest Euclidean distances,
            between the true surface at the estimated and at the true pose, metres.
        e_shape_m: the same between estimated and true surface in the object frame.
        add_s_m: the direction of e_pose from the truth.
        rotation_rad: smallest over the object's symmetries.
        shape: name of the estimated library shape, "" for another code.
        certified: the estimate has a certificate: that of eq. (12) alone with the paper's values
            for YCBV, and of `SYMMETRIES` and `MULTI_VIEW` that of the node.
    """

    e_pose_m: float
    e_shape_m: float
    add_s_m: float
    rotation_rad: float
    shape: str
    certified: bool

    def to_json(self) -> list[Any]:
        """The fields in their order; null for infinite ones."""
        return [None if v == math.inf else v for v in self]

    @classmethod
    def from_json(cls, values: Sequence[Any]) -> Errors:
        """Restore what `to_json` returned."""
        return cls(*(math.inf if v is None else v for v in values))


MISSED = Errors(math.inf, math.inf, math.inf, math.inf, "", False)


@dataclass(frozen=True)
class Instance:
    """One object in one frame, with the errors of every method that was run on it.

    Attributes:
        scene: name of the sequence.
        frame: index in the sequence.
        name: of the object.
        visible_share: of its silhouette, NaN where unknown.
        certified: the node's estimate has a certificate.
        reason: why it has none.
        errors: by method.
        cpu_s: processor time of the corrector by method, the object's share of its frame's, of
            the methods in `SETTINGS`.
    """

    scene: str
    frame: int
    name: str
    visible_share: float
    certified: bool
    reason: str
    errors: Mapping[str, Errors]
    cpu_s: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values."""
        errors = {method: found.to_json() for method, found in self.errors.items()}
        visible = finite_or_none(self.visible_share)
        return {**vars(self), "visible_share": visible, "errors": errors}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Instance:
        """Restore what `to_json` returned."""
        errors = {method: Errors.from_json(v) for method, v in values["errors"].items()}
        visible = known_or_nan(values["visible_share"])
        return cls(**{**values, "visible_share": visible, "errors": errors})


class Row(NamedTuple):
    """The errors of one method on some instances.

    Attributes:
        method: one of `METHODS`.
        count: number of instances.
        missed: number of instances without an estimate; the errors are of the others.
        e_pose_mean_m: see `Errors`.
        e_pose_median_m: see `Errors`.
        e_shape_mean_m: see `Errors`.
        e_shape_median_m: see `Errors`.
        add_s_median_m: see `Errors`.
        rotation_median_rad: see `Errors`.
        right_shape: share with the right library shape.
        certified: share of all instances that have a certificate, see `Errors`.
        certified_within_2cm: share of the certified ones within 2 cm ADD-S, NaN where none is.
        cpu_median_s: processor time of the corrector for an object, NaN where not measured.
    """

    method: str
    count: int
    missed: int
    e_pose_mean_m: float
    e_pose_median_m: float
    e_shape_mean_m: float
    e_shape_median_m: float
    add_s_median_m: float
    rotation_median_rad: float
    right_shape: float
    certified: float
    certified_within_2cm: float
    cpu_median_s: float


def rows(instances: Sequence[Instance]) -> list[Row]:
    """Summarise the errors of each method over the instances that it was run on."""
    table = []
    for method in METHODS:
        of = [(i.name, i.errors[method]) for i in instances if method in i.errors]
        found = [(name, e) for name, e in of if e != MISSED]
        if not found:
            continue
        pose, shape, add_s, rotation = (np.array([e[k] for _, e in found]) for k in range(4))
        certified = add_s[[e.certified for _, e in found]]
        times = [i.cpu_s[method] for i in instances if method in i.cpu_s]
        table.append(
            Row(
                method,
                len(of),
                len(of) - len(found),
                float(pose.mean()),
                float(np.median(pose)),
                float(shape.mean()),
                float(np.median(shape)),
                float(np.median(add_s)),
                float(np.median(rotation)),
                float(np.mean([name == e.shape for name, e in found])),
                len(certified) / len(of),
                float(np.mean(certified <= 0.02)) if len(certified) else math.nan,
                float(np.median(times)) if times else math.nan,
            )
        )
    return table


class SymmetryChanges(NamedTuple):
    """Instances whose rotation the search over near-symmetries changes.

    Attributes:
        count: number of instances.
        near_before: share with a rotation error below 30 degrees without the search.
        near_after: the same with the search.
        rotation_before_rad: median rotation error without the search.
        rotation_after_rad: the same with the search.
    """

    count: int
    near_before: float
    near_after: float
    rotation_before_rad: float
    rotation_after_rad: float


def symmetry_changes(instances: Sequence[Instance]) -> SymmetryChanges:
    """Compare the rotations with and without the search; all zero where none differs."""
    found = [
        (i.errors[SECOND_ORDER].rotation_rad, i.errors[SYMMETRIES].rotation_rad) for i in instances
    ]
    both = np.array([pair for pair in found if abs(pair[0] - pair[1]) > _ROTATED_RAD])
    if len(both) == 0:
        return SymmetryChanges(0, 0.0, 0.0, 0.0, 0.0)
    near, middle = (both < _NEAR_RAD).mean(0), np.median(both, axis=0)
    return SymmetryChanges(len(both), *near.tolist(), *middle.tolist())


class CertifiedShares(NamedTuple):
    """The reliability of the node's certificate.

    Attributes:
        count: number of instances.
        certified: share of certified ones.
        within_1cm: share of the certified ones within 1 cm ADD-S.
        within_2cm: the same within 2 cm.
    """

    count: int
    certified: float
    within_1cm: float
    within_2cm: float


def certified_shares(instances: Sequence[Instance]) -> CertifiedShares:
    """Compute the shares over at least one instance; zero where none is certified."""
    errors = np.array([i.errors[SYMMETRIES].add_s_m for i in instances if i.certified])
    return CertifiedShares(
        len(instances),
        len(errors) / len(instances),
        float(np.mean(errors <= 0.01)) if len(errors) else 0.0,
        float(np.mean(errors <= 0.02)) if len(errors) else 0.0,
    )
