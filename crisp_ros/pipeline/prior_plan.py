"""Treatment of a frame's objects under a prior."""

from __future__ import annotations

from enum import Enum, auto
from typing import NamedTuple

from torch import Tensor


class Plan(Enum):
    """Treatment of an object in a frame.

    NONE: nothing.
    FOLLOW: its shape, which was certified, is kept, and its pose refined.
    SEARCH: pose and shape are searched, or refined on the views from all directions.
    """

    NONE = auto()
    FOLLOW = auto()
    SEARCH = auto()


class SeenObject(NamedTuple):
    """An object of a frame, for `PriorMemory.plan`.

    Attributes:
        label: of the object.
        points: (N, 3) depth points, camera frame, metres.
        is_unknown: nothing else explains it; others are followed at most.
    """

    label: int
    points: Tensor
    is_unknown: bool
