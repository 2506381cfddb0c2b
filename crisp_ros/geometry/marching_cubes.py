"""Marching cubes on a dense block of values: closed, consistently wound."""

from __future__ import annotations

from functools import cache
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_CORNERS = np.array([(c & 1, c >> 1 & 1, c >> 2 & 1) for c in range(8)])
# Edge 4 a + k runs along axis a from its lower corner; k counts the corners with bit a unset.
_EDGES = [(c, c | 1 << a) for a in range(3) for c in range(8) if not c >> a & 1]
_EDGE_OF = {frozenset(edge): index for index, edge in enumerate(_EDGES)}
_MIN_FRACTION = 1e-3  # vertices keep this distance from grid points, so that no face degenerates


class _CaseTable(NamedTuple):
    """Triangles of the 256 sign patterns: edges (T, 3), and the first of each pattern (257,)."""

    triangles: NDArray[np.int64]
    starts: NDArray[np.int64]


def triangulate(values: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Triangulate the zero level of values on a grid, negative inside.

    Two cells always cut their common face in the same way (inside corners are separated on an
    ambiguous face) and no diagonal is inside a face: every edge belongs to exactly two triangles.
    The surface is closed where the outermost layer of values is positive.

    Args:
        values: (X, Y, Z), finite.

    Returns:
        Vertices (V, 3) in grid units and faces (F, 3), counter-clockwise seen from outside.
    """
    inside = values < 0
    vertex_ids, vertices = _edge_vertices(values, inside)
    cells, cases = _cut_cells(inside)
    table = _case_table()
    counts = table.starts[cases + 1] - table.starts[cases]
    owner = np.repeat(np.arange(len(cells)), counts)
    ends = np.cumsum(counts)
    within = np.arange(len(owner)) - np.repeat(ends - counts, counts)
    edges = table.triangles[table.starts[cases[owner]] + within]
    lower = cells[owner, None] + _CORNERS[np.array(_EDGES)[edges, 0]]
    faces = vertex_ids[edges // 4, lower[..., 0], lower[..., 1], lower[..., 2]]
    return vertices, faces.astype(np.int32)


def _edge_vertices(
    values: NDArray[np.floating], inside: NDArray[np.bool_]
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Vertex numbers (3, X, Y, Z) of the cut grid edges, by axis and lower end, and vertices."""
    ids = np.full((3, *values.shape), -1, dtype=np.int32)
    vertices = []
    for axis in range(3):
        low = tuple(slice(None, -1) if a == axis else slice(None) for a in range(3))
        high = tuple(slice(1, None) if a == axis else slice(None) for a in range(3))
        cut = np.nonzero(inside[low] != inside[high])
        first = values[low][cut].astype(np.float64)
        second = values[high][cut].astype(np.float64)
        fraction = np.clip(first / (first - second), _MIN_FRACTION, 1 - _MIN_FRACTION)
        ids[(axis, *cut)] = np.arange(len(fraction)) + sum(len(v) for v in vertices)
        position = np.stack(cut, axis=-1).astype(np.float64)
        position[:, axis] += fraction
        vertices.append(position)
    return ids, np.concatenate(vertices)


def _cut_cells(inside: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Lower corners (C, 3) and sign patterns (C,) of the cells that the surface passes."""
    patterns = np.zeros(tuple(n - 1 for n in inside.shape), dtype=np.uint8)
    for corner, offset in enumerate(_CORNERS):
        window = tuple(slice(o, o + n) for o, n in zip(offset, patterns.shape, strict=True))
        patterns |= inside[window].astype(np.uint8) << np.uint8(corner)
    cut = np.nonzero((patterns != 0) & (patterns != 255))
    return np.stack(cut, axis=-1), patterns[cut].astype(np.int64)


@cache
def _case_table() -> _CaseTable:
    triangles: list[tuple[int, int, int]] = []
    starts = [0]
    for pattern in range(256):
        for loop in _loops(pattern):
            triangles += _without_face_diagonals(loop)
        starts.append(len(triangles))
    return _CaseTable(np.array(triangles), np.array(starts))


def _faces_of_the_cube() -> list[tuple[int, ...]]:
    """The four corners of each face, counter-clockwise seen from outside the cube."""
    faces = []
    for axis in range(3):
        u, v = 1 << (axis + 1) % 3, 1 << (axis + 2) % 3
        faces.append((1 << axis, 1 << axis | u, 1 << axis | u | v, 1 << axis | v))
        faces.append((0, v, u | v, u))
    return faces


_FACES = _faces_of_the_cube()


def _loops(pattern: int) -> list[list[int]]:
    """The closed chains of cut edges of a sign pattern (bit c: corner c is inside)."""
    following: dict[int, int] = {}
    for face in _FACES:
        signs = [pattern >> corner & 1 for corner in face]
        for i in range(4):
            if signs[i - 1] or not signs[i]:
                continue
            # Corner i starts a run of inside corners: connect the edges at its ends.
            j = i
            while signs[(j + 1) % 4]:
                j += 1
            begin = _EDGE_OF[frozenset((face[i - 1], face[i]))]
            end = _EDGE_OF[frozenset((face[j % 4], face[(j + 1) % 4]))]
            following[begin] = end
    loops = []
    while following:
        start, edge = following.popitem()
        loop = [start]
        while edge != start:
            loop.append(edge)
            edge = following.pop(edge)
        loops.append(loop)
    return loops


def _share_a_face(a: int, b: int) -> bool:
    return any(set(_EDGES[a] + _EDGES[b]) <= set(face) for face in _FACES)


def _without_face_diagonals(loop: list[int]) -> list[tuple[int, int, int]]:
    """A triangulation of a loop whose diagonals all run through the inside of the cell."""
    if len(loop) == 3:
        return [(loop[0], loop[1], loop[2])]
    for i, j in combinations(range(len(loop)), 2):
        if j - i in (1, len(loop) - 1) or _share_a_face(loop[i], loop[j]):
            continue
        try:
            return _without_face_diagonals(loop[i : j + 1]) + _without_face_diagonals(
                loop[j:] + loop[: i + 1]
            )
        except ValueError:
            continue
    raise ValueError(f"no admissible triangulation of the edges {loop}")
