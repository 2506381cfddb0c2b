"""The connected parts of a mesh: loose scraps left out, each closed part oriented by itself."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import trimesh
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

# A part is a scrap if its share of the largest part's area and its distance from all else, as a
# share of the size of what is kept, are in one of these pairs: dust, or a fragment far away.
_SCRAPS = ((0.01, 0.01), (0.1, 0.5))
_ROUNDS = 5  # in which parts that touch what is kept are kept as well
_APART = 0.05  # of the size, from which parts that are kept are reported as separate


class LooseParts(NamedTuple):
    """Parts found by `without_scraps`, lengths in the mesh's unit.

    scraps: number of parts left out.
    scrap_size: the largest one's diagonal.
    scrap_distance: of the farthest one from all that is kept.
    separate: number of parts kept that stand apart from the largest one and what is next to it.
    separate_distance: of the farthest of these from there.
    """

    scraps: int = 0
    scrap_size: float = 0.0
    scrap_distance: float = 0.0
    separate: int = 0
    separate_distance: float = 0.0


def face_parts(vertices: NDArray[np.float64], faces: NDArray[np.int64]) -> NDArray[np.int64]:
    """The part (F,) of each face: parts are connected by corners at the same place."""
    # Seams of textures split vertices, so that only their places tell.
    place = np.unique(vertices.astype(np.float32), axis=0, return_inverse=True)[1].reshape(-1)
    return connected_parts(place[faces])


def connected_parts(faces: NDArray[np.int64]) -> NDArray[np.int64]:
    """The part (F,) of each face: parts are connected by the vertices that faces name."""
    count = int(faces.max()) + 1
    links = np.concatenate([faces[:, :2], faces[:, 1:]])
    graph = coo_array((np.ones(len(links), np.int8), links.T), shape=(count, count))
    part_of_vertex = connected_components(graph, directed=False)[1]
    return np.unique(part_of_vertex[faces[:, 0]], return_inverse=True)[1].reshape(-1)


def without_scraps(mesh: trimesh.Trimesh) -> tuple[trimesh.Trimesh, LooseParts]:
    """The mesh without loose scraps, such as dust of a scan or a triangle left behind.

    A scrap is a part that has less than 1 % of the area of the largest part and is farther from
    all that is kept than 1 % of its size (its box's diagonal), or less than 10 % and farther than
    half its size. What is inside the parts that are kept, such as a cavity, is no scrap.

    Args:
        mesh: any unit.
    """
    part = face_parts(mesh.vertices, mesh.faces)
    count = int(part.max()) + 1
    if count == 1:
        return mesh, LooseParts()
    areas = np.bincount(part, weights=mesh.area_faces, minlength=count)
    kept = areas >= max(share for share, _ in _SCRAPS) * areas.max()
    apart = np.zeros(count)
    for _ in range(_ROUNDS):
        if kept.all():
            break
        bare = _faces_of(mesh, kept[part])
        size = _size(bare.vertices)
        apart = np.where(kept, 0.0, _distances(mesh, part, ~kept, bare)) / max(size, 1e-300)
        near = ~kept
        for share, distance in _SCRAPS:
            near &= (areas >= share * areas.max()) | (apart <= distance)
        if not near.any():
            break
        kept |= near
    cleaned, found = mesh, LooseParts()
    if not kept.all():
        scraps = [mesh.vertices[np.unique(mesh.faces[part == p])] for p in np.flatnonzero(~kept)]
        found = LooseParts(
            len(scraps), max(_size(scrap) for scrap in scraps), float(apart[~kept].max() * size)
        )
        cleaned = mesh.copy()
        cleaned.update_faces(kept[part])
        cleaned.remove_unreferenced_vertices()
    return cleaned, _with_separate(mesh, part, kept, areas, found)


def _with_separate(
    mesh: trimesh.Trimesh,
    part: NDArray[np.int64],
    kept: NDArray[np.bool_],
    areas: NDArray[np.float64],
    found: LooseParts,
) -> LooseParts:
    """Add how many of the larger parts that are kept stand apart from the others."""
    rest = kept & (areas >= _SCRAPS[0][0] * areas.max())
    together = np.arange(len(areas)) == np.argmax(areas)
    rest &= ~together
    while rest.any():
        body = _faces_of(mesh, together[part])
        distance = _distances(mesh, part, rest, body)
        near = rest & (distance <= _APART * _size(body.vertices))
        if not near.any():
            far = float(distance[rest].max())
            return found._replace(separate=int(rest.sum()), separate_distance=far)
        together |= near
        rest &= ~near
    return found


def _distances(
    mesh: trimesh.Trimesh,
    part: NDArray[np.int64],
    which: NDArray[np.bool_],
    bare: trimesh.Trimesh,
) -> NDArray[np.float64]:
    """Compute distances (count,) of some parts from a surface; 0 inside it and for others."""
    import igl  # compiled: only reading a mesh to train on needs it

    vertices = np.ascontiguousarray(bare.vertices, np.float64)
    faces = np.ascontiguousarray(bare.faces, np.int64)
    rows = np.flatnonzero(which[part])
    corners = mesh.faces[rows]
    points = np.concatenate([mesh.vertices[corners], mesh.triangles_center[rows, None]], axis=1)
    points = np.ascontiguousarray(points.reshape(-1, 3))
    distance = np.sqrt(igl.point_mesh_squared_distance(points, vertices, faces)[0])
    inside = np.abs(igl.fast_winding_number(vertices, faces, points)) > 0.5
    nearest = np.full(len(which), np.inf)
    np.minimum.at(nearest, np.repeat(part[rows], 4), np.where(inside, 0.0, distance))
    return np.where(np.isfinite(nearest), nearest, 0.0)


def _faces_of(mesh: trimesh.Trimesh, chosen: NDArray[np.bool_]) -> trimesh.Trimesh:
    bare = trimesh.Trimesh(mesh.vertices, mesh.faces[chosen], process=False)
    bare.remove_unreferenced_vertices()
    return bare


def _size(vertices: NDArray[np.float64]) -> float:
    return float(np.linalg.norm(np.ptp(vertices, axis=0)))


class Orientation(NamedTuple):
    """Result of `orient_parts`.

    reversed_parts: parts that were inside out. parts: all of them. cavities: those that are one.
    nested: parts within another that are solid, so that they change nothing.
    """

    reversed_parts: int
    parts: int
    cavities: int
    nested: int


def orient_parts(mesh: trimesh.Trimesh) -> Orientation:
    """Turn each closed part's faces outwards, and keep cavities, in place.

    A part that no other contains faces outwards. A part inside another one is a cavity where the
    file has it face inwards, or the other way than the part around it, and stays one; otherwise it
    is a solid in a solid.

    Args:
        mesh: welded, closed; each part wound consistently.
    """
    part = connected_parts(mesh.faces)
    count = int(part.max()) + 1
    volume = np.bincount(part, _signed_volumes(mesh), count)
    positive = volume >= 0.0
    parent = _parents(mesh, part, volume) if count > 1 else np.array([-1])
    outward = np.ones(count, bool)
    for number in _outermost_first(parent):
        above = parent[number]
        if above >= 0:
            opposite = positive[number] != positive[above]
            outward[number] = not outward[above] if opposite else positive[number]
    wrong = outward != positive
    faces = np.array(mesh.faces)
    faces[wrong[part]] = faces[wrong[part]][:, ::-1]
    mesh.faces = faces
    inner = parent >= 0
    cavities = int((inner & ~outward).sum())
    return Orientation(int(wrong.sum()), count, cavities, int((inner & outward).sum()))


def _signed_volumes(mesh: trimesh.Trimesh) -> NDArray[np.float64]:
    """Compute signed volumes (F,) of the tetrahedra between faces and the mesh's centre."""
    a, b, c = np.moveaxis(np.asarray(mesh.triangles) - mesh.bounds.mean(axis=0), 1, 0)
    return np.einsum("fi,fi->f", a, np.cross(b, c)) / 6.0


def _parents(
    mesh: trimesh.Trimesh, part: NDArray[np.int64], volume: NDArray[np.float64]
) -> NDArray[np.int64]:
    """The smallest part (count,) around each part; -1 where there is none."""
    import igl

    count = len(volume)
    lower, upper = np.full((count, 3), np.inf), np.full((count, 3), -np.inf)
    np.minimum.at(lower, part, mesh.triangles.min(axis=1))
    np.maximum.at(upper, part, mesh.triangles.max(axis=1))
    parent = np.full(count, -1)
    first = np.array([mesh.vertices[mesh.faces[np.argmax(part == p)]][0] for p in range(count)])
    for outer in np.argsort(-np.abs(volume)):  # large ones first, so that the smallest is the last
        held = (lower >= lower[outer]).all(axis=1) & (upper <= upper[outer]).all(axis=1)
        held &= np.abs(volume) < np.abs(volume[outer])
        held = np.flatnonzero(held)
        if len(held) == 0:
            continue
        vertices = np.ascontiguousarray(mesh.vertices, np.float64)
        faces = np.ascontiguousarray(mesh.faces[part == outer], np.int64)
        winding = igl.winding_number(vertices, faces, np.ascontiguousarray(first[held]))
        parent[held[np.abs(winding) > 0.5]] = outer
    return parent


def _outermost_first(parent: NDArray[np.int64]) -> NDArray[np.int64]:
    depth = np.zeros(len(parent), int)
    above = parent.copy()
    while (above >= 0).any():
        depth[above >= 0] += 1
        above = np.where(above >= 0, parent[above], -1)
    return np.argsort(depth, kind="stable")
