"""Hulls of unknown objects in tracks: kept in place, replaced on a change, dropped when known."""

from __future__ import annotations

import dataclasses

import numpy as np
import trimesh
from poses import pose
from tracking.scenes import estimate, trace, tracker

from crisp_ros.geometry.isosurface import TriangleMesh
from crisp_ros.pipeline import ObjectEstimate
from crisp_ros.pipeline.estimates import ObservedHull


def unknown(T_camera_hull: np.ndarray, edges: tuple[float, float, float]) -> ObjectEstimate:
    """An unknown object with a box as its hull; the pose of its best guess is another one."""
    box = trimesh.creation.box(edges)
    mesh = TriangleMesh(box.vertices.astype(np.float32), box.faces.astype(np.int32))
    guess = estimate(1, T_camera_hull @ pose((0.01, 0.0, 0.02), (0.1, 0.5, 0.0)), certified=False)
    return dataclasses.replace(guess, unknown=True, hull=ObservedHull(T_camera_hull, mesh))


def test_an_unknown_object_is_published_as_its_hull() -> None:
    tracked, T = tracker(), pose((0.1, 0.0, 0.8), (0.2, 0.1, 0.0))
    (o,) = tracked.update(0.0, trace([unknown(T, (0.1, 0.2, 0.3))])).objects
    assert o.estimate.shape_source == o.shape.shape_source == "observed"
    assert not o.estimate.certified and o.estimate.unknown and o.estimate.shape_index == -1
    assert np.allclose(o.estimate.T_camera_object, T) and np.allclose(o.T_fixed_object, T)
    assert np.allclose(o.estimate.upper - o.estimate.lower, (0.1, 0.2, 0.3))
    assert o.mesh_version == 1


def test_a_hull_stays_in_place_until_it_has_changed() -> None:
    tracked, T = tracker(), pose((0.1, 0.0, 0.8))
    tracked.update(0.0, trace([unknown(T, (0.1, 0.2, 0.3))]))
    T_fixed_camera = pose((0.0, 0.05, 0.0), (0.0, 0.1, 0.0))
    seen = np.linalg.inv(T_fixed_camera) @ T @ pose((0.002, 0.0, 0.0))
    moved = trace([unknown(seen, (0.104, 0.2, 0.3))])
    (o,) = tracked.update(0.1, moved, T_fixed_camera).objects
    assert o.mesh_version == 1 and np.allclose(o.T_fixed_object, T)
    assert np.allclose(o.estimate.T_camera_object, np.linalg.inv(T_fixed_camera) @ T)
    (o,) = tracked.update(0.2, trace([unknown(T, (0.16, 0.2, 0.3))])).objects
    assert o.mesh_version == 2
    assert np.allclose(o.estimate.upper - o.estimate.lower, (0.16, 0.2, 0.3))


def test_a_hull_is_held_while_it_is_not_seen() -> None:
    tracked, T = tracker(birth_detections=1), pose((0.1, 0.0, 0.8))
    tracked.update(0.0, trace([unknown(T, (0.1, 0.2, 0.3))]))
    (held,) = tracked.update(0.1, trace([]), pose((0.3, 0.0, 0.0))).held
    assert held.estimate.shape_source == "observed" and held.mesh_version == 1
    assert np.allclose(held.T_fixed_object, T)
    assert np.allclose(held.estimate.T_camera_object[:3, 3], (-0.2, 0.0, 0.8))


def test_a_certified_shape_replaces_a_hull_for_good() -> None:
    tracked, T = tracker(), pose((0.1, 0.0, 0.8))
    tracked.update(0.0, trace([unknown(T, (0.1, 0.1, 0.1))]))
    (o,) = tracked.update(0.1, trace([estimate(1, T)])).objects
    assert o.estimate.certified and o.estimate.shape_source == "library"
    assert not o.shape.is_observed
    assert o.mesh_version > 1
    (after,) = tracked.update(0.2, trace([unknown(T, (0.1, 0.1, 0.1))])).objects
    assert after.shape.shape_source == "library" and after.mesh_version == o.mesh_version


def test_a_certified_estimate_has_no_hull() -> None:
    certified = dataclasses.replace(estimate(1, pose()), hull=unknown(pose(), (0.1,) * 3).hull)
    assert certified.observed() is certified
