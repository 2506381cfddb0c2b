"""Which object is which: names the objects of a frame so that they keep their names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Protocol

from crisp_ros.pipeline import ObjectEstimate


class Identities(Protocol):
    """Gives the objects of each frame their stable ids."""

    def assign(
        self, stamp_s: float, estimates: Sequence[ObjectEstimate], names: Mapping[int, str]
    ) -> list[str]:
        """One id an estimate, distinct within a frame, fit for a TF frame.

        Args:
            stamp_s: of the image, seconds.
            estimates: the frame's objects.
            names: class names of labels, as far as known.
        """
        ...

    def reset(self) -> None:
        """Forgets all objects; called when time jumps back."""
        ...


class LabelIdentities:
    """Takes each label for one physical object: right where the segmentation tracks its objects."""

    def assign(
        self, stamp_s: float, estimates: Sequence[ObjectEstimate], names: Mapping[int, str]
    ) -> list[str]:
        """Ids "mug_3", or "object_3" where the class is not known."""
        return [
            f"{frame_name(names.get(estimate.label, 'object'))}_{estimate.label}"
            for estimate in estimates
        ]

    def reset(self) -> None:
        """Nothing to forget: a label is its own memory."""


def frame_name(text: str) -> str:
    """A name with only letters, digits and underscores, as TF frames and topics want them."""
    return re.sub(r"\W+", "_", text, flags=re.ASCII).strip("_") or "object"
