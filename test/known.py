"""The small decoder of the eight analytic shapes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from analytic import AnalyticShape, household
from safetensors.torch import load_file
from torch import Tensor

from crisp_ros.correction.correspondences import Shapes
from crisp_ros.correction.prepared_library import PreparedLibrary
from crisp_ros.correction.shape_field import DecoderField
from crisp_ros.network.decoder import ShapeDecoder
from crisp_ros.network.library import ShapeLibrary

_FILE = Path(__file__).parent / "correction" / "shapes.safetensors"


@dataclass(frozen=True)
class Known:
    """A decoder, its library, and the closed-form shapes of the codes in the library."""

    decoder: ShapeDecoder
    library: ShapeLibrary
    shapes: tuple[AnalyticShape, ...]

    @cached_property
    def field(self) -> DecoderField:
        """The decoder as a field."""
        return DecoderField(self.decoder)

    @cached_property
    def prepared(self) -> PreparedLibrary:
        """The prepared library; its surfaces and symmetries are found once for all tests."""
        return PreparedLibrary(self.field, self.library)

    def codes(self, *names: str) -> Tensor:
        """Return the codes (B, C) of shapes by name."""
        return self.library.codes[self._rows(names)]

    def shapes_of(self, *names: str) -> Shapes:
        """Return shapes (B,) by name, with boxes and indices."""
        return self.prepared.shapes(torch.tensor(self._rows(names), dtype=torch.long))

    def named(self, *names: str) -> list[AnalyticShape]:
        """Return closed-form shapes by name."""
        return [self.shapes[row] for row in self._rows(names)]

    def only(self, *names: str) -> Known:
        """Return the same decoder with a library of some of the shapes, in this order."""
        rows = self._rows(names)
        library = replace(
            self.library,
            names=names,
            codes=self.library.codes[rows],
            lower=self.library.lower[rows],
            upper=self.library.upper[rows],
            symmetries=tuple(self.library.symmetries[row] for row in rows),
            colors=tuple(self.library.colors[row] for row in rows),
        )
        return Known(self.decoder, library, tuple(self.named(*names)))

    def without(self, *names: str) -> Known:
        """Return the same decoder with a library of all shapes but these."""
        return self.only(*(name for name in self.library.names if name not in names))

    def _rows(self, names: tuple[str, ...]) -> list[int]:
        return [self.library.names.index(name) for name in names]


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
