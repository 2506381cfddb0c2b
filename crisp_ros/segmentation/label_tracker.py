"""Labels that stay with an object from image to image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crisp_ros.validation import check_ranges, ranged

from .overlap import best_pairs, overlaps

MAX_LABEL = 65535  # of a 16-bit label image


@dataclass(frozen=True)
class LabelTrackerSettings:
    """Settings of `LabelTracker`.

    Attributes:
        min_overlap: a mask continues an earlier one from this intersection over union on.
        memory: images for which the mask of an object that is not seen is kept.
    """

    min_overlap: float = ranged(0.3, 0.0, 1.0)
    memory: int = ranged(5, 0, 1000)

    def __post_init__(self) -> None:
        check_ranges(self)


class LabelTracker:
    """Give masks the label of the earlier mask that they overlap most.

    A new object gets a label that no object has had before, until 65535 are used up.
    """

    def __init__(self, settings: LabelTrackerSettings) -> None:
        self._settings = settings
        self.reset()

    def reset(self) -> None:
        """Forget all objects; labels start again at 1."""
        self._masks: NDArray[np.int32] | None = None
        self._age: dict[int, int] = {}
        self._next = 1

    def update(self, labels: NDArray[np.int32]) -> NDArray[np.int32]:
        """Relabel the masks (h, w) of the next image; 0 stays 0."""
        if self._masks is None or self._masks.shape != labels.shape:
            self._masks, self._age = np.zeros_like(labels), {}
        chosen = self._matches(labels)
        table = np.zeros(int(labels.max(initial=0)) + 1, np.int32)
        for label in np.unique(labels[labels > 0]).tolist():
            table[label] = chosen.get(label) or self._new()
        result = table[labels]
        self._remember(result)
        return result

    def _matches(self, labels: NDArray[np.int32]) -> dict[int, int]:
        """Earlier label by label of the image, one to one, the largest overlap first."""
        pairs = overlaps(labels, self._masks)
        chosen = best_pairs(pairs, lambda pair: pair.iou, self._settings.min_overlap)
        return {pair.first: pair.second for pair in chosen}

    def _new(self) -> int:
        for _ in range(MAX_LABEL):
            label, self._next = self._next, self._next % MAX_LABEL + 1
            if label not in self._age:
                return label
        raise ValueError(f"more than {MAX_LABEL} objects in one image")

    def _remember(self, labels: NDArray[np.int32]) -> None:
        seen = set(np.unique(labels[labels > 0]).tolist())
        self._age = {
            label: 0 if label in seen else age + 1
            for label, age in [*self._age.items(), *((label, 0) for label in seen)]
        }
        self._age = {k: age for k, age in self._age.items() if age <= self._settings.memory}
        missing = [label for label in self._age if label not in seen]
        kept = np.isin(self._masks, missing) & (labels == 0)
        self._masks = np.where(kept, self._masks, labels)
