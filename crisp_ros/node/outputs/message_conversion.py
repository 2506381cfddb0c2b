"""Conversion of estimates, poses and meshes to ROS messages."""

from __future__ import annotations

import array
import colorsys
import math
import zlib
from collections.abc import Mapping, Sequence

import numpy as np
from geometry_msgs.msg import Point, PoseArray, TransformStamped, Vector3
from moveit_msgs.msg import CollisionObject
from numpy.typing import NDArray
from shape_msgs.msg import Mesh, MeshTriangle
from std_msgs.msg import ColorRGBA, Header
from vision_msgs.msg import Detection3D, Detection3DArray, ObjectHypothesisWithPose, VisionInfo
from visualization_msgs.msg import Marker

from crisp_ros.geometry.isosurface import TriangleMesh
from crisp_ros.msg import ObjectEstimate as ObjectEstimateMessage
from crisp_ros.msg import ObjectEstimateArray, ObjectMesh
from crisp_ros.node.outputs.published_objects import PublishedObject
from crisp_ros.node.pose_conversion import pose_message

NOT_SEEN = 0  # label of an object that is held at its last pose

_HULL_ALPHA = 0.4
_GOLDEN = 0.618034  # golden ratio: multiples of it give well separated hues


def transform(header: Header, child_frame_id: str, T: NDArray[np.float64]) -> TransformStamped:
    """Convert the transform (4, 4) from the child frame to the header's frame."""
    result = TransformStamped(header=header, child_frame_id=child_frame_id)
    at = pose_message(T)
    result.transform.rotation = at.orientation
    result.transform.translation = Vector3(x=at.position.x, y=at.position.y, z=at.position.z)
    return result


def object_estimates(
    header: Header,
    objects: Sequence[PublishedObject],
    tf_prefix: str,
    model_version: str,
    stage_ms: Mapping[str, float],
) -> ObjectEstimateArray:
    """Convert the objects of one frame.

    Args:
        header: of the image.
        objects: seen in it, or held.
        tf_prefix: precedes each id in its TF frame.
        model_version: of the estimates.
        stage_ms: durations by stage, milliseconds.
    """
    return ObjectEstimateArray(
        header=header,
        estimates=[_object_estimate(o, tf_prefix) for o in objects],
        model_version=model_version,
        stage_names=list(stage_ms),
        stage_ms=array.array("f", stage_ms.values()),
    )


def object_mesh(published: PublishedObject, mesh: TriangleMesh) -> ObjectMesh:
    """Convert one version of an object's shape."""
    return ObjectMesh(
        id=published.id,
        mesh_version=published.version,
        mesh=shape_mesh(mesh),
        shape_code=array.array("f", published.shape.code.tolist()),
    )


def shape_mesh(mesh: TriangleMesh) -> Mesh:
    """Convert a mesh in metres with outward faces."""
    faces = np.ascontiguousarray(mesh.faces, np.uint32)
    return Mesh(
        vertices=_points(mesh.vertices),
        triangles=[MeshTriangle(vertex_indices=face) for face in faces],
    )


def mesh_marker(id: str, frame_id: str, mesh: TriangleMesh) -> Marker:
    """Create a mesh marker that follows an object's TF frame until it is deleted.

    Its stamp is zero, so that viewers use the newest transform.
    """
    marker = _marker(id, Marker.ADD)
    marker.header.frame_id = frame_id
    marker.frame_locked = True
    marker.type = Marker.TRIANGLE_LIST
    marker.pose.orientation.w = 1.0
    marker.scale = Vector3(x=1.0, y=1.0, z=1.0)
    red, green, blue = colour(id)
    marker.color = ColorRGBA(r=red, g=green, b=blue, a=0.85)
    corners = _points(mesh.vertices)
    marker.points = [corners[i] for i in mesh.faces.ravel().tolist()]
    return marker


def object_marker(published: PublishedObject, mesh: TriangleMesh) -> Marker:
    """Create the marker of an object; that of an observed hull is pale, and may be fixed in place.

    Args:
        published: the object.
        mesh: its surface, object frame, metres.
    """
    marker = mesh_marker(published.id, published.marker_frame, mesh)
    if published.shape.is_observed:
        marker.color.a = _HULL_ALPHA
        if not published.frame_id:
            marker.pose = pose_message(published.tracked.T_fixed_object)
            marker.frame_locked = False
    return marker


def deleted_marker(id: str, frame_id: str) -> Marker:
    """Create the message that deletes an object's marker."""
    marker = _marker(id, Marker.DELETE)
    marker.header.frame_id = frame_id
    return marker


def detections(header: Header, objects: Sequence[PublishedObject]) -> Detection3DArray:
    """Convert the objects of one frame to vision_msgs.

    The class is the name if known, otherwise the label. The pose of the hypothesis is that of the
    object frame; the box has the same axes and may have another centre.

    Args:
        header: of the image.
        objects: seen in it.
    """
    return Detection3DArray(header=header, detections=[_detection(header, o) for o in objects])


def poses(header: Header, objects: Sequence[PublishedObject]) -> PoseArray:
    """Convert the poses of objects in the header's frame."""
    return PoseArray(
        header=header, poses=[pose_message(o.estimate.T_camera_object) for o in objects]
    )


def vision_info(header: Header, model_version: str, file: str, changes: int) -> VisionInfo:
    """Describe the model of the detections.

    Args:
        header: with the time from which it is in use.
        model_version: of the model.
        file: of the model.
        changes: number of models used so far.
    """
    return VisionInfo(
        header=header,
        method=f"CRISP, model {model_version}",
        database_location=file,
        database_version=changes,
    )


def added_collision_object(
    header: Header,
    id: str,
    class_name: str,
    T: NDArray[np.float64],
    parts: Sequence[TriangleMesh],
) -> CollisionObject:
    """Create the message that adds an obstacle, or replaces the one with the same id.

    Args:
        header: frame and stamp of the pose.
        id: of the object.
        class_name: of the object, or "".
        T: (4, 4) pose in the header's frame.
        parts: closed meshes that compose it, object frame, metres.
    """
    message = _collision_object(header, id, CollisionObject.ADD)
    message.type.key = class_name
    message.pose = pose_message(T)
    message.meshes = [shape_mesh(part) for part in parts]
    message.mesh_poses = [pose_message(np.eye(4)) for _ in parts]
    return message


def moved_collision_object(header: Header, id: str, T: NDArray[np.float64]) -> CollisionObject:
    """Create the message that moves an obstacle; it contains no geometry."""
    message = _collision_object(header, id, CollisionObject.MOVE)
    message.pose = pose_message(T)
    return message


def removed_collision_object(header: Header, id: str) -> CollisionObject:
    """Create the message that removes an obstacle."""
    return _collision_object(header, id, CollisionObject.REMOVE)


def colour(id: str) -> tuple[float, float, float]:
    """Choose an object's constant colour: red, green, blue in [0, 1]."""
    hue = (zlib.crc32(id.encode()) * _GOLDEN) % 1.0
    return colorsys.hsv_to_rgb(hue, 0.65, 0.95)


def _object_estimate(published: PublishedObject, tf_prefix: str) -> ObjectEstimateMessage:
    estimate, tracked = published.estimate, published.tracked
    residual = estimate.residual_m if math.isfinite(estimate.residual_m) else math.nan
    message = ObjectEstimateMessage(
        id=published.id,
        child_frame_id=tf_prefix + published.id,
        class_name=tracked.class_name,
        label=estimate.label if published.is_seen else NOT_SEEN,
        score=estimate.score,
        certified=estimate.certified,
        certificate_residual=residual,
        certificate_quantile=estimate.quantile,
        certificate_threshold=estimate.threshold_m,
        reason=estimate.reason,
        orientation_certified=estimate.orientation_certified,
        orientation_reason=estimate.orientation_reason if estimate.certified else "",
        degenerate=tracked.degenerate,
        smallest_eigenvalue=tracked.smallest_eigenvalue,
        shape_source=estimate.shape_source,
        views_used=tracked.views_used,
        mesh_version=published.version,
    )
    message.pose.pose = pose_message(estimate.T_camera_object)
    if estimate.covariance is not None:
        message.pose.covariance = estimate.covariance.ravel()
    message.size.x, message.size.y, message.size.z = (estimate.upper - estimate.lower).tolist()
    return message


def _detection(header: Header, published: PublishedObject) -> Detection3D:
    estimate = published.estimate
    hypothesis = ObjectHypothesisWithPose()
    hypothesis.hypothesis.class_id = published.tracked.class_name or str(estimate.label)
    hypothesis.hypothesis.score = float(estimate.score)
    hypothesis.pose.pose = pose_message(estimate.T_camera_object)
    if estimate.covariance is not None:
        hypothesis.pose.covariance = estimate.covariance.ravel()
    message = Detection3D(header=header, id=published.id, results=[hypothesis])
    centre = np.eye(4)
    centre[:3, 3] = (estimate.lower + estimate.upper) / 2
    message.bbox.center = pose_message(estimate.T_camera_object @ centre)
    size = message.bbox.size
    size.x, size.y, size.z = (estimate.upper - estimate.lower).tolist()
    return message


def _collision_object(header: Header, id: str, operation: bytes) -> CollisionObject:
    message = CollisionObject(header=header, id=id, operation=operation)
    # Planners refuse quaternions of length zero, even if they need no pose.
    message.pose.orientation.w = 1.0
    return message


def _marker(id: str, action: int) -> Marker:
    return Marker(ns=id, id=0, action=action)


def _points(vertices: NDArray[np.float32]) -> list[Point]:
    return [Point(x=x, y=y, z=z) for x, y, z in vertices.astype(np.float64).tolist()]
