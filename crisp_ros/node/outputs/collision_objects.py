"""Objects as obstacles of a planning scene: added once, then moved, and taken away when gone."""

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
from crisp_ros.geometry.se3 import transform_point
from crisp_ros.geometry.symmetry_group import box_corners
from crisp_ros.node.outputs import message_conversion as messages
from crisp_ros.node.outputs.mesh_worker import Background
from crisp_ros.node.outputs.occupancy_check import Presence, presence
from crisp_ros.node.outputs.published_objects import KnownObject
from crisp_ros.node.parameters.node_parameters import Parameters
from crisp_ros.observation.frame import Frame
from crisp_ros.tracking.pose_filter import largest_motion

SurfaceMaker = Callable[[KnownObject, float], TriangleMesh]
"""The closed surface of an object, grown outwards by so many metres."""


class SceneFrame(NamedTuple):
    """What a planning scene is brought up to date by.

    header: stamp of the image, and the frame that obstacles are placed in. T_scene_camera: (4, 4)
    of the camera in it. frame: the images.
    """

    header: Header
    T_scene_camera: NDArray[np.float64]
    frame: Frame


@dataclass(eq=False)
class _Obstacle:
    """What planners were told of an object.

    known: the object. version: of the shape that was sent, 0 to have it sent again. T: (4, 4) pose
    in the scene. points: (V, 3) on its surface, object frame. has_ended: its track has.
    """

    known: KnownObject
    version: int
    T: NDArray[np.float64]
    points: NDArray[np.float32]
    has_ended: bool = False


class CollisionObjects:
    """Keeps a planning scene up to date; with nobody listening it does nothing.

    An object enters with its first certificate (or at once, where the parameter says "all"), with
    its shape; a new shape replaces it, a motion is sent without geometry. Once its track has ended
    it is removed, unless the depth at its place shows something: the object, which only was not
    segmented, or what hides it, a gripper above all. Then it stays until the camera looks through,
    or another object takes its place. What a gripper holds is left alone altogether.

    `update` and `clear` are for one thread at a time, `hold` for any.
    """

    def __init__(self, publisher: Publisher, decompose: Background) -> None:
        """Has told nothing yet.

        Args:
            publisher: of CollisionObject.
            decompose: turns meshes into convex parts, in a thread of its own.
        """
        self._publisher = publisher
        self._decompose = decompose
        self._obstacles: dict[str, _Obstacle] = {}
        self._held: frozenset[str] = frozenset()
        self._shape_settings: tuple[object, ...] = ()
        self._is_new_listener = False

    @property
    def held(self) -> list[str]:
        """Ids of what is held, sorted."""
        return sorted(self._held)

    def hold(self, ids: Collection[str], hold: bool) -> list[str]:
        """Holds objects, or lets them go (all, where no ids are given); all that are held then."""
        if hold:
            self._held = self._held | frozenset(ids)
        else:
            self._held = self._held - frozenset(ids) if ids else frozenset()
        return self.held

    def listener_came(self) -> None:
        """Has everything sent again."""
        self._is_new_listener = True

    def update(
        self,
        scene: SceneFrame,
        known: Iterable[KnownObject],
        surface: SurfaceMaker,
        parameters: Parameters,
    ) -> None:
        """Tells what changed with a frame.

        Args:
            scene: the frame.
            known: all objects with a track; the tracks of all others have ended.
            surface: makes surfaces.
            parameters: of the node.
        """
        if parameters.collision_objects == "off":
            self.clear(scene.header)
            return
        known = list(known)
        tracked = {o.id for o in known}
        has_parts = parameters.collision_shape == "parts"
        self._decompose.keep(tracked | self._obstacles.keys() if has_parts else ())
        if self._publisher.get_subscription_count() == 0:
            self._obstacles.clear()
            return
        shape_settings = (
            parameters.collision_shape,
            parameters.collision_padding,
            parameters.collision_faces,
        )
        if self._is_new_listener or shape_settings != self._shape_settings:
            self._is_new_listener, self._shape_settings = False, shape_settings
            for obstacle in self._obstacles.values():
                obstacle.version = 0
        for id in self._held & self._obstacles.keys():
            self._obstacles[id].version = 0  # wherever it was put, it is sent when it is let go
        for id, obstacle in self._obstacles.items():
            obstacle.has_ended = id not in tracked
        self._remove_the_gone(scene)
        for o in known:
            if o.id not in self._held:
                self._bring_up_to_date(scene, o, surface, parameters)

    def clear(self, header: Header) -> None:
        """Removes all obstacles but those that are held; the frame and stamp are the header's."""
        for id in list(self._obstacles):
            if id in self._held:
                del self._obstacles[id]  # the planner's own now
            else:
                self._remove(header, id)
        self._decompose.keep(())

    def _bring_up_to_date(
        self, scene: SceneFrame, o: KnownObject, surface: SurfaceMaker, parameters: Parameters
    ) -> None:
        obstacle = self._obstacles.get(o.id)
        T = scene.T_scene_camera @ o.estimate.T_camera_object
        trusted = o.estimate.certified or (parameters.collision_objects == "all" and o.seen)
        if obstacle is None and not trusted:
            return
        if obstacle is not None and not trusted:
            T = obstacle.T  # where it was last known to be
        is_new_shape = obstacle is None or obstacle.version != o.version
        if is_new_shape or self._decompose.has_news(o.id, (o.version, _padding(o, parameters))):
            self._add(scene.header, o, T, surface, parameters)
        elif _motion(obstacle.T, T, o) > parameters.collision_motion:
            obstacle.T = T
            self._publisher.publish(messages.moved_collision_object(scene.header, o.id, T))

    def _add(
        self,
        header: Header,
        o: KnownObject,
        T: NDArray[np.float64],
        surface: SurfaceMaker,
        parameters: Parameters,
    ) -> None:
        whole = surface(o, _padding(o, parameters))
        parts = self._parts(o, whole, parameters)
        if not parts:
            return
        self._make_room(header, o, T)
        self._obstacles[o.id] = _Obstacle(o, o.version, T, whole.vertices)
        self._publisher.publish(
            messages.added_collision_object(header, o.id, o.tracked.class_name, T, parts)
        )

    def _parts(
        self, o: KnownObject, whole: TriangleMesh, parameters: Parameters
    ) -> Sequence[TriangleMesh]:
        if whole.is_empty:
            return []
        if parameters.collision_shape == "mesh":
            return [decimated(whole, parameters.collision_faces)]
        if parameters.collision_shape == "parts":
            found = self._decompose.result(o.id, (o.version, _padding(o, parameters)), whole)
            if found:
                return found
        hull = convex_hull(whole)
        return [] if hull.is_empty else [decimated(hull, parameters.collision_faces)]

    def _make_room(self, header: Header, o: KnownObject, T: NDArray[np.float64]) -> None:
        """Removes what is still in a new object's place though its track has ended."""
        centre = _centre(T, o)
        for id, old in list(self._obstacles.items()):
            if id != o.id and old.has_ended and id not in self._held:
                reach = np.max(old.known.shape.upper - old.known.shape.lower) / 2
                if np.linalg.norm(_centre(old.T, old.known) - centre) < reach:
                    self._remove(header, id)

    def _remove_the_gone(self, scene: SceneFrame) -> None:
        T_camera_scene = np.linalg.inv(scene.T_scene_camera)
        for id, old in list(self._obstacles.items()):
            if old.has_ended and id not in self._held:
                found = presence(old.points, T_camera_scene @ old.T, scene.frame)
                if found is not Presence.POSSIBLE:
                    self._remove(scene.header, id)

    def _remove(self, header: Header, id: str) -> None:
        del self._obstacles[id]
        self._publisher.publish(messages.removed_collision_object(header, id))


def _padding(o: KnownObject, parameters: Parameters) -> float:
    """Metres by which an obstacle is larger than the surface: none, or how far that may be from
    the truth, by the certificate, in whole millimetres."""
    if not parameters.collision_padding:
        return 0.0
    residual = o.shape.residual_m
    if not math.isfinite(residual):
        residual = o.shape.threshold_m
    return math.ceil(1e3 * residual) / 1e3


def _centre(T: NDArray[np.float64], o: KnownObject) -> NDArray[np.float64]:
    return transform_point(T, (o.shape.lower + o.shape.upper) / 2)


def _motion(before: NDArray[np.float64], after: NDArray[np.float64], o: KnownObject) -> float:
    """The farthest way of a corner of the object's box, metres."""
    return largest_motion(before, after, box_corners(o.shape.lower, o.shape.upper))
