"""The made NOCS set is read by the reader of NOCS, and its parts agree with one another."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("manifold3d")

from crisp_ros.data.nocs import CLASSES, NocsDataset, NocsFrame
from crisp_ros.data.nocs_truth import aligned_poses
from crisp_ros.evaluation.metrics import rotation_error
from crisp_ros.synthesis.category_set import CategorySetSettings, write_category_set

SETTINGS = CategorySetSettings(
    train=1, test=2, train_scenes=0, test_scenes=1, views=1, objects=3,
    recording=replace(CategorySetSettings().recording, spread_m=0.3),
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("made") / "nocs"
    write_category_set(place, SETTINGS, 0)
    return place


@pytest.fixture(scope="module")
def frame(folder: Path) -> NocsFrame:
    (found,) = NocsDataset(folder, "real_test").frames()
    return found


def test_poses_and_scales_are_those_of_coordinates_and_depth(frame: NocsFrame) -> None:
    """The published way, an alignment, finds what the files of gts/ say."""
    assert len(frame.instances) == 3
    masks = [frame.labels == instance.label for instance in frame.instances]
    found = aligned_poses(masks, frame.coordinates, frame.depth, frame.intrinsics)
    for instance, pose in zip(frame.instances, found, strict=True):
        assert pose is not None
        true = instance.T_camera_object
        assert np.degrees(rotation_error(pose.T_camera_object[:3, :3], true[:3, :3])) < 1.0
        assert np.linalg.norm(pose.T_camera_object[:3, 3] - true[:3, 3]) < 1e-3
        assert pose.scale_m == pytest.approx(instance.diagonal_m, rel=0.01)


def test_objects_stand_with_y_up(frame: NocsFrame) -> None:
    """All have one direction up, as they stand on one table."""
    up = np.array([instance.T_camera_object[:3, 1] for instance in frame.instances])
    assert np.allclose(up, up[0], atol=1e-9) and up[0, 1] < -0.3


def test_boxes_are_those_of_the_meshes(frame: NocsFrame) -> None:
    for instance in frame.instances:
        assert np.allclose(instance.mesh.extents, instance.size_m, atol=1e-6)
        assert instance.category == instance.model.name.split("_")[0]


def test_training_and_test_have_other_instances(folder: Path) -> None:
    meshes = {}
    for part in ("train", "test"):
        paths = sorted((folder / "obj_models" / f"real_{part}").glob("*.obj"))
        assert {path.stem.split("_")[0] for path in paths} == set(CLASSES)
        meshes |= {path.stem: path.with_suffix(".txt").read_text() for path in paths}
    assert len(meshes) == 18 and len(set(meshes.values())) == 18


def test_a_handle_out_of_sight_is_annotated(frame: NocsFrame) -> None:
    """A mug's handle is what its coordinates show beyond its round body."""
    for instance in frame.instances:
        seen = frame.coordinates[frame.labels == instance.label] * instance.diagonal_m
        beyond = seen[:, 0] > instance.size_m[2] - instance.size_m[0] / 2 + 0.003
        shown = instance.category != "mug" or np.count_nonzero(beyond) >= 20
        assert instance.handle_visible == shown
