"""Table of a shape's signed distances: cubic polynomials on the leaves of an octree."""

from __future__ import annotations

from itertools import combinations_with_replacement, permutations, product
from typing import NamedTuple

import torch
from torch import Tensor

from crisp_ros.network.decoder import ShapeDecoder

SCHEME = 1  # of the tables: to be raised whenever they change, so that old ones are made again
BAND_M = 0.02  # from the surface, on either side, in which a table is accurate
ACCURACY_M = 2e-4  # ... to this, or it is not used

_MARGIN_M = 0.024  # around the box; a decoder's distances are a little short of the true ones
_ROOT_EDGE_M = 0.008
_DEPTH = 2  # refinements of a root cell at most
_MOST_ROOTS = 60_000  # larger shapes get larger root cells
_MOST_LEAVES = 400_000
_CHUNK = 8192  # cells in the works at once, which bounds the memory
_TOLERANCE_M = 2e-5  # of a leaf's polynomial next to the surface
_TOLERANCE_SHARE = 0.0085  # ... and as a share of its edge, which bounds the gradient's error
_FAR_TOLERANCE = 4.0  # times that at the edge of the band
_EXACT_M = 0.003  # from the surface the tolerance does not grow yet

# A cubic polynomial is the form sum_ijk T_ijk X_i X_j X_k of X = (1, x, y, z) with a symmetric T.
# Its 20 different entries are kept, times three: then the form's slope is 3 T X X without a factor.
TRIPLES = tuple(combinations_with_replacement(range(4), 3))


class ShapeTable(NamedTuple):
    """A shape's signed distances on the leaves of an octree, see `tabulate`.

    In a leaf, with the coordinates x in [-1, 1] and X = (1, x, y, z), the signed distance in half
    edges of the leaf is sum_ijk T_ijk X_i X_j X_k.

    Attributes:
        frame: (4,) lower corner of the root cells' box, object frame, and a root cell's edge, m.
        roots: (3,) int64, root cells along each axis.
        level: (L,) uint8, refinements from a root cell to the leaf, ascending.
        cell: (L, 3) int16, the leaf's place among the cells of its level.
        entries: (L, 20) half, 3 T_ijk for the `TRIPLES` i <= j <= k.
    """

    frame: Tensor
    roots: Tensor
    level: Tensor
    cell: Tensor
    entries: Tensor

    @property
    def depth(self) -> int:
        """The level of the finest leaf."""
        return int(self.level[-1]) if len(self.level) > 0 else 0

    @property
    def finest_cells(self) -> int:
        """The number of cells of the finest level that fill the box."""
        return int(self.roots.prod()) * 8**self.depth

    def without_leaves(self) -> ShapeTable:
        """The table of a shape that cannot be tabulated."""
        return self._replace(level=self.level[:0], cell=self.cell[:0], entries=self.entries[:0])


@torch.no_grad()
def tabulate(decoder: ShapeDecoder, code: Tensor, lower: Tensor, upper: Tensor) -> ShapeTable:
    """Tabulate the signed distances of one shape in and around its box.

    The decoder is evaluated, with gradients, at the corners of the cells; a cell within the band
    around the surface is divided into eight where its polynomial misses the decoder at a few
    points inside. On the YCB-Video shapes the decoder is evaluated some 80,000 times a shape.

    Args:
        decoder: f_d.
        code: (C,).
        lower, upper: (3,) corners of the shape's box, object frame, metres.

    Returns:
        The table on the decoder's device; without leaves where the shape needs too many.
    """
    shape, fit = _Shape(decoder, code), _Fit.on(code.device)
    size = (upper - lower + 2 * _MARGIN_M).double()
    edge = max(_ROOT_EDGE_M, (float(size.prod()) / _MOST_ROOTS) ** (1 / 3))
    roots = (size / edge).ceil().long()
    origin = (lower + upper) / 2 - edge * roots / 2
    frame = torch.cat((origin, origin.new_tensor([edge]))).float()
    along = (torch.arange(n, dtype=torch.int32, device=code.device) for n in roots.tolist())
    cells = torch.cartesian_prod(*along)
    leaves: list[tuple[int, Tensor, Tensor]] = []
    for level in range(_DEPTH + 1):
        grid = _Level(frame[:3], edge / 2**level, (roots * 2**level).tolist())
        samples, corners = _sample(shape, grid, cells)
        divided = []
        for part, at in zip(cells.split(_CHUNK), corners.split(_CHUNK), strict=True):
            sampled = samples[at.long()]
            entries = sampled.flatten(1) @ fit.matrix
            inexact = torch.zeros_like(part[:, 0], dtype=torch.bool)
            if level < _DEPTH:
                inexact = _is_inexact(shape, grid, part, entries, sampled[..., 0], fit)
            leaves.append((level, part[~inexact].short(), entries[~inexact].half()))
            divided.append(part[inexact])
        cells = (2 * torch.cat(divided)[:, None] + fit.corners.int().clamp_min(0)).flatten(0, 1)
        if len(cells) == 0:
            break
        if len(cells) > _MOST_LEAVES:
            leaves = [(level, places[:0], entries[:0]) for level, places, entries in leaves]
            break
    levels = [torch.full_like(places[:, 0], level) for level, places, _ in leaves]
    return ShapeTable(
        frame,
        roots,
        torch.cat(levels).byte(),
        torch.cat([places for _, places, _ in leaves]),
        torch.cat([entries for _, _, entries in leaves]),
    )


class _Shape(NamedTuple):
    """A decoder and the code (C,) of the shape."""

    decoder: ShapeDecoder
    code: Tensor


class _Level(NamedTuple):
    """The cells of one level: lower corner (3,), their edge, metres, and their counts."""

    origin: Tensor
    edge: float
    counts: list[int]

    def points(self, cells: Tensor, places: Tensor) -> Tensor:
        """Points (M, P, 3) at places (P, 3) in [-1, 1] of cells (M, 3), metres."""
        return self.origin + self.edge * (cells[:, None] + 0.5 * (places + 1.0))


class _Fit(NamedTuple):
    """Constants of the fit of a polynomial to a cell.

    corners: (8, 3) of -1 and 1. probes: (5, 3) places at which it is checked. matrix: (32, 20) from
    value and slopes at each corner to the entries. values: (20, 13) from entries to the values at
    corners and probes. All in half edges of the cell.
    """

    corners: Tensor
    probes: Tensor
    matrix: Tensor
    values: Tensor

    @classmethod
    def on(cls, device: torch.device) -> _Fit:
        corners = torch.tensor(list(product((-1.0, 1.0), repeat=3)), dtype=torch.float64)
        probes = torch.cat((torch.zeros(1, 3), 0.5 * corners[corners.prod(-1) > 0]))
        # The 20 monomials and their slopes at the corners, (8, 4, 20); 32 equations for 20 terms.
        terms = torch.stack([_monomials(corners), *(_slopes(corners, a) for a in range(3))], 1)
        kinds = torch.tensor([len(set(permutations(triple))) for triple in TRIPLES]) / 3.0
        matrix = torch.linalg.pinv(terms.flatten(0, 1)) / kinds[:, None]
        values = kinds[:, None] * _monomials(torch.cat((corners, probes))).T
        return cls(
            *(part.to(device, torch.float32) for part in (corners, probes, matrix.T, values))
        )


def _monomials(x: Tensor) -> Tensor:
    """X_i X_j X_k (..., 20) of points (..., 3)."""
    X = torch.cat((torch.ones_like(x[..., :1]), x), dim=-1)
    return X[..., torch.tensor(TRIPLES)].prod(-1)


def _slopes(x: Tensor, axis: int) -> Tensor:
    """The monomials' slopes (..., 20) along an axis."""
    X = torch.cat((torch.ones_like(x[..., :1]), x), dim=-1)
    factors = X[..., torch.tensor(TRIPLES)]
    found = torch.zeros_like(factors[..., 0])
    for place in range(3):
        rest = [other for other in range(3) if other != place]
        is_axis = torch.tensor([triple[place] == axis + 1 for triple in TRIPLES])
        found += is_axis * factors[..., rest].prod(-1)
    return found


def _sample(shape: _Shape, grid: _Level, cells: Tensor) -> tuple[Tensor, Tensor]:
    """Samples (N, 4) of distance, in half edges, and gradient; those at the cells' corners (M, 8).

    Neighbours share corners: each is evaluated once.
    """
    _, y, z = (count + 1 for count in grid.counts)
    steps = [(i * y + j) * z + k for i, j, k in product(range(2), repeat=3)]
    corners = (cells * cells.new_tensor([y * z, z, 1])).sum(-1, keepdim=True, dtype=torch.int32)
    corners = corners + cells.new_tensor(steps)
    used = cells.new_zeros((grid.counts[0] + 1) * y * z)
    for part in corners.split(_CHUNK):
        used[part.flatten().long()] = 1
    nodes = used.nonzero().squeeze(-1)
    used[nodes] = torch.arange(len(nodes), dtype=used.dtype, device=used.device)
    at = torch.stack((nodes // (y * z), nodes // z % y, nodes % z), dim=-1)
    sdf, gradient = shape.decoder.sdf_and_gradient(grid.origin + grid.edge * at, shape.code)
    samples = torch.cat((sdf[:, None] * (2.0 / grid.edge), gradient), dim=-1)
    for part in corners.split(_CHUNK):
        part.copy_(used[part.long()])
    return samples, corners


def _is_inexact(
    shape: _Shape,
    grid: _Level,
    cells: Tensor,
    entries: Tensor,
    corners: Tensor,
    fit: _Fit,
) -> Tensor:
    """Test which cells (M,) near the surface are not described well enough by their polynomials.

    The entries are those of the polynomials (M, 20), the corners distances (M, 8) in half edges.
    """
    corners = corners * (grid.edge / 2)
    distance = corners.abs().amin(-1)
    beyond = ((distance - _EXACT_M) / (BAND_M - _EXACT_M)).clamp(0.0, 1.0)
    tolerance = min(_TOLERANCE_M, _TOLERANCE_SHARE * grid.edge)
    tolerance = tolerance * (1.0 + (_FAR_TOLERANCE - 1.0) * beyond)
    values = entries @ fit.values * (grid.edge / 2)
    near = distance < BAND_M + 0.6 * grid.edge
    inexact = near & ((values[:, :8] - corners).abs().amax(-1) > tolerance)
    rows = (near & ~inexact).nonzero().squeeze(-1)
    probes = grid.points(cells[rows], fit.probes)
    probed = shape.decoder.sdf(probes.flatten(0, 1), shape.code).view(probes.shape[:-1])
    error = (probed - values[rows, 8:]).abs().amax(-1)
    inexact[rows] = error > tolerance[rows]
    return inexact
