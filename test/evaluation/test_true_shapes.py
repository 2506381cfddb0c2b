"""True shapes: sampled on access, written and read, and distances to them."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import trimesh
from tiny_bop import write_tiny_bop

from crisp_ros.data.bop import read_models
from crisp_ros.data.files import MeshError
from crisp_ros.evaluation.true_shapes import (
    ModelShapes,
    TrueShape,
    load_shapes,
    save_shapes,
    shape_distance,
)


def test_shapes_are_written_and_read(tmp_path: Path) -> None:
    models = read_models(write_tiny_bop(tmp_path) / "models")
    shapes = ModelShapes(models.values(), 400)
    assert "mug" not in shapes and len(shapes) == 3
    assert [len(shapes[name].symmetries) for name in ("box", "ball")] == [2, 1]
    save_shapes(tmp_path / "shapes.npz", shapes)
    again = load_shapes(tmp_path / "shapes.npz")
    assert list(again) == list(shapes) == ["box", "can", "ball"]
    for name, shape in shapes.items():
        np.testing.assert_allclose(again[name].points, shape.points, atol=6e-6)
        np.testing.assert_allclose(again[name].symmetries, shape.symmetries, atol=1e-6)
    radii = np.linalg.norm(again["ball"].points, axis=1)
    assert radii.max() == pytest.approx(0.04, abs=1e-3) and radii.min() > 0.038


def test_a_model_is_read_on_access(tmp_path: Path) -> None:
    models = read_models(write_tiny_bop(tmp_path) / "models")
    models[2].path.unlink()
    shapes = ModelShapes(models.values(), 50)
    assert len(shapes["ball"].points) == 50 and shapes["ball"] is shapes["ball"]
    with pytest.raises(MeshError):
        shapes["can"]


def test_shape_distance_between_two_spheres() -> None:
    inner, outer = (trimesh.creation.icosphere(4, radius) for radius in (0.050, 0.053))
    shape = TrueShape(inner.sample(2000, seed=0), np.eye(3)[None])
    assert shape_distance(outer, shape) == pytest.approx(0.003, rel=0.05)
    flat = trimesh.Trimesh(np.zeros((3, 3)), [[0, 1, 2]], process=False)
    assert math.isinf(shape_distance(flat, shape))
