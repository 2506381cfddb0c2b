"""Turns after which a shape looks the same to a depth camera, whatever is printed on it."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from crisp_ros.correction.correspondences import Shapes
from crisp_ros.correction.shape_field import DecoderField
from crisp_ros.correction.surface import surface_points
from crisp_ros.geometry.symmetry import rotational_symmetries
from crisp_ros.geometry.symmetry_group import SymmetryGroup, symmetry_group
from crisp_ros.network.decoder import ShapeDecoder
from crisp_ros.network.library import ShapeLibrary

_SURFACE_POINTS = 512


class LookAlikes:
    """The symmetries of the library's decoded surfaces; each is found once, when it is asked for.

    They hold more turns than `ShapeLibrary.symmetries`, which are those of the printed object.
    """

    def __init__(
        self, decoder: ShapeDecoder, library: ShapeLibrary, tolerance_m: float = 2.5e-3
    ) -> None:
        """Takes decoder and library into use.

        Args:
            decoder: f_d.
            library: the known shapes.
            tolerance_m: mean distance up to which a turned surface counts as the same, metres;
                decoded surfaces are not much more exact than its default.
        """
        self._decoder, self._library = decoder, library
        self._tolerance_m = tolerance_m
        self._groups: dict[int, SymmetryGroup] = {}

    def known(self, index: int) -> SymmetryGroup | None:
        """The group of a library shape if it was found before."""
        return self._groups.get(index)

    def find(self, index: int) -> SymmetryGroup:
        """The group of a library shape."""
        if index not in self._groups:
            self._groups[index] = self._found(index)
        return self._groups[index]

    @torch.no_grad()
    def _found(self, index: int) -> SymmetryGroup:
        row = slice(index, index + 1)
        code = self._library.codes[row]
        box = self._library.lower[row], self._library.upper[row]
        shape = Shapes(code, *box, torch.tensor([index]))
        surface = surface_points(DecoderField(self._decoder), shape, _SURFACE_POINTS)
        points = surface.points[surface.valid].double().cpu().numpy()
        if len(points) == 0:
            return symmetry_group(np.eye(4)[None])

        def distance(moved: NDArray[np.float64]) -> NDArray[np.float64]:
            x = torch.from_numpy(moved).to(code)[None]
            return self._decoder.sdf(x, code)[0].abs().double().cpu().numpy()

        return symmetry_group(rotational_symmetries(points, distance, self._tolerance_m))
