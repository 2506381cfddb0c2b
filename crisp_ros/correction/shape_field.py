"""Signed distances to shapes, as solvers, certificate and meshing ask for them."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from crisp_ros.correction.correspondences import Shapes
from crisp_ros.geometry.cuda_graphs import run_captured
from crisp_ros.network.decoder import ShapeDecoder, SignedDistance

PREPARED_SHAPES = 64
"""At most, of a library whose shapes are all prepared at configuration, not at their first use."""


class ShapeField(Protocol):
    """Signed distances f_d(x | h) of shapes.

    Attributes:
        decoder: f_d itself, for what no field offers, such as gradients in the codes.
    """

    decoder: ShapeDecoder

    @property
    def capture_key(self) -> object | None:
        """Object that the distances depend on; None where evaluations wait for a GPU."""

    def sdf(self, points: Tensor, shapes: Shapes) -> Tensor:
        """Signed distances (..., N), metres, negative inside.

        Args:
            points: (..., N, 3) object frame, metres.
            shapes: of the points; leading dimensions broadcast against those of `points`.
        """

    def sdf_and_gradient(self, points: Tensor, shapes: Shapes) -> SignedDistance:
        """Signed distances and their spatial gradients; arguments as those of `sdf`."""

    def for_library(self) -> ShapeField:
        """A field for shapes of the library alone.

        On a GPU it does not wait to see which shapes they are.
        """


def captured_sdf(field: ShapeField, points: Tensor, shapes: Shapes) -> Tensor:
    """Signed distances as those of `ShapeField.sdf`, by a CUDA graph where that is possible.

    Args:
        field: f_d.
        points: (B, ..., N, 3) object frame, metres.
        shapes: of the points; (B, ...) or (1, ...).
    """
    return run_captured(_sdf, (field,), points, shapes)[0]


def _sdf(field: ShapeField, points: Tensor, shapes: Shapes) -> tuple[Tensor]:
    return (field.sdf(points, shapes),)


class DecoderField:
    """The shape decoder as a field."""

    def __init__(self, decoder: ShapeDecoder) -> None:
        self.decoder = decoder

    @property
    def capture_key(self) -> ShapeDecoder:
        """See `ShapeField`."""
        return self.decoder

    def sdf(self, points: Tensor, shapes: Shapes) -> Tensor:
        """See `ShapeField`."""
        return self.decoder.sdf(points, shapes.codes)

    def sdf_and_gradient(self, points: Tensor, shapes: Shapes) -> SignedDistance:
        """See `ShapeField`."""
        return self.decoder.sdf_and_gradient(points, shapes.codes)

    def for_library(self) -> DecoderField:
        """See `ShapeField`."""
        return self
