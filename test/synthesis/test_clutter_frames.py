"""Rendered clutter: labels, depth and plane belong together."""

import numpy as np
import trimesh
from drawing import needs_egl

from crisp_ros.synthesis.clutter_frames import ClutterSettings, clutter_frames
from crisp_ros.synthesis.household_shapes import random_shape
from crisp_ros.synthesis.sensor import DepthSensor

SMALL = ClutterSettings(
    width=160,
    height=120,
    objects=(4, 6),
    bin_share=0.0,
    shelf_share=0.0,
    holes_share=0.0,
    depth_sensor=DepthSensor(noise_px=0.01, lateral_px=0.0),
)


def test_random_shapes_are_small_centred_and_textured() -> None:
    rng = np.random.default_rng(0)
    for _ in range(40):
        mesh = random_shape(rng)
        assert np.isfinite(mesh.vertices).all() and 0.02 < mesh.extents.max() < 0.32
        assert np.allclose(mesh.bounds.mean(0), 0.0, atol=1e-9)
        assert mesh.visual.kind == "texture"


def test_objects_stand_on_the_plane() -> None:
    needs_egl()
    box = trimesh.creation.box((0.1, 0.1, 0.1))
    for frame in clutter_frames([box], SMALL, 3, 4):
        rows, columns = np.nonzero(frame.depth > 0)
        depth = frame.depth[rows, columns]
        points = frame.camera.back_project(columns, rows, depth)
        height = points @ frame.plane[:3] + frame.plane[3]
        labels = frame.labels[rows, columns]
        assert labels.max() >= 1
        assert np.quantile(height[labels > 0], 0.05) > -0.01
        assert height[labels > 0].max() < 0.5
        assert np.mean(np.abs(height[labels == 0]) < 0.01) > 0.3


def test_frames_depend_on_the_seed_alone() -> None:
    needs_egl()
    first, again = (list(clutter_frames([], SMALL, 5, 2)) for _ in range(2))
    other = next(clutter_frames([], SMALL, 6, 1))
    for a, b in zip(first, again, strict=True):
        assert (a.rgb == b.rgb).all() and (a.depth == b.depth).all()
        assert (a.labels == b.labels).all()
    assert (first[0].labels != other.labels).any()
