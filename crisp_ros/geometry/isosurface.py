"""Iso-surface extraction from signed distance functions, evaluated near the surface only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from crisp_ros.geometry.marching_cubes import triangulate

SignedDistanceFunction = Callable[[Tensor, Tensor], Tensor]

_REFINEMENTS = 3  # the coarsest grid has an eighth of the voxels along each axis


@dataclass(frozen=True, eq=False)
class TriangleMesh:
    """A closed surface in the object frame.

    Attributes:
        vertices: (V, 3) float32 metres.
        faces: (F, 3) int32, counter-clockwise seen from outside. No vertices and no faces where
            the function had no surface inside the box.
    """

    vertices: NDArray[np.float32]
    faces: NDArray[np.int32]

    @property
    def is_empty(self) -> bool:
        """Whether there is no surface at all."""
        return len(self.faces) == 0


@dataclass(frozen=True)
class IsosurfaceSettings:
    """Settings of `extract_meshes`.

    Attributes:
        voxels: cubic voxels along the longest edge of the box with its margins.
        margin: added to the box on each side, as a share of its longest edge.
        band: grid points whose value, interpolated from the coarser grid, is within this many
            voxel edges of zero are evaluated (half as many on the finest grid).
        min_component: pieces with less than this share of the largest piece's area are dropped.
    """

    voxels: int = 64
    margin: float = 0.05
    band: float = 1.5
    min_component: float = 0.03

    def __post_init__(self) -> None:
        if self.voxels < 8:
            raise ValueError(f"voxels is {self.voxels}, expected at least 8")
        if not (self.margin >= 0 and self.band > 0 and 0 <= self.min_component < 1):
            raise ValueError(
                f"margin {self.margin}, band {self.band}, min_component {self.min_component}: "
                "expected margin >= 0, band > 0 and min_component in [0, 1)"
            )


@torch.no_grad()
def extract_meshes(
    sdf: SignedDistanceFunction,
    lower: Tensor,
    upper: Tensor,
    settings: IsosurfaceSettings | None = None,
) -> list[TriangleMesh]:
    """Extract the zero level sets of several signed distance functions, one `sdf` call per step.

    A coarse grid is evaluated in full and refined three times. A finer grid inherits the coarser
    values by interpolation and is evaluated where they are near zero and, until nothing changes,
    at both ends of every grid edge on which the sign changes: the mesh is that of the
    full grid, except for details between the coarser samples.

    Args:
        sdf: maps points (M, 3), metres, and the index (M,) of each point's shape, in ascending
            order, to signed distances (M,), negative inside. Values that are not finite count
            as outside.
        lower: (B, 3) lower corner of each shape's box, object frame, metres.
        upper: (B, 3) upper corner.
        settings: see `IsosurfaceSettings`.

    Returns:
        B watertight meshes; a surface that leaves the box with its margin is closed there.

    Raises:
        ValueError: where a box is empty or not finite.
    """
    settings = settings or IsosurfaceSettings()
    if not (torch.isfinite(lower).all() and torch.isfinite(upper).all() and (lower < upper).all()):
        raise ValueError(
            f"boxes from {lower.tolist()} to {upper.tolist()}: expected finite lower < upper"
        )
    if len(lower) == 0:
        return []
    grid = _Grid.around(lower, upper, settings)
    values = grid.sample(sdf, settings.band)
    meshes = []
    for block, origin, edge in zip(
        values.cpu().numpy(), grid.origin.tolist(), grid.edge.tolist(), strict=True
    ):
        vertices, faces = triangulate(block)
        vertices, faces = largest_pieces(vertices, faces, settings.min_component)
        metres = (np.asarray(origin) + edge * vertices).astype(np.float32)
        meshes.append(TriangleMesh(metres, faces))
    return meshes


@dataclass(frozen=True)
class _Grid:
    """Grids of cubic voxels, the same number for every shape; position = origin + edge * index.

    Attributes:
        origin: (B, 3) metres.
        edge: (B,) metres, at the finest level.
        cells: along each axis.
    """

    origin: Tensor
    edge: Tensor
    cells: tuple[int, int, int]

    @classmethod
    def around(cls, lower: Tensor, upper: Tensor, settings: IsosurfaceSettings) -> _Grid:
        longest = (upper - lower).amax(-1, keepdim=True)
        size = upper - lower + 2 * settings.margin * longest
        edge = size.amax(-1) / settings.voxels
        step = 2**_REFINEMENTS
        needed = (size / edge[:, None] / step - 1e-4).ceil().amax(0) * step
        x, y, z = (int(n) for n in needed.tolist())
        middle = (lower + upper) / 2
        origin = middle - edge[:, None] * needed / 2
        return cls(origin, edge, (x, y, z))

    def sample(self, sdf: SignedDistanceFunction, band: float) -> Tensor:
        """Values (B, X + 1, Y + 1, Z + 1) at the finest level, positive on the outer layer."""
        step = 2**_REFINEMENTS
        shape = (len(self.origin), *(n // step + 1 for n in self.cells))
        exact = torch.zeros(shape, dtype=torch.bool, device=self.origin.device)
        values = self.origin.new_zeros(shape)
        self._evaluate(sdf, ~exact, step, values, exact)
        for level in reversed(range(_REFINEMENTS)):
            step = 2**level
            values, exact = _interpolated(values), _refine_flags(exact)
            # A thin wall or a handle between samples shows as small values of one sign. On the
            # finest level such details are thinner than a voxel, so that half the band is enough.
            reach = band * step * self.edge * (1.0 if level > 0 else 0.5)
            near = values.abs() < reach[:, None, None, None]
            self._evaluate(sdf, near & ~exact, step, values, exact)
            while (missing := _sign_changes(values) & ~exact).any():
                self._evaluate(sdf, missing, step, values, exact)
        for axis in range(1, 4):
            for end in (0, -1):
                layer = values.select(axis, end)
                torch.maximum(layer, 0.5 * self.edge[:, None, None], out=layer)
        return values

    def _evaluate(
        self, sdf: SignedDistanceFunction, wanted: Tensor, step: int, values: Tensor, exact: Tensor
    ) -> None:
        """Fill `values`, and mark `exact`, at the wanted grid points of one level."""
        shape_index, *position = wanted.nonzero(as_tuple=True)
        if len(shape_index) == 0:
            return
        offset = step * torch.stack(position, dim=-1).to(self.edge.dtype)
        points = self.origin[shape_index] + self.edge[shape_index, None] * offset
        found = sdf(points, shape_index).to(values.dtype)
        outside = (16.0 * self.edge)[shape_index]
        values[wanted] = torch.where(torch.isfinite(found), found, outside)
        exact[wanted] = True


def _interpolated(values: Tensor) -> Tensor:
    """Values (B, X, Y, Z) at twice the resolution, (B, 2X - 1, 2Y - 1, 2Z - 1), trilinear."""
    for axis in range(1, 4):
        count = values.shape[axis]
        between = (values.narrow(axis, 0, count - 1) + values.narrow(axis, 1, count - 1)) / 2
        shape = list(values.shape)
        shape[axis] = 2 * count - 1
        finer = values.new_empty(shape)
        index = [slice(None)] * 4
        index[axis] = slice(0, None, 2)
        finer[tuple(index)] = values
        index[axis] = slice(1, None, 2)
        finer[tuple(index)] = between
        values = finer
    return values


def _refine_flags(exact: Tensor) -> Tensor:
    """Copy the flags of a grid's points to the grid of twice the resolution."""
    shape = [exact.shape[0], *(2 * n - 1 for n in exact.shape[1:])]
    finer = torch.zeros(shape, dtype=torch.bool, device=exact.device)
    finer[:, ::2, ::2, ::2] = exact
    return finer


def _sign_changes(values: Tensor) -> Tensor:
    """Whether a neighbour along an axis has the other sign, for every grid point."""
    inside = values < 0
    changes = torch.zeros_like(inside)
    for axis in range(1, 4):
        count = inside.shape[axis]
        differ = inside.narrow(axis, 0, count - 1) != inside.narrow(axis, 1, count - 1)
        changes.narrow(axis, 0, count - 1).logical_or_(differ)
        changes.narrow(axis, 1, count - 1).logical_or_(differ)
    return changes


def largest_pieces(
    vertices: NDArray[np.float64], faces: NDArray[np.int32], min_share: float
) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Remove small unconnected pieces of a surface, artefacts of a learned function.

    Args:
        vertices: (V, 3).
        faces: (F, 3).
        min_share: least area of a piece that is kept, as a share of that of the largest piece.
    """
    if len(faces) == 0:
        return vertices, faces
    count = len(vertices)
    ones = np.ones(2 * len(faces), dtype=bool)
    links = (faces[:, [0, 1]].ravel(), faces[:, [1, 2]].ravel())
    pieces, label = connected_components(coo_array((ones, links), shape=(count, count)), False)
    if pieces == 1:
        return vertices, faces
    corners = vertices[faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    piece_of_face = label[faces[:, 0]]
    area = np.bincount(piece_of_face, np.linalg.norm(normals, axis=1), pieces)
    kept = area >= min_share * area.max()
    faces = faces[kept[piece_of_face]]
    used = kept[label]
    renumbered = np.cumsum(used) - 1
    return vertices[used], renumbered[faces].astype(np.int32)
