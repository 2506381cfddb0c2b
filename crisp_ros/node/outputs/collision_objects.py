"""Obstacles of a planning scene: added once, then moved, and removed when the object is gone."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from rclpy.publisher import Publisher
from std_msgs.msg import Header

from crisp_ros.geometry.convex import convex_hull
from crisp_ros.geometry.decimation import decimated
from crisp_ros.geometry.isosurface import TriangleMesh
from crisp_ros.geometry.se3 import invert, transform_point
from crisp_ros.geometry.symmetry_group import box_corners
from crisp_ros.node.outputs import message_conversion
from crisp_ros.node.outputs.mesh_worker import MeshWorker
from crisp_ros.node.outputs.occupancy_check import Occupancy, check_occupancy
from crisp_ros.node.outputs.published_objects import PublishedObject
from crisp_ros.node.parameters.node_parameters import Parameters
from crisp_ros.observation.frame import Frame
from crisp_ros.tracking.pose_filter import largest_motion

SurfaceMaker = Callable[[PublishedObject, float], TriangleMesh]
"""Makes the closed surface of an object, grown outwards by a distance in metres."""


class SceneFrame(NamedTuple):
    """A frame that updates a planning scene.

    Attributes:
        header: stamp of the image, and the frame of the obstacles' poses.
        T_scene_camera: (4, 4) pose of the camera in that frame.
        frame: the images.
    """

    header: Header
    T_scene_camera: NDArray[np.float64]
    frame: Frame


@dataclass(eq=False)
class _Obstacle:
    """An object that was sent to planners.

    Attributes:
        published: the object.
        version: of the shape that was sent, 0 to send it again.
        T: (4, 4) pose in the scene.
        points: (V, 3) on its surface, object frame.
        is_observed: whether the shape is an observed hull.
        has_ended: whether its track has ended.
    """

    published: PublishedObject
    version: int
    T: NDArray[np.float64]
    points: NDArray[np.float32]
    is_observed: bool = False
    has_ended: bool = False


class CollisionObjects:
    """Obstacles of a planning scene; without subscribers nothing is computed.

    An object is added with its shape at its first certificate, or immediately if the parameter is
    "all"; a new shape replaces it, a motion is sent without geometry. After the end of its track it
    is removed, unless the depth at its place is occupied: by the object, which was not segmented,
    or by something that hides it, such as a gripper. Then it stays until the place is free or
    another object takes it. Held objects are neither moved nor removed.

    `update` and `clear` are for one thread at a time, `hold` for any.
    """

    def __init__(self, publisher: Publisher, decomposer: MeshWorker) -> None:
        """Start with an empty scene.

        Args:
            publisher: of CollisionObject.
            decomposer: decomposes meshes into convex parts, in a thread of its own.
        """
        self._publisher = publisher
        self._decomposer = decomposer
        self._obstacles: dict[str, _Obstacle] = {}
        self._held: frozenset[str] = frozenset()
        self._shape_settings: tuple[object, ...] = ()
        self._resends_all = False

    @property
    def held(self) -> list[str]:
        """Ids of the held objects, sorted."""
        return sorted(self._held)

    def hold(self, ids: Collection[str], hold: bool) -> list[str]:
        """Hold objects, or release them (all, without ids); return the ids of all held objects."""
        if hold:
            self._held = self._held | frozenset(ids)
        else:
            self._held = self._held - frozenset(ids) if ids else frozenset()
        return self.held

    def resend_all(self) -> None:
        """Send all objects again with the next update."""
        self._resends_all = True

    def update(
        self,
        scene: SceneFrame,
        objects: Iterable[PublishedObject],
        surface: SurfaceMaker,
        parameters: Parameters,
    ) -> None:
        """Publish the changes of a frame.

        Args:
            scene: the frame.
            objects: all objects with a track; the tracks of all others have ended.
            surface: makes surfaces.
            parameters: of the node.
        """
        if parameters.collision_objects == "off":
            self.clear(scene.header)
            return
        objects = list(objects)
        tracked = {o.id for o in objects}
        has_parts = parameters.collision_shape == "parts"
        self._decomposer.keep(tracked | self._obstacles.keys() if has_parts else ())
        if self._publisher.get_subscription_count() == 0:
            self._obstacles.clear()
            return
        shape_settings = (
            parameters.collision_shape,
            parameters.collision_padding,
            parameters.collision_faces,
        )
        if self._resends_all or shape_settings != self._shape_settings:
            self._resends_all, self._shape_settings = False, shape_settings
            for obstacle in self._obstacles.values():
                obstacle.version = 0
        for id in self._held & self._obstacles.keys():
            self._obstacles[id].version = 0  # its pose is unknown: sent again after its release
        for id, obstacle in self._obstacles.items():
            obstacle.has_ended = id not in tracked
        self._remove_free(scene)
        for o in objects:
            if o.id not in self._held:
                self._update_obstacle(scene, o, surface, parameters)

    def clear(self, header: Header) -> None:
        """Remove all obstacles that are not held; frame and stamp are the header's."""
        for id in list(self._obstacles):
            if id in self._held:
                del self._obstacles[id]  # now the planner's own
            else:
                self._remove(header, id)
        self._decomposer.keep(())

    def _update_obstacle(
        self, scene: SceneFrame, o: PublishedObject, surface: SurfaceMaker, parameters: Parameters
    ) -> None:
        obstacle = self._obstacles.get(o.id)
        T = scene.T_scene_camera @ o.estimate.T_camera_object
        every = parameters.collision_objects == "all" or o.estimate.is_observed
        trusted = o.estimate.certified or (every and o.is_seen)
        # The frame of a hull is not that of a shape.
        if not trusted and (obstacle is None or obstacle.is_observed):
            return
        if obstacle is not None and not trusted:
            T = obstacle.T  # its last trusted pose
        is_new_shape = obstacle is None or obstacle.version != o.version
        if is_new_shape or self._decomposer.has_new_result(
            o.id, (o.version, _padding(o, parameters))
        ):
            self._add(scene.header, o, T, surface, parameters)
        elif _motion(obstacle.T, T, o) > parameters.collision_motion:
            obstacle.T = T
            self._publisher.publish(
                message_conversion.moved_collision_object(scene.header, o.id, T)
            )

    def _add(
        self,
        header: Header,
        o: PublishedObject,
        T: NDArray[np.float64],
        surface: SurfaceMaker,
        parameters: Parameters,
    ) -> None:
        whole = surface(o, _padding(o, parameters))
        parts = self._parts(o, whole, parameters)
        if not parts:
            return
        self._make_room(header, o, T)
        self._obstacles[o.id] = _Obstacle(o, o.version, T, whole.vertices, o.shape.is_observed)
        self._publisher.publish(
            message_conversion.added_collision_object(header, o.id, o.tracked.class_name, T, parts)
        )

    def _parts(
        self, o: PublishedObject, whole: TriangleMesh, parameters: Parameters
    ) -> Sequence[TriangleMesh]:
        if whole.is_empty:
            return []
        if parameters.collision_shape == "mesh":
            return [decimated(whole, parameters.collision_faces)]
        if parameters.collision_shape == "parts" and not o.shape.is_observed:
            found = self._decomposer.result(o.id, (o.version, _padding(o, parameters)), whole)
            if found:
                return found
        hull = convex_hull(whole)
        return [] if hull.is_empty else [decimated(hull, parameters.collision_faces)]

    def _make_room(self, header: Header, o: PublishedObject, T: NDArray[np.float64]) -> None:
        """Remove obstacles without a track from the place of a new object."""
        centre = _centre(T, o)
        for id, old in list(self._obstacles.items()):
            if id != o.id and old.has_ended and id not in self._held:
                reach = np.max(old.published.shape.upper - old.published.shape.lower) / 2
                if np.linalg.norm(_centre(old.T, old.published) - centre) < reach:
                    self._remove(header, id)

    def _remove_free(self, scene: SceneFrame) -> None:
        T_camera_scene = invert(scene.T_scene_camera)
        for id, old in list(self._obstacles.items()):
            if old.has_ended and id not in self._held:
                found = check_occupancy(old.points, T_camera_scene @ old.T, scene.frame)
                if found is not Occupancy.OCCUPIED:
                    self._remove(scene.header, id)

    def _remove(self, header: Header, id: str) -> None:
        del self._obstacles[id]
        self._publisher.publish(message_conversion.removed_collision_object(header, id))


def _padding(o: PublishedObject, parameters: Parameters) -> float:
    """Padding of an obstacle, metres: 0, or the certificate's residual in whole millimetres.

    That of an observed hull is the certificate's threshold, always.
    """
    if not (parameters.collision_padding or o.shape.is_observed):
        return 0.0
    residual = o.shape.residual_m
    if not math.isfinite(residual):
        residual = o.shape.threshold_m
    return math.ceil(1e3 * residual) / 1e3


def _centre(T: NDArray[np.float64], o: PublishedObject) -> NDArray[np.float64]:
    return transform_point(T, (o.shape.lower + o.shape.upper) / 2)


def _motion(before: NDArray[np.float64], after: NDArray[np.float64], o: PublishedObject) -> float:
    """Largest displacement of a corner of the object's box, metres."""
    return largest_motion(before, after, box_corners(o.shape.lower, o.shape.upper))
