"""Procedural objects: closed, of real size, as symmetric as they claim, the same for a seed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import trimesh
from scipy.spatial.transform import Rotation

pytest.importorskip("manifold3d")
pytest.importorskip("igl")

from crisp_ros.data.bop_models import read_models
from crisp_ros.data.mesh_colours import coloured_samples
from crisp_ros.data.meshes import distance_to, surface_samples, watertight
from crisp_ros.synthesis.procedural.shapes import (
    KINDS,
    LARGEST_M,
    SMALLEST_M,
    ProceduralShape,
    procedural_shape,
    procedural_shapes,
    write_procedural_models,
)

_SEEDS = (1, 2, 3, 4)
_CHORD_M = 6e-4  # a circle of 64 (or 24 for small ones) segments against the same one rotated


@pytest.fixture(scope="module", params=KINDS)
def shapes(request: pytest.FixtureRequest) -> list[ProceduralShape]:
    """Some objects of one kind."""
    return [procedural_shape(request.param, seed) for seed in _SEEDS]


def test_they_are_one_closed_body_facing_outwards(shapes: list[ProceduralShape]) -> None:
    for shape in shapes:
        welded = shape.mesh.copy()
        welded = trimesh.Trimesh(welded.vertices, welded.faces, process=False)
        welded.merge_vertices()
        assert welded.is_watertight and welded.is_winding_consistent
        assert welded.volume > 1e-7
        assert welded.body_count == 1


def test_sizes_are_real_and_the_origin_is_central(shapes: list[ProceduralShape]) -> None:
    for shape in shapes:
        assert SMALLEST_M <= shape.mesh.extents.max() <= LARGEST_M
        assert np.allclose(shape.mesh.bounds.mean(axis=0), 0.0, atol=1e-6)


def test_symmetries_map_the_surface_onto_itself(shapes: list[ProceduralShape]) -> None:
    for shape in shapes:
        solid = watertight(shape.mesh)
        distance = distance_to(solid)
        points = surface_samples(solid, 2000, np.random.default_rng(0)).points
        for motion in shape.discrete_symmetries:
            assert distance(trimesh.transform_points(points, motion)).max() < 1e-5
        if shape.is_round:
            rotated = Rotation.from_euler("z", 1.234).apply(points)
            assert distance(rotated).max() < _CHORD_M


def test_half_a_rotation_that_is_not_listed_is_none(shapes: list[ProceduralShape]) -> None:
    """A box is only one if it has the rotations of a box: none of its kind is left out."""
    for shape in shapes:
        solid = watertight(shape.mesh)
        points = surface_samples(solid, 1000, np.random.default_rng(0)).points
        listed = shape.discrete_symmetries[:, :3, :3]
        for diagonal in ((1, -1, -1), (-1, -1, 1)):
            half = np.diag(diagonal).astype(float)
            known = np.abs(listed - half).max(axis=(1, 2)).min() < 1e-6
            known |= shape.is_round and diagonal[2] == 1
            if not known:
                assert distance_to(solid)(points @ half.T).max() > 5e-4


def test_an_object_has_more_than_one_colour() -> None:
    colours = [coloured_samples(procedural_shape("box", seed).mesh, 500, 0)[1] for seed in _SEEDS]
    for part in colours:
        assert part.std(axis=0).max() > 0.03
    assert np.abs(colours[0].mean(axis=0) - colours[1].mean(axis=0)).max() > 0.01


def test_corners_of_a_face_are_near_on_the_texture(shapes: list[ProceduralShape]) -> None:
    """No face spans the seam of its picture, where it would show all of it in reverse."""
    for shape in shapes:
        corners = shape.mesh.visual.uv[shape.mesh.faces]
        edges = np.linalg.norm(np.diff(shape.mesh.triangles, axis=1), axis=-1).max(axis=1)
        spread = np.ptp(corners, axis=1).max(axis=1)
        assert corners.min() >= 0.0 and corners.max() <= 1.0
        assert (spread[edges < 0.02 * shape.mesh.extents.max()] < 0.3).all()


def test_a_seed_gives_the_same_object_and_another_one_another() -> None:
    first, again, other = (procedural_shape("mug", seed) for seed in (5, 5, 6))
    assert np.array_equal(first.mesh.vertices, again.mesh.vertices)
    pictures = [np.asarray(s.mesh.visual.material.image) for s in (first, again, other)]
    assert np.array_equal(pictures[0], pictures[1])
    assert not np.array_equal(pictures[0], pictures[2])
    assert first.mesh.vertices.shape != other.mesh.vertices.shape or not np.allclose(
        first.mesh.vertices, other.mesh.vertices
    )


def test_a_longer_list_begins_with_a_shorter_one() -> None:
    short, long = list(procedural_shapes(2, 7)), list(procedural_shapes(4, 7))
    for a, b in zip(short, long, strict=False):
        assert a.kind == b.kind and np.array_equal(a.mesh.vertices, b.mesh.vertices)


def test_written_models_are_read_with_their_symmetries(tmp_path: Path) -> None:
    shapes = list(procedural_shapes(3, 0, ("can", "box", "mug")))
    assert write_procedural_models(tmp_path, iter(shapes)) == 3
    models = read_models(tmp_path / "models")
    assert [m.name for m in models.values()] == ["can_0001", "box_0002", "mug_0003"]
    assert len(models[1].symmetry_axes) == 1
    assert len(models[2].discrete_symmetries) == 4 and not models[2].symmetry_axes
    assert len(models[3].discrete_symmetries) == 1 and not models[3].symmetry_axes
    for model, shape in zip(models.values(), shapes, strict=True):
        assert np.allclose(model.mesh.extents, shape.mesh.extents, atol=1e-5)
        assert model.mesh.visual.kind == "texture"
    info = json.loads((tmp_path / "models" / "models_info.json").read_text())
    assert info["1"]["diameter"] == pytest.approx(1e3 * models[1].diameter_m)


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(KeyError):
        procedural_shape("teapot", 0)
