"""Depth points of labelled objects against a loop over the pixels."""

import numpy as np

from crisp_ros.observation.frame import Camera, Frame
from crisp_ros.observation.object_points import object_points

CAMERA = Camera(fx=50.0, fy=60.0, cx=5.0, cy=4.0, width=10, height=8)


def frame() -> Frame:
    rng = np.random.default_rng(3)
    depth = rng.uniform(0.4, 2.0, (8, 10)).astype(np.float32)
    depth[0, :3] = np.nan, 0.0, np.inf
    labels = rng.integers(0, 4, (8, 10)).astype(np.int32)
    return Frame(rng.integers(0, 256, (8, 10, 3)).astype(np.uint8), depth, labels, CAMERA)


def test_points_have_colour_label_and_certificate() -> None:
    image = frame()
    expected = []
    for v in range(8):
        for u in range(10):
            z = float(image.depth[v, u])
            if image.labels[v, u] > 0 and np.isfinite(z) and z > 0:
                point = ((u - 5.0) * z / 50.0, (v - 4.0) * z / 60.0, z)
                label = int(image.labels[v, u])
                expected.append((point, tuple(image.rgb[v, u]), label, label in (1, 3)))
    found = object_points(image, {1, 3})
    np.testing.assert_allclose(found.points, [e[0] for e in expected], rtol=1e-5)
    assert [tuple(c) for c in found.rgb] == [e[1] for e in expected]
    assert found.labels.tolist() == [e[2] for e in expected]
    assert found.certified.tolist() == [e[3] for e in expected]
    assert found.points.dtype == np.float32


def test_without_objects_there_are_no_points() -> None:
    image = frame()
    empty = Frame(image.rgb, image.depth, np.zeros_like(image.labels), CAMERA)
    assert object_points(empty, ()).points.shape == (0, 3)
