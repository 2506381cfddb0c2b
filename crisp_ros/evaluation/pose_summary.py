"""Summary of pose errors in which a wrong rotation counts, and of what certificates are worth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np

from crisp_ros.evaluation.summary_statistics import areas, finite_or_none

THRESHOLDS_M = {"2cm": 0.02, "10cm": 0.10}
WRONG_PLACE_M = 0.02
WRONG_ROTATION_RAD = math.radians(30.0)
_ROTATIONS_DEG = (5, 15, 30)


class PoseErrors(Protocol):
    """The errors of one instance; infinite where it was missed."""

    add_s_m: float
    add_m: float
    rotation_error_rad: float
    certified: bool
    orientation_certified: bool


@dataclass(frozen=True)
class PoseSummary:
    """Pose errors of some instances.

    Attributes:
        instances: their number, missed ones included.
        auc_add: area under the accuracy curve of ADD, 0 to 1, by threshold.
        auc_add_s: of ADD-S.
        median_rotation_deg: median rotation error, over symmetries; infinite where most are missed.
        rotations_within: share of the instances whose rotation error is below so many degrees.
        certified: number of certified estimates.
        certified_wrong_place: of these, the number with an ADD-S above 2 cm.
        certified_wrong_rotation: of these, the number with a rotation error above 30 degrees.
        orientation_certified: number of estimates whose orientation is certified too.
        orientation_certified_wrong: of these, the number with a rotation error above 30 degrees.
    """

    instances: int
    auc_add: dict[str, float]
    auc_add_s: dict[str, float]
    median_rotation_deg: float
    rotations_within: dict[str, float]
    certified: int
    certified_wrong_place: int
    certified_wrong_rotation: int
    orientation_certified: int
    orientation_certified_wrong: int

    def to_json(self) -> dict[str, Any]:
        """JSON fields, with the attributes' names; null for a median that is infinite."""
        return {**asdict(self), "median_rotation_deg": finite_or_none(self.median_rotation_deg)}


def summarize_poses(errors: Sequence[PoseErrors]) -> PoseSummary:
    """Summarize the pose errors of at least one instance."""
    rotation = np.array([e.rotation_error_rad for e in errors])
    wrong = rotation > WRONG_ROTATION_RAD
    displaced = np.array([e.add_s_m for e in errors]) > WRONG_PLACE_M
    certified = np.array([e.certified for e in errors])
    oriented = np.array([e.orientation_certified for e in errors])
    return PoseSummary(
        len(errors),
        areas([e.add_m for e in errors], THRESHOLDS_M),
        areas([e.add_s_m for e in errors], THRESHOLDS_M),
        math.degrees(float(np.median(rotation))),
        {f"{d}deg": float((rotation < math.radians(d)).mean()) for d in _ROTATIONS_DEG},
        int(certified.sum()),
        int((certified & displaced).sum()),
        int((certified & wrong).sum()),
        int(oriented.sum()),
        int((oriented & wrong).sum()),
    )
