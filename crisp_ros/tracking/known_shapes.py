"""Which library shape a code stands for, and its symmetries."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from crisp_ros.geometry.symmetry_group import SymmetryGroup, symmetry_group
from crisp_ros.network.library import ShapeLibrary

_ROUNDING = 1e-5  # relative difference of codes that were computed in another order


class KnownShapes:
    """The library's codes, prepared for look-ups on the host; empty without a library."""

    def __init__(self, library: ShapeLibrary | None, tolerance: float) -> None:
        """Prepares the look-ups.

        Args:
            library: the known shapes.
            tolerance: a code stands for the nearest library shape where it is nearer to it than
                this share of the way to that shape's own nearest neighbour.
        """
        self._codes: NDArray[np.float32] | None = None
        self._groups: list[SymmetryGroup] = []
        if library is None:
            return
        codes = library.codes.detach().float().cpu()
        norms = torch.linalg.norm(codes, dim=-1)
        apart = torch.cdist(codes, codes)
        apart.fill_diagonal_(torch.inf)
        spacing = torch.where(apart.amin(-1).isfinite(), apart.amin(-1), norms)
        self._codes = codes.numpy()
        self._reach = torch.maximum(tolerance * spacing, _ROUNDING * (1.0 + norms)).numpy()
        between = apart[apart.isfinite()]
        self._unit = float(between.median() if len(between) else norms.median())
        self._groups = [symmetry_group(s.detach().cpu().numpy()) for s in library.symmetries]

    def index(self, code: NDArray[np.float32]) -> int:
        """The library shape that a code (C,) stands for, or -1."""
        if self._codes is None:
            return -1
        apart = self._codes - code
        squares = np.einsum("ij,ij->i", apart, apart)
        nearest = int(squares.argmin())
        return nearest if squares[nearest] <= self._reach[nearest] ** 2 else -1

    def symmetries(self, index: int) -> SymmetryGroup | None:
        """The symmetries of a library shape; None for -1."""
        return self._groups[index] if index >= 0 else None

    def difference(self, a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
        """How different codes are, (A, B) in [0, 1], from codes (A, C) and (B, C).

        One is the median distance of two library shapes, or, without a library, the codes' length.
        """
        apart = cdist(a, b)
        if self._codes is None:
            lengths = np.linalg.norm(a, axis=-1)[:, None], np.linalg.norm(b, axis=-1)
            unit = np.maximum(*lengths)
        else:
            unit = self._unit
        return np.minimum(apart / np.maximum(unit, 1e-12), 1.0)
