from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh

from crisp_ros.synthesis import crop_set
from crisp_ros.synthesis.crop_set import CROP_MARGIN, CropSet, ShardSettings, write_shard
from crisp_ros.synthesis.scenes import ScatterSettings, viewpoints
from crisp_ros.training.stored_views import stored_views

MESHES = [trimesh.creation.box((0.1, 0.06, 0.15)), trimesh.creation.icosphere(3, 0.06)]
COUNT, SIDE = 12, 64


def write(folder: Path, make_renderer, depth: bool) -> CropSet:
    scatter = ScatterSettings(objects=(2, 2), focal_px=(500.0, 600.0))
    settings = ShardSettings(scatter, COUNT, SIDE, depth)
    views = [viewpoints(mesh) for mesh in MESHES]
    renderer = make_renderer(MESHES, 320, 240)
    assert write_shard(folder, 0, views, settings, 5, renderer)
    assert not write_shard(folder, 0, views, settings, 5, renderer)
    return CropSet(folder)


def test_depth_and_pnc_are_of_one_rigid_object(tmp_path, make_renderer, monkeypatch):
    """With a perfect sensor the points of the crop's camera are the rotated coordinates."""
    monkeypatch.setattr(crop_set, "measured_depth", lambda rendering, camera, rng: rendering.depth)
    crops = write(tmp_path, make_renderer, depth=True).batch(np.arange(COUNT))
    geometry = stored_views(crops, True, torch.device("cpu")).geometry
    assert geometry.points.shape == (COUNT, 3, SIDE, SIDE)
    for i in range(COUNT):
        on = (crops.labels[i] == 1) & (crops.depth[i] > 0)
        pnc, points = crops.pnc[i][on], geometry.points[i].numpy()[:, on].T
        a, b = pnc - pnc.mean(0), points - points.mean(0)
        U, _, V = np.linalg.svd(b.T @ a)
        R = U @ np.diag([1, 1, np.linalg.det(U @ V)]) @ V
        # A stored pixel shows the nearest one of the image: half a pixel is 1.2 mm at 1.2 m.
        assert np.linalg.norm(b - a @ R.T, axis=1).max() < 0.0025, i


def test_labels_agree_with_the_object(tmp_path, make_renderer):
    crops = write(tmp_path, make_renderer, depth=True).batch(np.arange(COUNT))
    assert np.array_equal(crops.labels == 1, ~np.isnan(crops.pnc[..., 0]))
    assert set(np.unique(crops.labels)) <= {0, 1, 2, 3}
    for labels in crops.labels:
        rows, columns = np.nonzero(labels == 1)
        longer = max(np.ptp(rows), np.ptp(columns)) + 1
        assert longer == pytest.approx(SIDE / CROP_MARGIN, abs=2)


def test_without_depth_crops_have_no_geometry(tmp_path, make_renderer):
    plain = write(tmp_path / "plain", make_renderer, depth=False)
    crops = plain.batch(np.arange(3))
    assert not plain.has_depth and crops.depth is None
    assert stored_views(crops, False, torch.device("cpu")).geometry is None
    with pytest.raises(ValueError, match="without depth"):
        stored_views(crops, True, torch.device("cpu"))
