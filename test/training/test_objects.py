from pathlib import Path

import numpy as np
import pytest
import trimesh
from small_nocs import diagonal, metric_mesh
from tiny_bop import primitives, write_tiny_bop

from crisp_ros.data.files import MeshError
from crisp_ros.training.objects import data_objects, symmetries, training_objects
from crisp_ros.training.recipe import Recipe


def test_meshes_of_several_formats_and_units_come_into_one_frame(tmp_path: Path) -> None:
    box, can = primitives()[1], primitives()[2]
    box.apply_translation((0.3, 0.0, 0.05)).export(tmp_path / "box.obj")
    can.apply_scale(1000.0).export(tmp_path / "can.ply")
    read = {o.name: o for o in training_objects(tmp_path)}
    assert list(read) == ["box", "can"]
    assert np.allclose(read["box"].solid.bounds.sum(axis=0), 0.0, atol=1e-9)
    assert np.allclose(read["box"].shift, (-0.3, 0.0, -0.05), atol=1e-6)
    assert np.allclose(read["box"].look.bounds, read["box"].solid.bounds)
    assert read["can"].solid.extents[2] == pytest.approx(0.11, rel=1e-3)
    assert "millimetres" in read["can"].notes[0]
    assert len(read["box"].digest) == 64 and read["box"].digest != read["can"].digest


def test_models_of_a_data_set_keep_their_frames_and_names(tmp_path: Path) -> None:
    folder = write_tiny_bop(tmp_path) / "models"
    read = training_objects(folder)
    assert [o.name for o in read] == ["box", "can", "ball"]
    assert read[1].solid.extents[2] == pytest.approx(0.11, rel=1e-3)
    assert all((o.shift == 0).all() for o in read)
    grey = "it has no colours: the network sees it as plain grey"
    assert all(o.notes == (grey,) for o in read)  # and nothing had to be repaired


def test_an_open_mesh_is_wrapped_and_a_broken_file_is_named(tmp_path: Path) -> None:
    half = primitives()[5]
    half.update_faces(half.triangles_center[:, 2] > 0)
    half.export(tmp_path / "half.ply")
    (bowl,) = training_objects(tmp_path)
    assert bowl.solid.is_watertight and not bowl.look.is_watertight
    assert "wrapped" in bowl.notes[0]
    assert np.allclose(bowl.solid.extents, half.extents, atol=0.003)
    (tmp_path / "broken.ply").write_text("ply")
    with pytest.raises(MeshError, match="broken.ply"):
        training_objects(tmp_path)


def painted(mesh: trimesh.Trimesh, where) -> trimesh.Trimesh:
    fine = mesh.subdivide().subdivide()
    colours = np.tile([[200, 200, 200, 255]], (len(fine.vertices), 1)).astype(np.uint8)
    colours[where(fine.vertices)] = (200, 20, 20, 255)
    fine.visual.vertex_colors = colours
    return fine


def test_colours_break_symmetries_of_the_shape(tmp_path: Path) -> None:
    can = primitives()[2]
    painted(can, lambda v: v[:, 2] > 0.01).export(tmp_path / "banded.ply")
    painted(can, lambda v: (v[:, 0] > 0) & (v[:, 2] > 0)).export(tmp_path / "marked.ply")
    painted(can, lambda v: v[:, 2] > 9).export(tmp_path / "plain.ply")
    objects = training_objects(tmp_path)
    assert [o.name for o in objects] == ["banded", "marked", "plain"]
    found = symmetries(objects, "auto", 0.0015, 0)
    assert [len(group) for group in found] == [36, 1, 72]
    assert all(np.array_equal(group[0], np.eye(4)) for group in found)
    assert all(np.allclose(T[:3, :3] @ [0, 0, 1], [0, 0, 1]) for T in found[0])
    named = symmetries(objects, ("marked",), 0.0015, 0)
    assert [len(group) for group in named] == [1, 72, 1]
    of_shapes = symmetries(objects, "shape", 0.0015, 0)
    assert [len(group) for group in of_shapes] == [72, 72, 72]


def test_normalised_objects_have_the_symmetries_of_their_shapes(tmp_path: Path) -> None:
    (tmp_path / "Real" / "train").mkdir(parents=True)
    models = tmp_path / "obj_models" / "real_train"
    models.mkdir(parents=True)
    for category in ("bottle", "laptop", "mug"):
        mesh = metric_mesh(category).apply_scale(1.0 / diagonal(category))
        mesh.export(models / f"{category}.obj")
    objects = data_objects("nocs", tmp_path, ["real_train"])
    found = symmetries(objects, "auto", Recipe().symmetry_tolerance_m, 0)
    groups = {o.name: len(group) for o, group in zip(objects, found, strict=True)}
    assert groups == {"bottle": 72, "laptop": 1, "mug": 1}
