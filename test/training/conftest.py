"""Crops of two flat discs, made without a renderer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from crisp_ros.synthesis.crop_set import CROP_PX, NO_OBJECT, PNC_UNIT_M, SHARD_CROPS, save_shard


@pytest.fixture(scope="session")
def crops_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two kinds of flat discs, red and blue, whose PNC is a plane of their own."""
    folder = tmp_path_factory.mktemp("crops")
    rng = np.random.default_rng(0)
    axis = (np.arange(CROP_PX) + 0.5) * 2 / CROP_PX - 1
    y, x = np.meshgrid(axis, axis, indexing="ij")
    disc = x**2 + y**2 < 0.4
    mesh = rng.integers(0, 2, SHARD_CROPS)
    planes = [np.stack([0.05 * x, 0.05 * y, 0 * x], -1), np.stack([-0.05 * x, 0 * x, 0.05 * y], -1)]
    stored = [
        np.where(disc[..., None], np.rint(p / PNC_UNIT_M), NO_OBJECT).astype(np.int16)
        for p in planes
    ]
    colours = np.array([[200, 40, 40], [40, 40, 200]], np.uint8)
    rgb = np.full((SHARD_CROPS, CROP_PX, CROP_PX, 3), 90, np.uint8)
    rgb[:, disc] = colours[mesh][:, None]
    arrays = {"rgb": rgb, "pnc": np.stack([stored[m] for m in mesh]), "mesh": mesh}
    save_shard(folder / "shard_0000.json", arrays, {})
    return folder
