"""The node's outputs. What nobody listens to is not computed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from geometry_msgs.msg import PoseArray
from moveit_msgs.msg import CollisionObject
from rclpy.event_handler import PublisherEventCallbacks
from rclpy.lifecycle import LifecycleNode
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from tf2_ros import TransformBroadcaster
from vision_msgs.msg import Detection3DArray, VisionInfo
from visualization_msgs.msg import MarkerArray

from crisp_ros.geometry.convex import convex_parts
from crisp_ros.geometry.decimation import decimated
from crisp_ros.geometry.isosurface import TriangleMesh
from crisp_ros.msg import ObjectEstimateArray, ObjectMesh
from crisp_ros.node.outputs import message_conversion as messages
from crisp_ros.node.outputs.collision_objects import CollisionObjects, SceneFrame
from crisp_ros.node.outputs.image_encoding import rgb_message
from crisp_ros.node.outputs.mesh_worker import Background
from crisp_ros.node.outputs.overlay import Drawn, overlay
from crisp_ros.node.outputs.published_objects import KnownObject
from crisp_ros.node.parameters.node_parameters import Parameters
from crisp_ros.observation.frame import Frame
from crisp_ros.pipeline import Estimator, FrameEstimate

_LATCHED_DEPTH = 100


class Outputs:
    """Everything that the node publishes but diagnostics."""

    def __init__(
        self,
        node: LifecycleNode,
        broadcaster: TransformBroadcaster,
        on_viewer: Callable[[], None],
        models: list[str],
    ) -> None:
        """Creates the publishers.

        Args:
            node: that they belong to.
            broadcaster: for the objects' transforms.
            on_viewer: called when somebody begins to listen to meshes or markers.
            models: versions of the models that were in use so far; it grows with them.
        """
        self._node = node
        self._broadcaster = broadcaster
        self._models = models
        self._told_model = ""
        self._publishers: list[Publisher] = []
        watched = PublisherEventCallbacks(
            matched=lambda event: on_viewer() if event.current_count_change > 0 else None
        )
        latched = dict(qos_profile=_latched(_LATCHED_DEPTH), event_callbacks=watched)
        self._objects = self._created(ObjectEstimateArray, "~/objects", qos_profile=10)
        self._overlay = self._created(Image, "~/overlay", qos_profile=1)
        self._meshes = LatestOfEach(self._created(ObjectMesh, "~/meshes", **latched))
        self._markers = LatestOfEach(self._created(MarkerArray, "~/markers", **latched))
        self._detections = self._created(Detection3DArray, "~/detections", qos_profile=10)
        self._poses = self._created(PoseArray, "~/poses", qos_profile=10)
        self._vision_info = self._created(VisionInfo, "~/vision_info", qos_profile=_latched(1))
        planners = PublisherEventCallbacks(
            matched=lambda event: event.current_count_change > 0 and self.scene.listener_came()
        )
        obstacles = self._created(
            CollisionObject, "collision_object", qos_profile=100, event_callbacks=planners
        )
        decompose = Background(
            convex_parts,
            lambda error: node.get_logger().warning(f"no convex parts, but the hull: {error}"),
        )
        self.scene = CollisionObjects(obstacles, decompose)

    def destroy(self) -> None:
        """Takes the publishers away."""
        for publisher in self._publishers:
            self._node.destroy_lifecycle_publisher(publisher)
        self._publishers.clear()

    @property
    def want_covariance(self) -> bool:
        """Whether somebody listens to what holds it."""
        return any(p.get_subscription_count() > 0 for p in (self._objects, self._detections))

    def publish_model(self, version: str, file: str) -> None:
        """Tells which model is in use, where that has changed."""
        if version == self._told_model:
            return
        self._told_model = version
        if self._models[-1:] != [version]:
            self._models.append(version)
        header = Header(stamp=self._node.get_clock().now().to_msg())
        info = messages.vision_info(header, version, file, len(self._models))
        self._vision_info.publish(info)

    def publish_estimate(
        self,
        header: Header,
        known: Sequence[KnownObject],
        estimate: FrameEstimate,
        stage_ms: Mapping[str, float],
        parameters: Parameters,
    ) -> None:
        """Broadcasts the objects' transforms and publishes the estimates.

        Args:
            header: of the image: stamp and parent frame.
            known: the objects seen in it, and those that are held; the latter's transforms are
                left as they were.
            estimate: of the frame.
            stage_ms: milliseconds a stage, in order.
            parameters: the node's.
        """
        uncertified = parameters.publish_uncertified_tf
        shown = [o for o in known if o.seen and (uncertified or o.estimate.certified)]
        if shown and header.frame_id:
            prefix = parameters.tf_prefix
            self._broadcaster.sendTransform(
                [
                    messages.transform(header, prefix + o.id, o.estimate.T_camera_object)
                    for o in shown
                ]
            )
            for o in shown:
                o.frame_id = prefix + o.id
        if self._objects.get_subscription_count() > 0:
            prefix, version = parameters.tf_prefix, estimate.model_version
            self._objects.publish(
                messages.object_estimates(header, known, prefix, version, stage_ms)
            )
        if self._detections.get_subscription_count() > 0:
            self._detections.publish(messages.detections(header, [o for o in known if o.seen]))
        if self._poses.get_subscription_count() > 0:
            self._poses.publish(messages.poses(header, shown))

    def publish_shapes(
        self, known: Iterable[KnownObject], estimator: Estimator, parameters: Parameters
    ) -> None:
        """Publishes the surfaces that are new since the last time, to whom they interest.

        New is another shape, number of triangles or, for a marker, TF frame.

        Args:
            known: all objects with a track; the markers of all others are taken away.
            estimator: makes surfaces.
            parameters: the node's.
        """
        known = list(known)
        self._forget_all_but({o.id for o in known}, parameters)
        faces = parameters.mesh_faces
        meshes, markers = [], []
        for o in known:
            mesh = (o.version, faces)
            if self._meshes.has_listeners and o.mesh_sent != mesh:
                meshes.append(o)
            if self._markers.has_listeners and o.frame_id and o.marker_sent != (mesh, o.frame_id):
                markers.append(o)
        self._make_meshes([*meshes, *markers], estimator, faces)
        for o in meshes:
            if not o.mesh.is_empty:
                self._meshes.publish(o.id, messages.object_mesh(o, o.mesh))
            o.mesh_sent = o.mesh_of
        for o in markers:
            if not o.mesh.is_empty:
                marker = messages.mesh_marker(o.id, o.frame_id, o.mesh)
                self._markers.publish(o.id, MarkerArray(markers=[marker]))
            o.marker_sent = (o.mesh_of, o.frame_id)

    def publish_scene(
        self,
        scene: SceneFrame,
        known: Iterable[KnownObject],
        estimator: Estimator,
        parameters: Parameters,
    ) -> None:
        """Brings the planners' obstacles up to date; see `CollisionObjects.update`."""

        def surface(o: KnownObject, grown_m: float) -> TriangleMesh:
            return estimator.meshes([o.shape], grown_m)[0]

        self.scene.update(scene, known, surface, parameters)

    def surfaces(
        self, known: Sequence[KnownObject], estimator: Estimator, parameters: Parameters
    ) -> list[TriangleMesh]:
        """The objects' surfaces as they are published."""
        self._make_meshes(known, estimator, parameters.mesh_faces)
        return [o.mesh for o in known]

    def publish_overlay(
        self,
        header: Header,
        frame: Frame,
        known: Sequence[KnownObject],
        estimator: Estimator,
        parameters: Parameters,
    ) -> None:
        """Publishes the image with the estimates drawn into it, if somebody looks."""
        if self._overlay.get_subscription_count() == 0:
            return
        seen = [o for o in known if o.seen]
        self._make_meshes(seen, estimator, parameters.mesh_faces)
        drawn = [Drawn(o.id, o.estimate, o.mesh) for o in seen]
        self._overlay.publish(rgb_message(overlay(frame.rgb, frame.camera, drawn), header))

    def _forget_all_but(self, ids: Collection[str], parameters: Parameters) -> None:
        """Takes the surfaces of all objects away but these."""
        for id in self._meshes.ids - ids:
            self._meshes.forget(id)
        for id in self._markers.ids - ids:
            self._markers.forget(id)
            marker = messages.deleted_marker(id, parameters.tf_prefix + id)
            self._markers.publish_last(MarkerArray(markers=[marker]))

    def _make_meshes(self, known: Iterable[KnownObject], estimator: Estimator, faces: int) -> None:
        """Sees to it that objects have their surfaces, those that are new all at once."""
        without = list({o.id: o for o in known if o.mesh_of != (o.version, faces)}.values())
        surfaces = estimator.meshes([o.shape for o in without]) if without else []
        for o, surface in zip(without, surfaces, strict=True):
            o.mesh, o.mesh_of = decimated(surface, faces), (o.version, faces)

    def _created(self, message_type: type, topic: str, **options: Any) -> Publisher:
        publisher = self._node.create_lifecycle_publisher(
            message_type,
            topic,
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
            **options,
        )
        self._publishers.append(publisher)
        return publisher


def _latched(depth: int) -> QoSProfile:
    """Late subscribers get the last messages, too."""
    return QoSProfile(depth=depth, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class LatestOfEach:
    """Keeps the latest message of each object in a transient-local topic's history.

    The history holds a number of messages, whosever they are: an object that changes often would
    push out one that does not. Whatever is pushed out and still the latest is sent again.
    """

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self._depth = publisher.qos_profile.depth
        self._latest: dict[str, tuple[int, Any]] = {}  # number and message of each object
        self._history: deque[tuple[int, str]] = deque()
        self._count = 0

    @property
    def has_listeners(self) -> bool:
        """Whether anybody subscribes."""
        return self._publisher.get_subscription_count() > 0

    @property
    def ids(self) -> set[str]:
        """Of the objects whose messages stay in the history."""
        return set(self._latest)

    def publish(self, id: str, message: Any) -> None:
        """Sends an object's message; it stays in the history until replaced or forgotten."""
        self._send(id, message)
        self._keep_latest()

    def publish_last(self, message: Any) -> None:
        """Sends a message that need not stay."""
        self._send("", message)
        self.forget("")
        self._keep_latest()

    def forget(self, id: str) -> None:
        """Lets an object's message go."""
        del self._latest[id]

    def _send(self, id: str, message: Any) -> None:
        self._count += 1
        self._latest[id] = (self._count, message)
        self._history.append((self._count, id))
        self._publisher.publish(message)

    def _keep_latest(self) -> None:
        # At most one round: with more objects than the history holds, there would be no end.
        for _ in range(self._depth):
            if len(self._history) <= self._depth:
                return
            number, pushed_out = self._history.popleft()
            latest = self._latest.get(pushed_out)
            if latest is not None and latest[0] == number:
                self._send(pushed_out, latest[1])
