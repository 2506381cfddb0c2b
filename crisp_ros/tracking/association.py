"""Association of a frame's estimates with tracks: gated optimal assignment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from crisp_ros.validation import check_ranges, ranged


@dataclass(frozen=True)
class AssociationSettings:
    """Settings of `costs`; a pair at the gate that differs in nothing else costs one.

    Attributes:
        gate_m: largest motion of an object between two frames, beyond the expected one, metres.
        gate_growth_m_s: growth of the gate while an object is not seen.
        gate_limit_m: largest gate, metres.
        label_weight: cost of another segmentation label.
        class_weight: cost of another class name, where both are known.
        shape_weight: cost of an entirely different shape.
        hidden_weight: cost of a track that was missed, at the largest gate.
        tracked_labels: the segmentation tracks objects: equal labels are the same object at any
            distance, and other labels are other objects. The other settings are not used.
    """

    gate_m: float = ranged(0.15, 0.001, 10.0)
    gate_growth_m_s: float = ranged(0.3, 0.0, 100.0)
    gate_limit_m: float = ranged(0.4, 0.001, 100.0)
    label_weight: float = ranged(0.04, 0.0, 1.0)
    class_weight: float = ranged(0.8, 0.0, 2.0)
    shape_weight: float = ranged(0.25, 0.0, 2.0)
    hidden_weight: float = ranged(0.2, 0.0, 1.0)
    tracked_labels: bool = False

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.gate_limit_m < self.gate_m:
            raise ValueError(
                f"gate_limit_m {self.gate_limit_m} is below gate_m {self.gate_m}: expected at least"
            )


class Candidates(NamedTuple):
    """Features of M tracks or estimates.

    Attributes:
        centres: (M, 3) fixed frame, metres.
        labels: (M,) of the segmentation.
        classes: M names, "" where not known.
    """

    centres: NDArray[np.float64]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]


def costs(
    tracks: Candidates,
    unseen_s: NDArray[np.float64],
    estimates: Candidates,
    shape_distances: NDArray[np.float64],
    settings: AssociationSettings,
) -> NDArray[np.float64]:
    """Compute the cost (T, E) of assigning each estimate to each track, infinite outside the gate.

    With d the distance of the centres and g the gate, which grows while the track is not seen:
    (d / g)^2 + the weights of all that differs. Distances are measured in a fixed frame, so that
    the camera's motion does not count.

    Args:
        tracks: T tracks at their predicted positions.
        unseen_s: (T,) seconds since each was seen.
        estimates: E estimates.
        shape_distances: (T, E) in [0, 1].
        settings: see `AssociationSettings`.
    """
    other_label = tracks.labels[:, None] != estimates.labels
    if settings.tracked_labels:
        return np.where(other_label, np.inf, 0.0)
    grown = settings.gate_m + settings.gate_growth_m_s * unseen_s
    gates = np.minimum(grown, settings.gate_limit_m)
    growth_limit = max(settings.gate_limit_m - settings.gate_m, 1e-9)
    distances = np.linalg.norm(tracks.centres[:, None] - estimates.centres, axis=-1)
    before, now = np.array(tracks.classes)[:, None], np.array(estimates.classes)
    other_class = (before != now) & (before != "") & (now != "")
    cost = (distances / gates[:, None]) ** 2
    cost += settings.label_weight * other_label
    cost += settings.class_weight * other_class
    cost += settings.shape_weight * shape_distances
    # Of two tracks that fit as well, the one that was seen a moment ago is the more likely one.
    cost += settings.hidden_weight * ((gates - settings.gate_m) / growth_limit)[:, None]
    return np.where(distances <= gates[:, None], cost, np.inf)


def code_differences(
    a: NDArray[np.float32], b: NDArray[np.float32], unit: float | None
) -> NDArray[np.float64]:
    """Compute the differences (A, B) of shape codes (A, C) and (B, C), in [0, 1].

    Args:
        a: A codes.
        b: B codes.
        unit: distance of codes that counts as one, such as the median distance of two shapes of a
            library; None for the length of the longer code.
    """
    if unit is None:
        lengths = np.linalg.norm(a, axis=-1)[:, None], np.linalg.norm(b, axis=-1)
        units = np.maximum(*lengths)
    else:
        units = np.asarray(unit)
    return np.minimum(cdist(a, b) / np.maximum(units, 1e-12), 1.0)


def assign(costs: NDArray[np.float64], limit: float = 1.0) -> list[tuple[int, int]]:
    """Find the pairs (row, column) of the best partial assignment, in ascending order.

    It minimises the sum of the pairs' costs plus `limit` for every pair that is not formed: a pair
    is formed only where it costs less than `limit`.

    Args:
        costs: (T, E), infinite where a pair is excluded.
        limit: cost of leaving a track and an estimate unassigned.
    """
    gain = np.minimum(costs - limit, 0.0)
    rows, columns = linear_sum_assignment(gain)
    return [(int(r), int(c)) for r, c in zip(rows, columns, strict=True) if gain[r, c] < 0.0]
