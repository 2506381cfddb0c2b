"""Results of the BOP benchmark in place of an estimator."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from crisp_ros.data.bop import BopFrame, BopImage
from crisp_ros.evaluation.bop_csv import BopResult
from crisp_ros.evaluation.frame_estimates import Estimated, FrameEstimates


class _NoSurface(NamedTuple):
    """An empty reconstruction."""

    vertices: NDArray[np.float64] = np.zeros((0, 3))
    faces: NDArray[np.int64] = np.zeros((0, 3), np.int64)


class BopResults:
    """Poses of another method, read from its results file, in place of an estimator."""

    def __init__(self, results: Iterable[BopResult]) -> None:
        self._by_image: dict[BopImage, list[BopResult]] = {}
        for result in results:
            image = BopImage(result.scene_id, result.image_id)
            self._by_image.setdefault(image, []).append(result)

    def estimates(self, frame: BopFrame) -> FrameEstimates:
        """Assign the results of an image to its instances.

        For each object the results with the highest scores count, as many as there are instances;
        they are assigned greedily by distance, the nearest pair first.
        """
        results = self._by_image.get(BopImage(frame.scene_id, frame.image_id), [])
        found: dict[int, Estimated] = {}
        for obj_id in {instance.obj_id for instance in frame.instances}:
            instances = [i for i in frame.instances if i.obj_id == obj_id]
            mine = sorted((r for r in results if r.obj_id == obj_id), key=lambda r: -r.score)
            pairs = sorted(
                (
                    float(np.linalg.norm((r.T_camera_object - i.T_camera_object)[:3, 3])),
                    number,
                    i.label,
                )
                for number, r in enumerate(mine[: len(instances)])
                for i in instances
            )
            taken: set[int] = set()
            for _, number, label in pairs:
                if number not in taken and label not in found:
                    taken.add(number)
                    found[label] = _estimated(frame, label, mine[number])
        missed = {i.label: "no result" for i in frame.instances if i.label not in found}
        return FrameEstimates(found, missed, max((r.time_s for r in results), default=-1.0))


def _estimated(frame: BopFrame, label: int, result: BopResult) -> Estimated:
    return Estimated(
        frame.rgb,
        frame.labels,
        frame.intrinsics,
        label,
        result.T_camera_object,
        _NoSurface(),
        False,
        result.score,
    )
