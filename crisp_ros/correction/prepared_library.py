"""The shape library in use: its shapes with all that is derived from them, each thing once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property

import torch
from torch import Tensor

from crisp_ros.correction.appearance import PrintedSurface, printed_surface
from crisp_ros.correction.batch import replace_rows, select_rows, take_rows
from crisp_ros.correction.correspondences import Shapes
from crisp_ros.correction.shape_field import PREPARED_SHAPES, ShapeField
from crisp_ros.correction.similar_shapes import shapes_near_in_size, similar_shapes
from crisp_ros.correction.surface import SurfacePoints, surface_points
from crisp_ros.correction.symmetry_motions import (
    OrientationMotions,
    SymmetryKind,
    SymmetryMotions,
    orientation_motions,
    symmetry_motions,
)
from crisp_ros.geometry.chamfer import pairwise_distances
from crisp_ros.geometry.cuda_graphs import run_captured
from crisp_ros.geometry.symmetry_group import SymmetryGroup, symmetry_group
from crisp_ros.network.library import ShapeLibrary

_VERTEX = 1.0 - 1e-6  # coefficient from which on a combination is one shape alone


class PreparedLibrary:
    """K known shapes, ready for solvers, verification and tracking.

    Surfaces and symmetries are found when they are first asked for, or all at once by `prepare`; of
    a library of more than 64 shapes, those of one shape at a time.

    Attributes:
        library: the shapes as the model file has them.
        names: K distinct names.
        codes: (K, C) shape codes.
        all_shapes: the K shapes with boxes and indices.
        diameters: (K,) diagonals of the boxes, metres: 1 / d_k of eq. (10).
    """

    def __init__(self, field: ShapeField, library: ShapeLibrary) -> None:
        """Take a library into use.

        Args:
            field: f_d, on the device of the library.
            library: the known shapes.
        """
        self.library, self._field = library, field
        self.names, self.codes = library.names, library.codes
        index = torch.arange(len(library), device=library.codes.device)
        self.all_shapes = Shapes(library.codes, library.lower, library.upper, index)
        self.diameters = library.diameters
        self._surfaces: SurfacePoints | None = None
        self._with_surface: set[int] = set()
        self._motions: dict[int, SymmetryMotions] = {}
        self._near: dict[int, Tensor] = {}
        self._similar: dict[int, tuple[int, ...]] = {}
        self._distances: dict[tuple[int, int], float] = {}  # of similar shapes and others
        self._orientations: dict[int, OrientationMotions] = {}
        self._printed: dict[int, PrintedSurface | None] = {}
        self._groups: dict[tuple[int, SymmetryKind], SymmetryGroup] = {}

    @property
    def capture_key(self) -> ShapeLibrary:
        """Object that results for given shapes depend on; see `run_captured`."""
        return self.library

    @cached_property
    def trained(self) -> PreparedLibrary:
        """The shapes that the network knows, with the same indices; itself where it knows all."""
        if self.library.added == 0:
            return self
        return PreparedLibrary(self._field, self.library.trained)

    def __len__(self) -> int:
        return len(self.names)

    def prepare(
        self,
        on_shape: Callable[[int, int], None] = lambda done, total: None,
        printed: bool = True,
    ) -> None:
        """Find surfaces, symmetries and similar shapes of all, about 0.1 s a shape, and prints.

        Nothing is found for a library of more than 64 shapes, of which a scene shows a few. The
        print of a shape without symmetries is not needed: it has one orientation alone.

        Args:
            on_shape: called after every shape with the number done and K.
            printed: whether the prints are wanted.
        """
        if self._is_large:
            return
        for index in range(len(self)):
            unclear = self.motions(index).kinds > SymmetryKind.EXACT
            if printed and bool(unclear.any()):
                self.printed_surface(index)
            self.similar(index)
            if self.trained is not self and index < len(self.trained):
                self.trained.similar(index)
            on_shape(index + 1, len(self))

    def shapes(self, index: Tensor) -> Shapes:
        """The library shapes of indices (...,)."""
        return take_rows(self.all_shapes, index)

    @property
    def surfaces(self) -> SurfacePoints:
        """Points on all shapes, (K, M, 3)."""
        return self._surfaces_with(range(len(self)))

    @property
    def _is_large(self) -> bool:
        return len(self) > PREPARED_SHAPES

    def _surfaces_with(self, indices: Iterable[int]) -> SurfacePoints:
        """Points (K, M, 3) on some shapes at least; without valid points on those not yet found."""
        missing = sorted(set(indices) - self._with_surface)
        if missing:
            which = torch.tensor(missing, device=self.codes.device)
            found = surface_points(self._field, take_rows(self.all_shapes, which))
            if len(missing) < len(self):
                before = self._surfaces
                if before is None:
                    parts = (part.new_zeros(len(self), *part.shape[1:]) for part in found)
                    before = SurfacePoints(*parts)
                found = replace_rows(before, which, found)
            self._surfaces = found
            self._with_surface.update(missing)
        return self._surfaces

    def motions(self, index: int) -> SymmetryMotions:
        """The symmetries of a library shape, of every kind."""
        if index not in self._motions:
            asked = (index,) if self._is_large else range(len(self))
            points, valid = self._surfaces_with(asked)
            self._motions[index] = symmetry_motions(
                self._field,
                take_rows(self.all_shapes, torch.tensor(index)),
                points[index][valid[index]],
                self.library.symmetries[index],
            )
        return self._motions[index]

    def near_symmetries(self, index: int) -> Tensor:
        """The near symmetries (M, 4, 4) of a library shape."""
        if index not in self._near:
            self._near[index] = self.motions(index).of_kind(SymmetryKind.NEAR)
        return self._near[index]

    def similar(self, index: int) -> tuple[int, ...]:
        """The library shapes that are easily taken for one of them, see `similar_shapes`."""
        if index not in self._similar:
            near = shapes_near_in_size(self.diameters / self.diameters[index], index)
            asked = (index, *near) if self._is_large else range(len(self))
            surfaces = self._surfaces_with(asked)
            self._similar[index] = similar_shapes(
                self._field, self.all_shapes, surfaces, index, self._distances
            )
        return self._similar[index]

    def orientations(self, index: int) -> OrientationMotions:
        """The motions among which the print of a library shape decides."""
        if index not in self._orientations:
            self._orientations[index] = orientation_motions(self.motions(index))
        return self._orientations[index]

    def printed_surface(self, index: int) -> PrintedSurface | None:
        """The print of a library shape; None where its colours are not known."""
        if index not in self._printed:
            colors = self.library.colors[index]
            shape = take_rows(self.all_shapes, torch.tensor(index))
            self._printed[index] = (
                None if colors is None else printed_surface(self._field, shape, colors)
            )
        return self._printed[index]

    def symmetry_group(self, index: int, kind: SymmetryKind) -> SymmetryGroup:
        """The symmetries of a library shape up to a kind, on the host, with continuous axes.

        Those that leave the print in place as well are known without a search.
        """
        if (index, kind) not in self._groups:
            exact = kind is SymmetryKind.EXACT
            found = self.library.symmetries[index] if exact else self.motions(index).up_to(kind)
            self._groups[index, kind] = symmetry_group(found.detach().cpu().numpy())
        return self._groups[index, kind]

    def distances(self, codes: Tensor) -> Tensor:
        """Distances (B, K) of the network's codes (B, C) to those of the library."""
        return pairwise_distances(codes, self.codes)

    def nearest(self, codes: Tensor, count: int) -> Shapes:
        """The library shapes (B, M) with the codes nearest to codes (B, C); all where K <= count.

        Args:
            codes: (B, C).
            count: M at most.
        """
        if len(self) <= count:
            return Shapes(*(part.expand(len(codes), *part.shape) for part in self.all_shapes))
        # In the library's order, so that a larger count changes nothing of an equal choice.
        index = self.distances(codes).topk(count, dim=-1, largest=False).indices
        return self.shapes(index.sort(-1).values)

    def columns(self, own: Shapes, own_code: bool, count: int) -> Shapes:
        """The columns of eq. (9): M library shapes, see `nearest`, and maybe the network's own.

        An own shape without a box gets that of the library shape with the nearest code.

        Args:
            own: (B,) the network's shapes.
            own_code: whether these are a column, then the last of (B, M + 1).
            count: M at most.
        """
        columns = self.nearest(own.codes, count)
        if not own_code:
            return columns
        nearest = self.shapes(self.distances(own.codes).argmin(-1))
        lower = torch.where(own.lower.isnan(), nearest.lower, own.lower)
        upper = torch.where(own.upper.isnan(), nearest.upper, own.upper)
        last = Shapes(own.codes, lower, upper, torch.full_like(own.index, -1))
        return Shapes(
            *(torch.cat((a, b[:, None]), dim=1) for a, b in zip(columns, last, strict=True))
        )

    def mixture(self, coefficients: Tensor, columns: Shapes, own: Shapes) -> Shapes:
        """Convex combinations A c of columns; a library shape, or the own one, at a vertex.

        The box of a combination is not known.

        Args:
            coefficients: (B, M).
            columns: (B, M) of `columns`.
            own: (B,) the network's shapes.
        """
        most = coefficients.max(-1)
        rows = torch.arange(len(most.indices), device=most.indices.device)
        vertex = Shapes(*(part[rows, most.indices] for part in columns))
        vertex = select_rows(vertex.index < 0, own, vertex)
        mixed = Shapes.of_codes((coefficients[:, None] @ columns.codes).squeeze(1))
        return select_rows(most.values >= _VERTEX, vertex, mixed)

    def surfaces_of(self, shapes: Shapes, outside: Sequence[int] | None = None) -> SurfacePoints:
        """Points on shapes (B,) with boxes; those of library shapes are found once for all.

        Args:
            shapes: B of them.
            outside: those that are not of the library, if they are at hand on the host.
        """
        index = shapes.index.clamp_min(0)
        asked = index.flatten().tolist() if self._is_large else range(len(self))
        found = self._surfaces_with(asked).rows(index)
        if outside is None:
            rows = (shapes.index < 0).nonzero().squeeze(-1)
        else:
            rows = torch.tensor(outside, dtype=torch.long, device=shapes.index.device)
        if len(rows) == 0:
            return found
        new = run_captured(surface_points, (self._field,), shapes.rows(rows))
        return replace_rows(found, rows, new)
