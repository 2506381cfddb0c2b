"""Differences between two estimates of one frame."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation

from crisp_ros.pipeline import FrameEstimate, ObjectEstimate

# Other machines, devices and numbers of threads add in another order.
_TOLERANCE_M, _TOLERANCE_RAD = 1e-4, 2e-3
_ARRAYS = ("T_camera_object", "code", "covariance", "lower", "upper")
_VALUES = ("certified", "reason", "n_points", "shape_source")


class EstimateDifference(NamedTuple):
    """Difference between the repeated and the recorded estimate of an object.

    Attributes:
        label: segmentation label of the object.
        metres: distance between the positions.
        radians: angle between the orientations.
        identical: whether the whole estimate is equal to the last bit.
        shape_source: of the repeated estimate as it is published, see `ObjectEstimate.observed`.
    """

    label: int
    metres: float
    radians: float
    identical: bool
    shape_source: str

    @property
    def is_reproduced(self) -> bool:
        """Whether the poses differ by rounding only."""
        return self.metres <= _TOLERANCE_M and self.radians <= _TOLERANCE_RAD

    def to_json(self) -> dict[str, Any]:
        """The difference as JSON values."""
        return self._asdict()


class OtherObjectsError(ValueError):
    """Two estimates of one frame have different objects."""


def estimate_differences(
    recorded: FrameEstimate, repeated: FrameEstimate
) -> list[EstimateDifference]:
    """Return the differences between two estimates of one frame, per object.

    Raises:
        OtherObjectsError: the estimates have different objects.
    """
    before = {e.label: e for e in recorded.objects}
    after = {e.label: e for e in repeated.objects}
    if before.keys() != after.keys():
        raise OtherObjectsError(
            f"not reproduced: objects {sorted(after)}, recorded were {sorted(before)}"
        )
    return [_difference(before[label], after[label]) for label in sorted(before)]


def _difference(before: ObjectEstimate, after: ObjectEstimate) -> EstimateDifference:
    a, b = before.T_camera_object, after.T_camera_object
    metres = float(np.linalg.norm(a[:3, 3] - b[:3, 3]))
    radians = float(Rotation.from_matrix(a[:3, :3].T @ b[:3, :3]).magnitude())
    if a.tobytes() == b.tobytes():
        radians = 0.0  # not the rounding of the comparison
    identical = all(np.array_equal(getattr(before, n), getattr(after, n)) for n in _ARRAYS)
    identical = identical and all(getattr(before, n) == getattr(after, n) for n in _VALUES)
    source = after.observed().shape_source
    return EstimateDifference(before.label, metres, radians, identical, source)
