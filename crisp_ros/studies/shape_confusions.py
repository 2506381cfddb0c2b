"""Which known shape an object is taken for: by the network alone, and after the corrector."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch

from crisp_ros.data.bop import BopFrame
from crisp_ros.observation.frame import Camera, Frame
from crisp_ros.pipeline import Estimator


class Naming(NamedTuple):
    """One object in one image: its true name, the library shapes nearest to the network's code and
    to the corrected one, whether that is certified, and its visible share (NaN where unknown)."""

    true: str
    network: str
    corrected: str
    certified: bool
    visible_share: float


def namings(
    estimator: Estimator, frames: Iterable[BopFrame], names: Mapping[int, str]
) -> list[Naming]:
    """Of all objects that are estimated in annotated frames.

    Args:
        estimator: its model has a shape library.
        names: of the objects, by id.
    """
    library = estimator.library
    found = []
    for frame in frames:
        height, width = frame.depth.shape
        camera = Camera.from_matrix(frame.intrinsics, width, height)
        trace = estimator.trace(Frame(frame.rgb, frame.depth, frame.labels, camera))
        instances = {instance.label: instance for instance in frame.instances}
        for solution in trace.solutions:
            by_network, corrected = (
                torch.cdist(codes.float(), library.codes).argmin(-1).tolist()
                for codes in (solution.codes, solution.correction.codes)
            )
            certified = solution.certificate.certified.tolist()
            for i, label in enumerate(solution.observations.labels.tolist()):
                instance = instances[label]
                share = instance.visible_share
                found.append(
                    Naming(
                        names[instance.obj_id],
                        library.names[by_network[i]],
                        library.names[corrected[i]],
                        certified[i],
                        float("nan") if share is None else share,
                    )
                )
    return found


def confusion_rows(found: Iterable[Naming]) -> list[dict[str, Any]]:
    """JSON values, one row for each true name, in alphabetical order.

    objects: how many. network, corrected: names with their counts, the most frequent first.
    wrong_certified: of those with a wrong corrected name how many are certified. visible_right and
    visible_wrong: median visible share of those with the right and with a wrong corrected name.
    """
    found = list(found)
    rows = []
    for true in sorted({naming.true for naming in found}):
        mine = [naming for naming in found if naming.true == true]
        right = [naming for naming in mine if naming.corrected == true]
        wrong = [naming for naming in mine if naming.corrected != true]
        rows.append(
            {
                "true": true,
                "objects": len(mine),
                "network": dict(Counter(naming.network for naming in mine).most_common()),
                "corrected": dict(Counter(naming.corrected for naming in mine).most_common()),
                "wrong_certified": sum(naming.certified for naming in wrong),
                "visible_right": _median(right),
                "visible_wrong": _median(wrong),
            }
        )
    return rows


def _median(found: list[Naming]) -> float | None:
    return float(np.median([naming.visible_share for naming in found])) if found else None
