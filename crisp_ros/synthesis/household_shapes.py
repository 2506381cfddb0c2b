"""Random household-like shapes by formulas: boxes, cans, bottles, bowls and mugs with prints."""

from __future__ import annotations

import numpy as np
import trimesh
from numpy.typing import NDArray
from PIL import Image

from .backgrounds import background

_TEXTURE_PX = 128
_SECTIONS = 24
_PLAIN_SHARE = 0.35  # of shapes in a single colour


def random_shape(rng: np.random.Generator) -> trimesh.Trimesh:
    """A textured mesh of 2 to 30 cm, metres, z up, its bounding box centred at the origin."""
    kinds = (_box, _box, _can, _can, _bottle, _bowl, _mug, _ellipsoid, _cone, _bar)
    mesh = kinds[rng.integers(len(kinds))](rng)
    mesh.apply_translation(-mesh.bounds.mean(axis=0))
    return with_print(mesh, rng)


def with_print(mesh: trimesh.Trimesh, rng: np.random.Generator) -> trimesh.Trimesh:
    """A copy with a random texture, projected along an axis that changes from face to face."""
    faces = mesh.faces
    vertices = mesh.vertices[faces.ravel()]
    normals = np.repeat(mesh.face_normals, 3, axis=0)
    axis = np.abs(normals).argmax(axis=1)
    scale = rng.uniform(0.6, 2.5) / max(float(np.ptp(mesh.vertices, axis=0).max()), 1e-3)
    uv = np.where((axis == 0)[:, None], vertices[:, 1:], vertices[:, :2])
    uv = np.where((axis == 1)[:, None], vertices[:, [0, 2]], uv) * scale + rng.uniform(0, 1, 2)
    split = trimesh.Trimesh(vertices, np.arange(len(vertices)).reshape(-1, 3), process=False)
    split.vertex_normals = mesh.vertex_normals[faces.ravel()] if _is_round(mesh) else normals
    material = trimesh.visual.material.SimpleMaterial(image=Image.fromarray(random_print(rng)))
    split.visual = trimesh.visual.TextureVisuals(uv=uv, material=material)
    return split


def random_print(rng: np.random.Generator, side: int = _TEXTURE_PX) -> NDArray[np.uint8]:
    """A texture (side, side, 3) uint8: one colour, or patterns and writing."""
    if rng.random() < _PLAIN_SHARE:
        grey = rng.uniform(10.0, 245.0)
        colour = grey + (rng.uniform(0.0, 255.0, 3) - grey) * rng.uniform(0.0, 0.9)
        noise = rng.normal(0.0, rng.uniform(0.0, 6.0), (side, side, 1))
        return np.clip(colour + noise, 0.0, 255.0).astype(np.uint8)
    return background(side, side, rng)


def _is_round(mesh: trimesh.Trimesh) -> bool:
    return bool(len(mesh.faces) > 12)


def _box(rng: np.random.Generator) -> trimesh.Trimesh:
    extents = np.exp(rng.uniform(np.log(0.025), np.log(0.24), 3))
    return trimesh.creation.box(extents=np.maximum(extents, 0.015))


def _bar(rng: np.random.Generator) -> trimesh.Trimesh:
    """A long thin thing, such as a pen, a ruler or a tool."""
    thick = rng.uniform(0.01, 0.035, 2)
    return trimesh.creation.box(extents=[rng.uniform(0.1, 0.28), *thick])


def _can(rng: np.random.Generator) -> trimesh.Trimesh:
    return trimesh.creation.cylinder(
        radius=rng.uniform(0.015, 0.06), height=rng.uniform(0.02, 0.25), sections=_SECTIONS
    )


def _cone(rng: np.random.Generator) -> trimesh.Trimesh:
    low, high = rng.uniform(0.02, 0.07), rng.uniform(0.001, 0.05)
    height = rng.uniform(0.04, 0.2)
    return _lathe([(0, 0), (low, 0), (high, height), (0, height)])


def _ellipsoid(rng: np.random.Generator) -> trimesh.Trimesh:
    """A superellipsoid: between a ball and a rounded box."""
    mesh = trimesh.creation.icosphere(subdivisions=3)
    power = rng.uniform(0.35, 1.0)
    points = np.sign(mesh.vertices) * np.abs(mesh.vertices) ** power
    return trimesh.Trimesh(points * rng.uniform(0.018, 0.08, 3), mesh.faces, process=False)


def _bottle(rng: np.random.Generator) -> trimesh.Trimesh:
    radius, neck = rng.uniform(0.02, 0.05), rng.uniform(0.008, 0.018)
    body, total = rng.uniform(0.06, 0.15), rng.uniform(0.03, 0.09)
    shoulder = body + total * rng.uniform(0.2, 0.7)
    outline = [(0, 0), (radius, 0), (radius * rng.uniform(0.8, 1.1), body), (neck, shoulder)]
    mesh = _lathe([*outline, (neck, body + total), (0, body + total)])
    mesh.apply_scale([1.0, rng.uniform(0.5, 1.0), 1.0])
    return mesh


def _bowl(rng: np.random.Generator) -> trimesh.Trimesh:
    radius, height = rng.uniform(0.05, 0.12), rng.uniform(0.02, 0.08)
    wall, foot = 0.004, rng.uniform(0.3, 0.7)
    outer = [(0, 0), (foot * radius, 0), (0.88 * radius, 0.45 * height), (radius, height)]
    inner = [(r - wall if r > wall else 0, z + wall) for r, z in reversed(outer[1:])]
    return _lathe([*outer, *inner, (0, wall)])


def _mug(rng: np.random.Generator) -> trimesh.Trimesh:
    radius, height, wall = rng.uniform(0.03, 0.05), rng.uniform(0.06, 0.12), 0.004
    outer = [(0, 0), (radius * rng.uniform(0.8, 1.0), 0), (radius, height)]
    cup = _lathe([*outer, (radius - wall, height), (radius - wall, wall), (0, wall)])
    ring = trimesh.creation.torus(0.3 * height, rng.uniform(0.004, 0.008), 16, 8)
    ring.apply_transform(trimesh.transformations.rotation_matrix(np.pi / 2, [1, 0, 0]))
    ring.apply_translation([radius + 0.12 * height, 0.0, 0.5 * height])
    outside = np.linalg.norm(ring.triangles_center[:, :2], axis=1) > radius - wall
    ring.update_faces(outside)
    return trimesh.util.concatenate([cup, ring])


def _lathe(outline: list[tuple[float, float]]) -> trimesh.Trimesh:
    return trimesh.creation.revolve(np.asarray(outline, float), sections=_SECTIONS)
