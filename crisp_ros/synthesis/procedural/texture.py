"""Puts pictures onto a mesh of painted parts: charts, one texture for all, and its coordinates."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
import trimesh
from numpy.typing import NDArray
from PIL import Image as PillowImage
from trimesh.visual import TextureVisuals
from trimesh.visual.material import SimpleMaterial

from .blueprint import Finish, Wrap
from .prints import Image, Palette, brand_name, material, printed, worn

TEXTURE_PX = 512  # side of a texture
_PX_PER_M = 1200.0
_GAP_PX = 2
_WRAP_MARGIN = 0.25  # of the circumference, repeated beyond the seam for faces that cross it
_TOP = 0.75  # cosine from which a face of a round part belongs to its top or bottom
_SIDES = ((0, 1, 2), (1, 0, 2), (2, 0, 1))  # axis across a side; its horizontal and vertical axes


class Surface(NamedTuple):
    """The faces of one part of a mesh, and what covers them.

    Attributes:
        faces: (F,) their numbers.
        finish: see `Part`.
        wrap: see `Part`.
    """

    faces: NDArray[np.int64]
    finish: Finish
    wrap: Wrap


class _Chart(NamedTuple):
    """Faces that one picture covers.

    Attributes:
        faces: (F,) their numbers.
        uv: (F, 3, 2) of their corners on the picture, 0 to 1, v upwards.
        size_m: width and height of the picture on the surface, metres.
        finish: see `Part`.
        copies: whether the picture's last quarter repeats its first one.
    """

    faces: NDArray[np.int64]
    uv: NDArray[np.float64]
    size_m: tuple[float, float]
    finish: Finish
    copies: bool


def textured(
    mesh: trimesh.Trimesh, surfaces: list[Surface], rng: np.random.Generator
) -> trimesh.Trimesh:
    """A mesh with one texture, its vertices split where charts meet.

    Args:
        mesh: closed, metres, z up.
        surfaces: share out all of its faces.
        rng: draws the pictures.
    """
    charts = [chart for surface in surfaces for chart in _charts(mesh, surface)]
    palette, brand = Palette(rng), brand_name(rng)
    pictures = _pictures(charts, palette, brand, rng)
    atlas, spots = _packed(pictures)
    corner_uv = np.zeros((len(mesh.faces), 3, 2))
    group = np.zeros(len(mesh.faces), int)
    for number, (chart, (left, top, width, height)) in enumerate(zip(charts, spots, strict=True)):
        pixels = np.array([left + 0.5, top + 0.5]) + np.stack(
            [chart.uv[..., 0] * (width - 1), (1.0 - chart.uv[..., 1]) * (height - 1)], axis=-1
        )
        corner_uv[chart.faces] = pixels / TEXTURE_PX
        group[chart.faces] = number
    corner_uv[..., 1] = 1.0 - corner_uv[..., 1]
    return _split(mesh, corner_uv, group, atlas)


def _split(
    mesh: trimesh.Trimesh, uv: NDArray[np.float64], group: NDArray[np.int64], atlas: Image
) -> trimesh.Trimesh:
    """The mesh whose corners share a vertex only within a chart and at the same coordinates."""
    keys = np.column_stack(
        [
            mesh.faces.ravel(),
            np.repeat(group, 3),
            np.rint(uv.reshape(-1, 2) * 8 * TEXTURE_PX).astype(int),
        ]
    )
    _, first, corner = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    visual = TextureVisuals(
        uv=uv.reshape(-1, 2)[first],
        material=SimpleMaterial(image=PillowImage.fromarray(atlas)),
    )
    vertices = np.asarray(mesh.vertices)[mesh.faces.ravel()[first]]
    return trimesh.Trimesh(vertices, corner.reshape(-1, 3), visual=visual, process=False)


def _charts(mesh: trimesh.Trimesh, surface: Surface) -> list[_Chart]:
    if len(surface.faces) == 0:
        return []
    corners = np.asarray(mesh.triangles)[surface.faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-30)
    lower, upper = corners.min((0, 1)), corners.max((0, 1))
    if surface.wrap == "cylinder":
        ends = np.abs(normals[:, 2]) > _TOP
        side = surface.faces[~ends], corners[~ends]
        charts = [_around(*side, surface.finish)] if (~ends).any() else []
    else:
        ends, charts = np.ones(len(normals), bool), []
    axis = np.abs(normals).argmax(1)
    positive = np.take_along_axis(normals, axis[:, None], 1)[:, 0] > 0
    if surface.wrap == "cylinder":  # slanting faces of an end belong to it as well
        axis, positive = np.full(len(axis), 2), normals[:, 2] > 0
    for across, right, up in _SIDES:
        for outward in (False, True):
            chosen = ends & (axis == across) & (positive == outward)
            if not chosen.any():
                continue
            size = np.maximum(upper - lower, 1e-9)[[right, up]]
            flat = (corners[chosen][..., [right, up]] - lower[[right, up]]) / size
            if outward == (across == 1):
                flat[..., 0] = 1.0 - flat[..., 0]  # so that writing reads from outside
            size_m = (float(size[0]), float(size[1]))
            charts.append(_Chart(surface.faces[chosen], flat, size_m, surface.finish, False))
    return charts


def _around(faces: NDArray[np.int64], corners: NDArray[np.float64], finish: Finish) -> _Chart:
    """The chart that goes around the z axis; u grows to the right as seen from outside."""
    angle = np.arctan2(corners[..., 1], corners[..., 0]) / (2 * np.pi) + 0.5
    on_axis = np.hypot(corners[..., 0], corners[..., 1]) < 1e-6
    middle = corners[..., :2].mean(1)
    own = np.arctan2(middle[:, 1], middle[:, 0]) / (2 * np.pi) + 0.5
    angle = np.where(on_axis, own[:, None], angle)
    crosses = np.ptp(angle, axis=1) > 0.5
    angle = np.where(crosses[:, None] & (angle < 0.5), angle + 1.0, angle)
    low, high = corners[..., 2].min(), corners[..., 2].max()
    upward = (corners[..., 2] - low) / max(high - low, 1e-9)
    uv = np.stack([np.clip(angle / (1.0 + _WRAP_MARGIN), 0, 1), upward], axis=-1)
    radius = np.hypot(corners[..., 0], corners[..., 1]).max()
    size = (2 * np.pi * radius * (1.0 + _WRAP_MARGIN), high - low)
    return _Chart(faces, uv, size, finish, True)


def _pictures(
    charts: list[_Chart], palette: Palette, brand: str, rng: np.random.Generator
) -> list[Image]:
    """The picture of each chart, as large as fits the texture."""
    sizes = np.array([chart.size_m for chart in charts]) * _PX_PER_M
    largest = (sizes.max(0) / [0.9 * TEXTURE_PX, 0.6 * TEXTURE_PX]).max()
    area = np.sqrt(np.prod(sizes, axis=1).sum() / (0.55 * TEXTURE_PX**2))
    sizes = np.maximum(np.rint(sizes / max(1.0, largest, area)), 6).astype(int)
    materials: dict[str, Image] = {}
    pictures = []
    for chart, (width, height) in zip(charts, sizes, strict=True):
        plain = int(width / (1 + _WRAP_MARGIN)) if chart.copies else int(width)
        if chart.finish == "print" and min(plain, height) > 12:
            picture = printed(plain, int(height), palette, brand, rng)
        else:
            known = materials.setdefault(chart.finish, material(chart.finish, 96, 96, rng))
            picture = cv2.resize(known, (plain, int(height)), interpolation=cv2.INTER_AREA)
        picture = worn(picture, rng)
        if chart.copies:
            picture = np.concatenate([picture, picture[:, : int(width) - plain]], axis=1)
        pictures.append(picture)
    return pictures


def _packed(pictures: list[Image]) -> tuple[Image, list[tuple[int, int, int, int]]]:
    """One square image of all pictures, on shelves, and left, top, width, height of each."""
    while True:
        spots = _shelves([picture.shape[:2] for picture in pictures])
        if spots is not None:
            break
        pictures = [
            cv2.resize(p, None, fx=0.9, fy=0.9, interpolation=cv2.INTER_AREA) for p in pictures
        ]
    atlas = np.full((TEXTURE_PX, TEXTURE_PX, 3), 128, np.uint8)
    for picture, (left, top, width, height) in zip(pictures, spots, strict=True):
        # Its border is repeated around it, so that neighbours do not shine through.
        framed = cv2.copyMakeBorder(picture, *[_GAP_PX] * 4, cv2.BORDER_REPLICATE)
        rows = slice(top - _GAP_PX, top + height + _GAP_PX)
        atlas[rows, left - _GAP_PX : left + width + _GAP_PX] = framed
    return atlas, spots


def _shelves(shapes: list[tuple[int, int]]) -> list[tuple[int, int, int, int]] | None:
    spots: list[tuple[int, int, int, int]] = [(0, 0, 0, 0)] * len(shapes)
    left, top, shelf = _GAP_PX, _GAP_PX, 0
    for index in sorted(range(len(shapes)), key=lambda i: -shapes[i][0]):
        height, width = shapes[index]
        if left + width + _GAP_PX > TEXTURE_PX:
            left, top, shelf = _GAP_PX, top + shelf + 2 * _GAP_PX, 0
        if left + width + _GAP_PX > TEXTURE_PX or top + height + _GAP_PX > TEXTURE_PX:
            return None
        spots[index] = (left, top, width, height)
        left += width + 2 * _GAP_PX
        shelf = max(shelf, height)
    return spots
