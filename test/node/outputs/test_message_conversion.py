"""Messages of estimates: values, fields and order."""

from __future__ import annotations

import array
import dataclasses
import math

import numpy as np
import pytest
from node.fakes import LOOK_ALIKE, estimate, tracked
from rclpy.serialization import deserialize_message, serialize_message
from scipy.spatial.transform import Rotation
from std_msgs.msg import Header

from crisp_ros.geometry.isosurface import TriangleMesh
from crisp_ros.node.outputs import message_conversion
from crisp_ros.node.outputs.published_objects import PublishedObject
from crisp_ros.node.pose_conversion import pose_message

TETRAHEDRON = TriangleMesh(
    np.array([[0, 0, 0], [0.1, 0, 0], [0, 0.2, 0], [0, 0, 0.3]], np.float32),
    np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]], np.int32),
)


def pose_matrix() -> np.ndarray:
    T = np.eye(4)
    T[:3, :3] = Rotation.from_euler("zyx", [2.0, -0.4, 0.9]).as_matrix()
    T[:3, 3] = 0.1, -0.2, 0.7
    return T


def moved(point, p, q) -> np.ndarray:
    """A point moved by position and quaternion, by Hamilton's product."""
    u, s, v = np.array([q.x, q.y, q.z]), q.w, np.asarray(point)
    turned = 2 * (u @ v) * u + (s * s - u @ u) * v + 2 * s * np.cross(u, v)
    return turned + np.array([p.x, p.y, p.z])


def test_pose_and_transform_move_points_as_the_matrix_does() -> None:
    T, point = pose_matrix(), [0.3, 0.5, -0.2]
    expected = T[:3, :3] @ point + T[:3, 3]
    pose = pose_message(T)
    np.testing.assert_allclose(moved(point, pose.position, pose.orientation), expected, atol=1e-12)
    header = Header(frame_id="camera")
    sent = message_conversion.transform(header, "mug_1", T)
    assert (sent.header, sent.child_frame_id) == (header, "mug_1")
    at = sent.transform
    np.testing.assert_allclose(moved(point, at.translation, at.rotation), expected, atol=1e-12)


def published(id: str, seen: bool = True, **options) -> PublishedObject:
    found = estimate(3, pose_matrix(), **options)
    return PublishedObject(tracked(id, found, 4, seen, "mug"))


def test_object_estimates() -> None:
    header = Header(frame_id="camera")
    header.stamp.sec = 12
    objects = [published("mug_3"), published("bowl_3", certified=False, residual_m=math.inf)]
    objects.append(published("mug_4", seen=False))
    array_message = message_conversion.object_estimates(
        header, objects, "left/", "v1", {"network": 4.0, "mesh": 2.5}
    )
    received = deserialize_message(serialize_message(array_message), type(array_message))
    assert received.header == header and received.model_version == "v1"
    assert received.stage_names == ["network", "mesh"]
    assert received.stage_ms.tolist() == [4.0, 2.5]
    first, second, held = received.estimates
    assert (held.id, held.label, held.pose) == ("mug_4", 0, first.pose)
    assert (first.id, first.child_frame_id) == ("mug_3", "left/mug_3")
    assert (first.class_name, first.label, first.mesh_version) == ("mug", 3, 4)
    assert first.certified and first.reason == ""
    assert first.certificate_residual == pytest.approx(0.004)
    assert (first.size.x, first.size.y, first.size.z) == pytest.approx((0.06, 0.08, 0.1))
    assert first.pose.pose == pose_message(pose_matrix())
    assert not first.pose.covariance.any() and math.isnan(first.smallest_eigenvalue)
    covariance = np.arange(36.0).reshape(6, 6)
    sure = dataclasses.replace(objects[0].estimate, covariance=covariance)
    message = message_conversion.object_estimates(
        header, [PublishedObject(tracked("mug_3", sure))], "", "v1", {}
    ).estimates[0]
    assert message.pose.covariance.tolist() == list(range(36))
    assert not second.certified and second.reason == "q98 13 mm > 10 mm"
    assert math.isnan(second.certificate_residual)
    assert first.orientation_certified and not second.orientation_certified
    assert first.orientation_reason == second.orientation_reason == ""
    unsure = dataclasses.replace(
        objects[0].estimate,
        orientation_certified=False,
        orientation_reason=LOOK_ALIKE,
        shape_source="network",
    )
    message = message_conversion.object_estimates(
        header, [PublishedObject(tracked("mug_3", unsure))], "", "v1", {}
    ).estimates[0]
    assert first.shape_source == "library"
    assert message.certified and not message.orientation_certified
    assert message.orientation_reason == LOOK_ALIKE and message.shape_source == "network"


def corners(vertices, triangles) -> list:
    return [[tuple(vertices[i]) for i in triangle] for triangle in triangles]


def test_object_mesh_holds_the_surface_and_its_code() -> None:
    sent = message_conversion.object_mesh(published("mug_3"), TETRAHEDRON)
    received = deserialize_message(serialize_message(sent), type(sent))
    assert (received.id, received.mesh_version) == ("mug_3", 4)
    assert received.shape_code.tolist() == [3.0] * 8
    vertices = [(p.x, p.y, p.z) for p in received.mesh.vertices]
    triangles = [t.vertex_indices.tolist() for t in received.mesh.triangles]
    expected = corners(TETRAHEDRON.vertices.astype(float).tolist(), TETRAHEDRON.faces)
    assert corners(vertices, triangles) == expected


def test_mesh_marker_is_a_list_of_triangles_in_the_objects_frame() -> None:
    marker = message_conversion.mesh_marker("mug_3", "left/mug_3", TETRAHEDRON)
    assert (marker.ns, marker.id, marker.action) == ("mug_3", 0, marker.ADD)
    assert (marker.header.frame_id, marker.type) == ("left/mug_3", marker.TRIANGLE_LIST)
    assert marker.frame_locked and marker.header.stamp.sec == 0 and marker.color.a > 0
    assert (marker.scale.x, marker.scale.y, marker.scale.z) == (1, 1, 1)
    assert marker.pose.orientation.w == 1
    points = [(p.x, p.y, p.z) for p in marker.points]
    expected = corners(TETRAHEDRON.vertices.astype(float).tolist(), TETRAHEDRON.faces)
    assert points == [corner for triangle in expected for corner in triangle]


def test_deleted_marker_names_the_same_marker() -> None:
    added = message_conversion.mesh_marker("a", "a", TETRAHEDRON)
    deleted = message_conversion.deleted_marker("a", "a")
    assert deleted.action == deleted.DELETE
    assert (deleted.ns, deleted.id) == (added.ns, added.id)


def test_long_fields_are_assigned_as_arrays() -> None:
    sent = message_conversion.object_estimates(Header(), [], "", "", {"a": 1.0})
    assert isinstance(sent.stage_ms, array.array)
    assert isinstance(
        message_conversion.object_mesh(published("a"), TETRAHEDRON).shape_code, array.array
    )


def test_colours_are_stable_and_differ() -> None:
    colours = {message_conversion.colour(f"object_{i}") for i in range(12)}
    assert len(colours) == 12 and message_conversion.colour("a") == message_conversion.colour("a")
    assert all(0 <= c <= 1 for colour in colours for c in colour)


def test_the_marker_of_a_hull_is_pale_and_fixed_in_place() -> None:
    """It has no TF frame, as it is not certified; with one it follows that."""
    T = np.eye(4)
    T[:3, 3] = 0.1, 0.2, 0.3
    hull = dataclasses.replace(estimate(1, T, certified=False), shape_source="observed")
    o = PublishedObject(tracked("object_1", hull), fixed_frame_id="map")
    certified = PublishedObject(tracked("mug_3", estimate(3, T)), fixed_frame_id="map")
    assert certified.marker_frame == "" and o.marker_frame == "map"
    marker = message_conversion.object_marker(o, TETRAHEDRON)
    assert marker.header.frame_id == "map" and not marker.frame_locked
    assert (marker.pose.position.x, marker.pose.position.z) == (0.1, 0.3)
    o.frame_id = certified.frame_id = "object_1"
    framed = message_conversion.object_marker(o, TETRAHEDRON)
    usual = message_conversion.object_marker(certified, TETRAHEDRON)
    assert framed.frame_locked and framed.pose.position.x == 0
    assert framed.color.a < usual.color.a
