"""A field that counts its evaluations."""

from __future__ import annotations

from torch import Tensor

from crisp_ros.correction.correspondences import Shapes
from crisp_ros.correction.shape_field import ShapeField
from crisp_ros.network.decoder import SignedDistance


class CountingField:
    """Another field's signed distances.

    Attributes:
        decoder: of the other field.
        distances: number of points in each call of `sdf`.
        gradients: number of points in each call of `sdf_and_gradient`.
    """

    def __init__(self, field: ShapeField) -> None:
        self.decoder, self._field = field.decoder, field
        self.distances: list[int] = []
        self.gradients: list[int] = []

    @property
    def calls(self) -> int:
        """The number of calls of either kind."""
        return len(self.distances) + len(self.gradients)

    def sdf(self, points: Tensor, shapes: Shapes) -> Tensor:
        """See `ShapeField`."""
        self.distances.append(points.shape[:-1].numel())
        return self._field.sdf(points, shapes)

    def sdf_and_gradient(self, points: Tensor, shapes: Shapes) -> SignedDistance:
        """See `ShapeField`."""
        self.gradients.append(points.shape[:-1].numel())
        return self._field.sdf_and_gradient(points, shapes)
