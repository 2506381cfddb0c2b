"""The made SPE3R set is read by the reader of SPE3R, and its images agree with its poses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import trimesh

pytest.importorskip("manifold3d")

from crisp_ros.data.health import check_dataset
from crisp_ros.data.spe3r import Spe3rDataset, Spe3rFrame
from crisp_ros.synthesis.spacecraft_set import (
    SpacecraftSetSettings,
    spacecraft_mesh,
    write_spacecraft_set,
)

SETTINGS = SpacecraftSetSettings(train=2, test=1, images=2, side_px=96, focal_px=165.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("made") / "spe3r"
    write_spacecraft_set(place, SETTINGS, 5)
    return place


@pytest.fixture(scope="module")
def frames(folder: Path) -> list[Spe3rFrame]:
    return list(Spe3rDataset(folder, "all").frames())


def test_it_is_a_healthy_data_set_in_that_layout(folder: Path) -> None:
    health = check_dataset(folder, 1, lambda done, total: None)
    assert health.kind == "spe3r" and not health.problems


def test_satellites_of_the_test_are_others(folder: Path) -> None:
    trained, tested = (set(Spe3rDataset(folder, s).satellites) for s in ("train", "test"))
    assert len(trained) == 2 and len(tested) == 1 and not trained & tested
    extents = {
        tuple(np.round(s.mesh.extents, 6)) for s in Spe3rDataset(folder, "all").satellites.values()
    }
    assert len(extents) == 3


def test_coordinates_and_depth_are_those_of_the_pose(frames: list[Spe3rFrame]) -> None:
    for frame in frames:
        v, u = np.nonzero(frame.labels)
        assert len(u) > 100
        rays = np.stack([u, v, np.ones_like(u)], axis=1) @ np.linalg.inv(frame.intrinsics).T
        seen = frame.depth[v, u, None] * rays
        placed = trimesh.transform_points(frame.coordinates[v, u], frame.T_camera_object)
        assert np.abs(seen - placed).max() < 0.002  # a step of depth is 1.5 mm


def test_the_mask_is_the_silhouette_and_the_satellite_is_whole(frames: list[Spe3rFrame]) -> None:
    for frame in frames:
        seen = frame.depth > 0
        assert np.array_equal(seen, frame.labels > 0)
        assert not (seen[0].any() or seen[-1].any() or seen[:, 0].any() or seen[:, -1].any())
        assert frame.rgb[~seen].mean() < 20 < frame.rgb[seen].max()
        assert (frame.rgb[..., 0] == frame.rgb[..., 2]).all()


def test_meshes_are_closed_and_a_metre_long() -> None:
    for number in range(12):
        mesh = trimesh.Trimesh(*_plain(spacecraft_mesh(3, number)), process=False)
        mesh.merge_vertices()
        assert mesh.is_watertight and mesh.body_count == 1
        assert mesh.extents.max() == pytest.approx(0.999)
        assert np.abs(mesh.bounds).max() <= 0.5


def test_a_seed_decides_a_satellite() -> None:
    first, again, other = (spacecraft_mesh(*key) for key in ((3, 1), (3, 1), (4, 1)))
    assert np.array_equal(first.vertices, again.vertices)
    assert first.vertices.shape != other.vertices.shape or not np.allclose(
        first.vertices, other.vertices
    )


def _plain(mesh: trimesh.Trimesh) -> tuple[np.ndarray, np.ndarray]:
    return mesh.vertices, mesh.faces
