"""An estimator that returns the ground truth, or a known deviation from it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from types import SimpleNamespace

import numpy as np
import trimesh
from numpy.typing import NDArray

from crisp_ros.observation.frame import Frame
from crisp_ros.observation.observe import Rejected

Known = tuple[NDArray[np.uint8], dict[int, tuple[NDArray[np.float64], trimesh.Trimesh]]]


class Truthful:
    """An estimator that recognises frames by their colour image.

    Args:
        known: for each frame the colour image, and by label T_camera_object and the surface.
        change: change of an estimate; a result of None omits the object.
    """

    def __init__(
        self,
        known: Iterable[Known],
        change: Callable[[SimpleNamespace], SimpleNamespace | None] = lambda estimate: estimate,
    ) -> None:
        self.known, self.change = list(known), change

    def estimate(self, frame: Frame) -> SimpleNamespace:
        (objects,) = [o for rgb, o in self.known if np.array_equal(rgb, frame.rgb)]
        estimates = [
            self.change(
                SimpleNamespace(
                    label=label,
                    T_camera_object=T.copy(),
                    certified=True,
                    score=0.9,
                    mesh=mesh,
                    orientation_certified=True,
                    orientation_reason="",
                    shape_source="library",
                    depth_scale=math.nan,
                )
            )
            for label, (T, mesh) in objects.items()
            if (frame.labels == label).any()
        ]
        found = tuple(e for e in estimates if e is not None)
        missed = set(objects) - {e.label for e in found}
        return SimpleNamespace(
            objects=found, rejected=tuple(Rejected(label, "left out") for label in missed)
        )

    def meshes(self, estimates: Sequence[SimpleNamespace]) -> list[trimesh.Trimesh]:
        return [estimate.mesh for estimate in estimates]


def shifted(*by: float) -> Callable[[SimpleNamespace], SimpleNamespace]:
    """Return a change that moves the object, camera frame, metres."""

    def apply(estimate: SimpleNamespace) -> SimpleNamespace:
        estimate.T_camera_object[:3, 3] += by
        return estimate

    return apply
