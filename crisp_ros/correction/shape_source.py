"""Sources of shapes: where the shape of an estimate comes from."""

from __future__ import annotations

from enum import IntEnum

import torch
from torch import Tensor

from crisp_ros.correction.correspondences import Shapes


class ShapeSource(IntEnum):
    """Source of a shape, the simpler ones first.

    LIBRARY: one of the known shapes.
    ACTIVE: a combination of known shapes, eq. (9).
    NETWORK: the shape code of the network, h = f_e(I).
    PRIOR: fitted to what was seen, under the model's prior over shapes.
    OBSERVED: the hull of what was seen of an unknown object; never certified.
    """

    LIBRARY = 0
    ACTIVE = 1
    NETWORK = 2
    PRIOR = 3
    OBSERVED = 4

    @property
    def text(self) -> str:
        """The name in messages and files."""
        return self.name.lower()


def source_of(shapes: Shapes, own: Shapes) -> Tensor:
    """Sources (B,) long of corrected shapes: the library by index, the network by its code.

    Args:
        shapes: (B,) of the corrector.
        own: (B,) of the network.
    """
    kept = (shapes.codes == own.codes).all(-1)
    outside = torch.where(kept, int(ShapeSource.NETWORK), int(ShapeSource.ACTIVE))
    return torch.where(shapes.index >= 0, int(ShapeSource.LIBRARY), outside)
