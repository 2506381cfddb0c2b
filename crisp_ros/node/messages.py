"""Estimates, poses and meshes as ROS messages."""

from __future__ import annotations

import array
import colorsys
import math
import zlib
from collections.abc import Mapping, Sequence

import numpy as np
from geometry_msgs.msg import Point, Pose, TransformStamped, Vector3
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from shape_msgs.msg import Mesh, MeshTriangle
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker

from crisp_ros.geometry.isosurface import TriangleMesh
from crisp_ros.msg import ObjectEstimate as ObjectEstimateMessage
from crisp_ros.msg import ObjectEstimateArray, ObjectMesh
from crisp_ros.node.objects import KnownObject

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
        smallest_eigenvalue=tracked.smallest_eigenvalue,
        views_used=tracked.views_used,
        mesh_version=known.version,
    )
    message.pose.pose = pose(estimate.T_camera_object)
    if estimate.covariance is not None:
        message.pose.covariance = estimate.covariance.ravel()
    message.size.x, message.size.y, message.size.z = (estimate.upper - estimate.lower).tolist()
    return message


def _marker(id: str, action: int) -> Marker:
    return Marker(ns=id, id=0, action=action)


def _points(vertices: NDArray[np.float32]) -> list[Point]:
    return [Point(x=x, y=y, z=z) for x, y, z in vertices.astype(np.float64).tolist()]
