"""Publishers of the node. What has no subscriber is not computed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from geometry_msgs.msg import PoseArray
from moveit_msgs.msg import CollisionObject
from rclpy.event_handler import PublisherEventCallbacks
from rclpy.lifecycle import LifecycleNode
from rclpy.publisher import Publisher
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import Image, PointCloud2
from std_msgs.msg import Header
from tf2_ros import TransformBroadcaster
from vision_msgs.msg import Detection3DArray, VisionInfo
from visualization_msgs.msg import MarkerArray

from crisp_ros.geometry.convex import convex_parts
from crisp_ros.geometry.decimation import decimated
from crisp_ros.geometry.isosurface import TriangleMesh
from crisp_ros.msg import ObjectEstimateArray, ObjectMesh
from crisp_ros.node.outputs import message_conversion
from crisp_ros.node.outputs.collision_objects import CollisionObjects, SceneFrame
from crisp_ros.node.outputs.image_encoding import rgb_message
from crisp_ros.node.outputs.latched_publisher import LatchedPublisher
from crisp_ros.node.outputs.mesh_worker import MeshWorker
from crisp_ros.node.outputs.overlay import OverlayObject, overlay
from crisp_ros.node.outputs.point_cloud import point_cloud_message
from crisp_ros.node.outputs.published_objects import MeshKey, PublishedObject
from crisp_ros.node.parameters.node_parameters import Parameters
from crisp_ros.node.qos import latched
from crisp_ros.observation.frame import Frame
from crisp_ros.observation.object_points import object_points
from crisp_ros.pipeline import Estimator

_LATCHED_DEPTH = 100


class Publishers:
    """All publishers of the node, except that of diagnostics.

    Attributes:
        scene: the obstacles of planners.
    """

    def __init__(
        self,
        node: LifecycleNode,
        broadcaster: TransformBroadcaster,
        estimator: Estimator,
        on_viewer: Callable[[], None],
        model_versions: list[str],
    ) -> None:
        """Create the publishers.

        Args:
            node: that they belong to.
            broadcaster: of the objects' transforms.
            estimator: makes surfaces.
            on_viewer: called when a subscriber of meshes or markers appears.
            model_versions: of all models used so far; extended with each new one.
        """
        self._node = node
        self._broadcaster = broadcaster
        self._estimator = estimator
        self._model_versions = model_versions
        self._published_version = ""
        self._publishers: list[Publisher] = []
        viewers = PublisherEventCallbacks(
            matched=lambda event: on_viewer() if event.current_count_change > 0 else None
        )
        planners = PublisherEventCallbacks(
            matched=lambda event: event.current_count_change > 0 and self.scene.resend_all()
        )
        shapes = dict(qos_profile=latched(_LATCHED_DEPTH), event_callbacks=viewers)
        self._objects = self._create(ObjectEstimateArray, "~/objects", qos_profile=10)
        self._overlay = self._create(Image, "~/overlay", qos_profile=1)
        self._points = self._create(PointCloud2, "~/points", qos_profile=1)
        self._meshes = LatchedPublisher(self._create(ObjectMesh, "~/meshes", **shapes))
        self._markers = LatchedPublisher(self._create(MarkerArray, "~/markers", **shapes))
        self._detections = self._create(Detection3DArray, "~/detections", qos_profile=10)
        self._poses = self._create(PoseArray, "~/poses", qos_profile=10)
        self._vision_info = self._create(VisionInfo, "~/vision_info", qos_profile=latched(1))
        obstacles = self._create(
            CollisionObject, "collision_object", qos_profile=100, event_callbacks=planners
        )
        decomposer = MeshWorker(
            convex_parts,
            lambda error: node.get_logger().warning(f"convex hull instead of parts: {error}"),
        )
        self.scene = CollisionObjects(obstacles, decomposer)

    def destroy(self) -> None:
        """Destroy the publishers."""
        for publisher in self._publishers:
            self._node.destroy_lifecycle_publisher(publisher)
        self._publishers.clear()

    @property
    def wants_covariance(self) -> bool:
        """Whether a message with covariances has subscribers."""
        return any(p.get_subscription_count() > 0 for p in (self._objects, self._detections))

    def publish_model(self, version: str, file: str) -> None:
        """Publish which model is in use, if that has changed."""
        if version == self._published_version:
            return
        self._published_version = version
        if self._model_versions[-1:] != [version]:
            self._model_versions.append(version)
        header = Header(stamp=self._node.get_clock().now().to_msg())
        changes = len(self._model_versions)
        self._vision_info.publish(message_conversion.vision_info(header, version, file, changes))

    def broadcast_transforms(
        self, header: Header, objects: Iterable[PublishedObject], parameters: Parameters
    ) -> None:
        """Broadcast the transforms of the objects that a frame shows.

        Args:
            header: of the image: stamp and parent frame.
            objects: seen in it, or held; the transforms of held objects stay as they are.
            parameters: of the node.
        """
        shown = _shown(objects, parameters)
        if not (shown and header.frame_id):
            return
        for o in shown:
            o.frame_id = parameters.tf_prefix + o.id
        self._broadcaster.sendTransform(
            [
                message_conversion.transform(header, o.frame_id, o.estimate.T_camera_object)
                for o in shown
            ]
        )

    def publish_estimates(
        self,
        header: Header,
        objects: Sequence[PublishedObject],
        model_version: str,
        stage_ms: Mapping[str, float],
        parameters: Parameters,
    ) -> None:
        """Publish the estimates of a frame to the subscribers of each message.

        Args:
            header: of the image.
            objects: seen in it, or held.
            model_version: of the estimates.
            stage_ms: durations by stage, in order, milliseconds.
            parameters: of the node.
        """
        if self._objects.get_subscription_count() > 0:
            self._objects.publish(
                message_conversion.object_estimates(
                    header, objects, parameters.tf_prefix, model_version, stage_ms
                )
            )
        if self._detections.get_subscription_count() > 0:
            seen = [o for o in objects if o.is_seen]
            self._detections.publish(message_conversion.detections(header, seen))
        if self._poses.get_subscription_count() > 0:
            shown = _shown(objects, parameters)
            self._poses.publish(message_conversion.poses(header, shown))

    def publish_shapes(self, objects: Iterable[PublishedObject], parameters: Parameters) -> None:
        """Publish the surfaces that have changed, to the subscribers of meshes and markers.

        A change is another shape, number of triangles or, of a marker, TF frame.

        Args:
            objects: all objects with a track; the markers of all others are deleted.
            parameters: of the node.
        """
        objects = list(objects)
        self._delete_all_but({o.id for o in objects}, parameters)
        max_faces = parameters.mesh_faces
        meshes, markers = [], []
        for o in objects:
            key = MeshKey(o.version, max_faces)
            if self._meshes.has_subscribers and o.sent_mesh != key:
                meshes.append(o)
            frame_id = o.marker_frame
            if self._markers.has_subscribers and frame_id and o.sent_marker != (key, frame_id):
                markers.append(o)
        self._make_meshes([*meshes, *markers], max_faces)
        for o in meshes:
            if not o.mesh.is_empty:
                self._meshes.publish(o.id, message_conversion.object_mesh(o, o.mesh))
            o.sent_mesh = o.mesh_key
        for o in markers:
            if not o.mesh.is_empty:
                marker = message_conversion.object_marker(o, o.mesh)
                self._markers.publish(o.id, MarkerArray(markers=[marker]))
            o.sent_marker = (o.mesh_key, o.marker_frame)

    def publish_scene(
        self, scene: SceneFrame, objects: Iterable[PublishedObject], parameters: Parameters
    ) -> None:
        """Update the obstacles of planners; see `CollisionObjects.update`."""
        objects = list(objects)
        for o in objects:
            o.fixed_frame_id = scene.header.frame_id

        def surface(o: PublishedObject, grown_m: float) -> TriangleMesh:
            return self._estimator.meshes([o.shape], grown_m)[0]

        self.scene.update(scene, objects, surface, parameters)

    def publish_overlay(
        self,
        header: Header,
        frame: Frame,
        objects: Sequence[PublishedObject],
        parameters: Parameters,
    ) -> None:
        """Publish the image with the estimates drawn into it, to its subscribers."""
        if self._overlay.get_subscription_count() == 0:
            return
        seen = [o for o in objects if o.is_seen]
        meshes = self.surfaces(seen, parameters.mesh_faces)
        drawn = [
            OverlayObject(o.id, o.estimate, mesh) for o, mesh in zip(seen, meshes, strict=True)
        ]
        self._overlay.publish(rgb_message(overlay(frame.rgb, frame.camera, drawn), header))

    def publish_points(
        self, header: Header, frame: Frame, objects: Sequence[PublishedObject]
    ) -> None:
        """Publish the depth points of all labelled objects, to their subscribers."""
        if self._points.get_subscription_count() == 0:
            return
        certified = {o.estimate.label for o in objects if o.is_seen and o.estimate.certified}
        self._points.publish(point_cloud_message(header, object_points(frame, certified)))

    def surfaces(self, objects: Sequence[PublishedObject], max_faces: int) -> list[TriangleMesh]:
        """Get the surfaces of objects as they are published."""
        self._make_meshes(objects, max_faces)
        return [o.mesh for o in objects]

    def _delete_all_but(self, ids: Collection[str], parameters: Parameters) -> None:
        for id in self._meshes.ids - ids:
            self._meshes.forget(id)
        for id in self._markers.ids - ids:
            self._markers.forget(id)
            marker = message_conversion.deleted_marker(id, parameters.tf_prefix + id)
            self._markers.publish_unlatched(MarkerArray(markers=[marker]))

    def _make_meshes(self, objects: Iterable[PublishedObject], max_faces: int) -> None:
        """Make the surfaces of the objects that lack them, all at once."""
        without = list({o.id: o for o in objects if o.mesh_key != (o.version, max_faces)}.values())
        surfaces = self._estimator.meshes([o.shape for o in without]) if without else []
        for o, surface in zip(without, surfaces, strict=True):
            o.mesh, o.mesh_key = decimated(surface, max_faces), MeshKey(o.version, max_faces)

    def _create(self, message_type: type, topic: str, **options: Any) -> Publisher:
        publisher = self._node.create_lifecycle_publisher(
            message_type,
            topic,
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
            **options,
        )
        self._publishers.append(publisher)
        return publisher


def _shown(objects: Iterable[PublishedObject], parameters: Parameters) -> list[PublishedObject]:
    """Select the objects whose poses are published: seen and, by default, certified."""
    if parameters.publish_uncertified_tf:
        return [o for o in objects if o.is_seen]
    if parameters.certified_orientation_tf:
        return [o for o in objects if o.is_seen and o.estimate.orientation_certified]
    return [o for o in objects if o.is_seen and o.estimate.certified]
