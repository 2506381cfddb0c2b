"""Estimates, poses and meshes as ROS messages."""

from __future__ import annotations

import array
import colorsys
import math
import zlib
from collections.abc import Mapping, Sequence

import numpy as np
from geometry_msgs.msg import Point, Pose, PoseArray, TransformStamped, Vector3
from moveit_msgs.msg import CollisionObject
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from shape_msgs.msg import Mesh, MeshTriangle
from std_msgs.msg import ColorRGBA, Header
from vision_msgs.msg import Detection3D, Detection3DArray, ObjectHypothesisWithPose, VisionInfo
from visualization_msgs.msg import Marker

from crisp_ros.geometry.isosurface import TriangleMesh
from crisp_ros.msg import ObjectEstimate as ObjectEstimateMessage
from crisp_ros.msg import ObjectEstimateArray, ObjectMesh
from crisp_ros.node.outputs.published_objects import KnownObject

NOT_SEEN = 0  # label of an object that is held where it was

_GOLDEN = 0.618034  # steps of the hue that never come close to one another


def pose(T: NDArray[np.float64]) -> Pose:
    """The pose of a transform (4, 4), metres, with a unit quaternion x, y, z, w."""
    result = Pose()
    q, p = result.orientation, result.position
    q.x, q.y, q.z, q.w = Rotation.from_matrix(T[:3, :3]).as_quat().tolist()
    p.x, p.y, p.z = T[:3, 3].tolist()
    return result


def transform(header: Header, child_frame_id: str, T: NDArray[np.float64]) -> TransformStamped:
    """The transform (4, 4) that maps coordinates of the child frame to the header's frame."""
    result = TransformStamped(header=header, child_frame_id=child_frame_id)
    at = pose(T)
    result.transform.rotation = at.orientation
    result.transform.translation = Vector3(x=at.position.x, y=at.position.y, z=at.position.z)
    return result


def object_estimates(
    header: Header,
    known: Sequence[KnownObject],
    tf_prefix: str,
    model_version: str,
    stage_ms: Mapping[str, float],
) -> ObjectEstimateArray:
    """The objects of one frame.

    Args:
        header: of the image.
        known: the objects seen in it, and those that are held.
        tf_prefix: put before each id to get the TF frame.
        model_version, stage_ms: of the estimate.
    """
    return ObjectEstimateArray(
        header=header,
        estimates=[_object_estimate(o, tf_prefix) for o in known],
        model_version=model_version,
        stage_names=list(stage_ms),
        stage_ms=array.array("f", stage_ms.values()),
    )


def object_mesh(known: KnownObject, mesh: TriangleMesh) -> ObjectMesh:
    """A version of an object's shape."""
    return ObjectMesh(
        id=known.id,
        mesh_version=known.version,
        mesh=shape_mesh(mesh),
        shape_code=array.array("f", known.shape.code.tolist()),
    )


def shape_mesh(mesh: TriangleMesh) -> Mesh:
    """A mesh in metres, outward."""
    faces = np.ascontiguousarray(mesh.faces, np.uint32)
    return Mesh(
        vertices=_points(mesh.vertices),
        triangles=[MeshTriangle(vertex_indices=face) for face in faces],
    )


def mesh_marker(id: str, frame_id: str, mesh: TriangleMesh) -> Marker:
    """A mesh that moves with an object's TF frame until it is deleted.

    Its stamp is zero, so that viewers take the newest transform.
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


def deleted_marker(id: str, frame_id: str) -> Marker:
    """Takes the marker of an object away."""
    marker = _marker(id, Marker.DELETE)
    marker.header.frame_id = frame_id
    return marker


def detections(header: Header, known: Sequence[KnownObject]) -> Detection3DArray:
    """The objects of one frame as vision_msgs has them.

    The class is the name, or where none is known the label; the pose of the hypothesis is that of
    the object frame, and the box, along the same axes, need not be centred on it.

    Args:
        header: of the image.
        known: the objects seen in it.
    """
    return Detection3DArray(header=header, detections=[_detection(header, o) for o in known])


def poses(header: Header, known: Sequence[KnownObject]) -> PoseArray:
    """The poses of objects in the header's frame."""
    return PoseArray(header=header, poses=[pose(o.estimate.T_camera_object) for o in known])


def vision_info(header: Header, model_version: str, file: str, changes: int) -> VisionInfo:
    """Which model the detections come from.

    Args:
        header: of the time at which it came into use.
        model_version: of the model.
        file: it was read from.
        changes: counts the models that were in use.
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
    """An obstacle with its shape, instead of what has this id so far.

    Args:
        header: its frame, and the stamp of the pose.
        id, class_name: of the object.
        T: (4, 4) its pose in the header's frame.
        parts: closed meshes that make it up, object frame, metres.
    """
    message = _collision_object(header, id, CollisionObject.ADD)
    message.type.key = class_name
    message.pose = pose(T)
    message.meshes = [shape_mesh(part) for part in parts]
    message.mesh_poses = [pose(np.eye(4)) for _ in parts]
    return message


def moved_collision_object(header: Header, id: str, T: NDArray[np.float64]) -> CollisionObject:
    """The same obstacle at another pose; it holds no geometry."""
    message = _collision_object(header, id, CollisionObject.MOVE)
    message.pose = pose(T)
    return message


def removed_collision_object(header: Header, id: str) -> CollisionObject:
    """The end of an obstacle."""
    return _collision_object(header, id, CollisionObject.REMOVE)


def colour(id: str) -> tuple[float, float, float]:
    """A bright colour, red, green, blue in [0, 1], that an object keeps."""
    hue = (zlib.crc32(id.encode()) * _GOLDEN) % 1.0
    return colorsys.hsv_to_rgb(hue, 0.65, 0.95)


def _object_estimate(known: KnownObject, tf_prefix: str) -> ObjectEstimateMessage:
    estimate, tracked = known.estimate, known.tracked
    residual = estimate.residual_m if math.isfinite(estimate.residual_m) else math.nan
    message = ObjectEstimateMessage(
        id=known.id,
        child_frame_id=tf_prefix + known.id,
        class_name=tracked.class_name,
        label=estimate.label if known.seen else NOT_SEEN,
        score=estimate.score,
        certified=estimate.certified,
        certificate_residual=residual,
        certificate_quantile=estimate.quantile,
        certificate_threshold=estimate.threshold_m,
        reason=estimate.reason,
        degenerate=tracked.degenerate,
        smallest_eigenvalue=tracked.smallest_eigenvalue,
        views_used=tracked.views_used,
        mesh_version=known.version,
    )
    message.pose.pose = pose(estimate.T_camera_object)
    if estimate.covariance is not None:
        message.pose.covariance = estimate.covariance.ravel()
    message.size.x, message.size.y, message.size.z = (estimate.upper - estimate.lower).tolist()
    return message


def _detection(header: Header, known: KnownObject) -> Detection3D:
    estimate = known.estimate
    hypothesis = ObjectHypothesisWithPose()
    hypothesis.hypothesis.class_id = known.tracked.class_name or str(estimate.label)
    hypothesis.hypothesis.score = float(estimate.score)
    hypothesis.pose.pose = pose(estimate.T_camera_object)
    if estimate.covariance is not None:
        hypothesis.pose.covariance = estimate.covariance.ravel()
    message = Detection3D(header=header, id=known.id, results=[hypothesis])
    centre = np.eye(4)
    centre[:3, 3] = (estimate.lower + estimate.upper) / 2
    message.bbox.center = pose(estimate.T_camera_object @ centre)
    size = message.bbox.size
    size.x, size.y, size.z = (estimate.upper - estimate.lower).tolist()
    return message


def _collision_object(header: Header, id: str, operation: bytes) -> CollisionObject:
    message = CollisionObject(header=header, id=id, operation=operation)
    # Planners refuse quaternions of length zero, even where they do not need a pose.
    message.pose.orientation.w = 1.0
    return message


def _marker(id: str, action: int) -> Marker:
    return Marker(ns=id, id=0, action=action)


def _points(vertices: NDArray[np.float32]) -> list[Point]:
    return [Point(x=x, y=y, z=z) for x, y, z in vertices.astype(np.float64).tolist()]
