"""The small decoder of the eight analytic shapes."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from analytic import AnalyticShape, household
from safetensors.torch import load_file
from torch import Tensor

from crisp_ros.network.decoder import ShapeDecoder
from crisp_ros.network.library import ShapeLibrary

_FILE = Path(__file__).parent / "correction" / "shapes.safetensors"


class Known(NamedTuple):
    """A decoder, its library, and the closed-form shapes of the codes in the library."""

    decoder: ShapeDecoder
    library: ShapeLibrary
    shapes: tuple[AnalyticShape, ...]

    def codes(self, *names: str) -> Tensor:
        """Return the codes (B, C) of shapes by name."""
        return self.library.codes[[self.library.names.index(name) for name in names]]

    def named(self, *names: str) -> list[AnalyticShape]:
        """Return closed-form shapes by name."""
        return [self.shapes[self.library.names.index(name)] for name in names]


def load_known() -> Known:
    """Load the decoder and codes that test/correction/fit_shapes.py fitted."""
    stored = load_file(_FILE)
    codes = stored.pop("codes").float()
    decoder = ShapeDecoder(hidden=stored["decoder.final_layer.weight"].shape[1])
    decoder.load_state_dict({n.removeprefix("decoder."): v.float() for n, v in stored.items()})
    decoder.eval().requires_grad_(False)
    shapes = household()
    library = ShapeLibrary(
        tuple(shape.name for shape in shapes),
        codes,
        torch.tensor([shape.lower for shape in shapes]),
        torch.tensor([shape.upper for shape in shapes]),
    )
    return Known(decoder, library, shapes)
