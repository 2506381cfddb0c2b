"""Files that a training starts from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .initial_weights import WeightSource


@dataclass(frozen=True)
class TrainingSources:
    """Files that a training starts from.

    Attributes:
        photographs: folder of the recipe's photographs, in its layout, or None.
        weights: what the first weights are; by default random.
    """

    photographs: Path | None = None
    weights: WeightSource = WeightSource()
