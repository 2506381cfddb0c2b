"""Tables of several shapes in one piece of memory, for batched evaluation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from crisp_ros.correction.shape_table import BAND_M, TRIPLES, ShapeTable
from crisp_ros.network.decoder import ShapeDecoder, SignedDistance

_ROW = 68  # 64 entries of T, the leaf's centre, and one that is not used
_CHECKED_POINTS = 4096  # in a table's box
_JUST_INSIDE = 1e-3  # of a finest cell, from the upper faces of the box


class PackedTables(NamedTuple):
    """Tables of K shapes, evaluated for all of them at once without a transfer to the host.

    Attributes:
        maps: (K, 8) from metres to finest cells: factor, shift (3); last place inside (3); and a
            third of a finest cell's edge, metres.
        strides: (K, 4) int64, of the finest cells (3), and where they begin in `leaves`.
        leaves: (G,) int32, for each finest cell the row of its leaf.
        rows: (R, 68) half, of each leaf 3 T (64) in finest cells, and its centre (3).
    """

    maps: Tensor
    strides: Tensor
    leaves: Tensor
    rows: Tensor

    @classmethod
    def of(cls, tables: Sequence[ShapeTable], device: torch.device | str = "cpu") -> PackedTables:
        """Pack tables, each with leaves, onto a device."""
        cells = [table.finest_cells for table in tables]
        counts = [len(table.level) for table in tables]
        packed = cls(
            torch.empty(len(tables), 8, device=device),
            torch.empty(len(tables), 4, dtype=torch.long, device=device),
            torch.empty(sum(cells), dtype=torch.int32, device=device),
            torch.empty(sum(counts), _ROW, dtype=torch.half, device=device),
        )
        # Shape by shape into its place: the tables are large.
        parts = zip(packed.leaves.split(cells), packed.rows.split(counts), strict=True)
        for i, (table, (leaves, rows)) in enumerate(zip(tables, parts, strict=True)):
            packed.maps[i], strides = _maps(table)
            packed.strides[i] = strides.to(device)
            packed.strides[i, 3] = sum(cells[:i])
            torch.add(_leaves(table).to(device), sum(counts[:i]), out=leaves)
            _write_rows(table, rows)
        return packed

    def sdf(self, points: Tensor, shapes: Tensor) -> Tensor:
        """Signed distances (..., N), metres; see `sdf_and_gradient`."""
        return self.sdf_and_gradient(points, shapes).sdf

    def sdf_and_gradient(self, points: Tensor, shapes: Tensor) -> SignedDistance:
        """Signed distances and their spatial gradient.

        Outside the box that a table covers, the distance to the box is added to the signed distance
        of the box's nearest point; the gradient is of that point. A point that is not finite has a
        signed distance that is not finite.

        Args:
            points: (..., N, 3) object frame, metres.
            shapes: (...) int64, which of the shapes; broadcasts against the leading dimensions of
                `points`. One out of range is not detected on a GPU.
        """
        maps, strides = self.maps[shapes][..., None, :], self.strides[shapes][..., None, :]
        place = torch.addcmul(maps[..., 1:4], points, maps[..., :1])
        # Unlike clamp, these replace NaN.
        inside = torch.fmin(torch.fmax(place, maps.new_zeros(())), maps[..., 4:7])
        number = (inside.long() * strides[..., :3]).sum(-1) + strides[..., 3]
        row = self.leaves.index_select(0, number.flatten())
        row = self.rows.index_select(0, row).to(place.dtype)
        x = inside.reshape(-1, 3) - row[:, 64:67]
        X = pad(x, (1, 0), value=1.0)[..., None]
        TX = torch.bmm(row[:, :64].unflatten(-1, (16, 4)), X)
        TXX = torch.bmm(TX.view(-1, 4, 4), X)
        TXXX = torch.bmm(TXX.transpose(-1, -2), X).view(number.shape)
        outside = torch.linalg.vector_norm(place - inside, dim=-1)
        sdf = torch.add(TXXX, outside, alpha=3.0) * maps[..., 7]
        return SignedDistance(sdf, TXX[:, 1:].reshape(inside.shape))


@torch.no_grad()
def table_error(decoder: ShapeDecoder, code: Tensor, table: ShapeTable) -> float:
    """The largest error of a shape's table at some points near the surface, metres.

    Args:
        decoder: f_d, on the table's device.
        code: (C,) the shape.
        table: of it; without leaves the error is infinite.
    """
    if len(table.level) == 0:
        return math.inf
    share = torch.rand(_CHECKED_POINTS, 3, generator=torch.Generator().manual_seed(0))
    points = table.frame[:3] + share.to(code) * table.roots * table.frame[3]
    exact = decoder.sdf(points, code)
    packed = PackedTables.of([table], code.device)
    error = (packed.sdf(points, torch.zeros_like(table.roots[0])) - exact).abs()
    return float(torch.where(exact.abs() < BAND_M, error, 0.0).amax())


def packed_bytes(table: ShapeTable) -> int:
    """The memory that a table takes when it is packed."""
    return 2 * _ROW * len(table.level) + 4 * table.finest_cells


def _maps(table: ShapeTable) -> tuple[Tensor, Tensor]:
    """A table's `maps` (8,) and `strides` (4,), beginning at zero."""
    origin, edge = table.frame[:3], table.frame[3:] / 2**table.depth
    counts = table.roots * 2**table.depth
    maps = torch.cat((1.0 / edge, -origin / edge, counts - _JUST_INSIDE, edge / 3.0))
    one = torch.ones_like(counts[0])
    return maps, torch.stack((counts[1] * counts[2], counts[2], one, 0 * one))


def _leaves(table: ShapeTable) -> Tensor:
    """The leaf (G,) of each finest cell, int32."""
    numbers = table.roots.new_zeros(table.roots.tolist(), dtype=torch.int32)
    rows = torch.arange(len(table.level), dtype=torch.int32, device=numbers.device)
    for level in range(table.depth + 1):
        if level > 0:
            for axis in range(3):
                numbers = numbers.repeat_interleave(2, dim=axis)
        here = table.level == level
        numbers[tuple(table.cell[here].long().T)] = rows[here]
    return numbers.flatten()


def _write_rows(table: ShapeTable, rows: Tensor) -> None:
    """Write the leaves' `rows` (L, 68)."""
    # From half edges of the leaf to finest cells; powers of two, which leave the entries exact.
    half = 2.0 ** (table.depth - 1 - table.level.to(table.entries))[:, None]
    device = half.device
    degree = torch.tensor([sum(i > 0 for i in triple) for triple in TRIPLES], device=device)
    entries = table.entries * half ** (1 - degree)
    place = {triple: i for i, triple in enumerate(TRIPLES)}
    index = [place[tuple(sorted(triple))] for triple in product(range(4), repeat=3)]
    rows[:, :64] = entries[:, torch.tensor(index, device=device)]
    rows[:, 64:67] = half * (2 * table.cell + 1)
    rows[:, 67:] = 0.0
