"""Messages to planners for objects that appear, move, change, are held and disappear."""

from __future__ import annotations

import dataclasses
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
import trimesh
from moveit_msgs.msg import CollisionObject
from node.fakes import HALF_EDGES, estimate, tracked
from std_msgs.msg import Header

from crisp_ros.geometry.isosurface import TriangleMesh
from crisp_ros.node.outputs.collision_objects import CollisionObjects, SceneFrame
from crisp_ros.node.outputs.mesh_worker import MeshWorker
from crisp_ros.node.outputs.published_objects import PublishedObject
from crisp_ros.node.parameters.node_parameters import Parameters
from crisp_ros.observation.frame import Camera, Frame

ADD, MOVE, REMOVE = CollisionObject.ADD, CollisionObject.MOVE, CollisionObject.REMOVE
CAMERA = Camera(150.0, 150.0, 79.5, 59.5, 160, 120)
PARAMETERS = Parameters(collision_objects="certified")
BEHIND_M, BEFORE_M = 2.0, 0.2


def at(x: float, y: float = 0.0, z: float = 0.8) -> np.ndarray:
    T = np.eye(4)
    T[:3, 3] = x, y, z
    return T


def tracked_box(
    id: str, T: np.ndarray, version: int = 1, seen: bool = True, **options
) -> PublishedObject:
    return PublishedObject(tracked(id, estimate(1, T, **options), version, seen, "mug"))


class World:
    """A planner that applies and records the messages."""

    def __init__(self, work=lambda mesh: [mesh]) -> None:
        self.subscribers = 1
        self.heard: list[CollisionObject] = []
        self.objects: dict[str, CollisionObject] = {}
        self.surfaces_made = 0
        self.errors: list[Exception] = []
        publisher = SimpleNamespace(
            publish=self._hear, get_subscription_count=lambda: self.subscribers
        )
        self.scene = CollisionObjects(publisher, MeshWorker(work, self.errors.append))

    def _hear(self, message: CollisionObject) -> None:
        self.heard.append(message)
        if message.operation == ADD:
            self.objects[message.id] = message
        elif message.operation == MOVE:
            self.objects[message.id].pose = message.pose
        else:
            del self.objects[message.id]

    def _surface(self, o: PublishedObject, grown_m: float) -> TriangleMesh:
        self.surfaces_made += 1
        box = trimesh.creation.box(2 * (HALF_EDGES + grown_m))
        return TriangleMesh(box.vertices.astype(np.float32), box.faces.astype(np.int32))

    def frame(
        self,
        *objects: PublishedObject,
        depth_m: float = BEHIND_M,
        parameters: Parameters = PARAMETERS,
        T: np.ndarray | None = None,
    ) -> list[tuple[bytes, str]]:
        """Update with one frame and all objects with a track; return the messages."""
        depth = np.full((CAMERA.height, CAMERA.width), depth_m, np.float32)
        images = Frame(
            np.zeros((*depth.shape, 3), np.uint8), depth, np.zeros(depth.shape, np.int32), CAMERA
        )
        header = Header(frame_id="world")
        scene = SceneFrame(header, np.eye(4) if T is None else T, images)
        before = len(self.heard)
        self.scene.update(scene, objects, self._surface, parameters)
        return [(m.operation, m.id) for m in self.heard[before:]]


@pytest.fixture
def world() -> World:
    return World()


def corners(message: CollisionObject) -> np.ndarray:
    (mesh,) = message.meshes
    return np.array([(p.x, p.y, p.z) for p in mesh.vertices])


def test_an_object_is_added_with_a_closed_outward_mesh_in_metres(world) -> None:
    assert world.frame(tracked_box("a", at(0.1))) == [(ADD, "a")]
    message = world.objects["a"]
    assert message.header.frame_id == "world" and message.type.key == "mug"
    (mesh,) = message.meshes
    assert len(message.mesh_poses) == 1 and message.mesh_poses[0].orientation.w == 1.0
    faces = np.array([t.vertex_indices for t in mesh.triangles])
    solid = trimesh.Trimesh(corners(message), faces, process=False)
    assert solid.is_watertight and solid.is_winding_consistent and solid.volume > 0
    np.testing.assert_allclose(solid.extents, 2 * HALF_EDGES, atol=1e-6)
    p = message.pose.position
    assert (p.x, p.y, p.z) == (0.1, 0.0, 0.8)


def test_a_motion_has_no_geometry_and_jitter_is_not_sent(world) -> None:
    world.frame(tracked_box("a", at(0.1)))
    assert world.frame(tracked_box("a", at(0.103))) == []
    assert world.frame(tracked_box("a", at(0.106))) == [(MOVE, "a")]
    message = world.heard[-1]
    assert not message.meshes and not message.mesh_poses and not message.primitives
    assert message.pose.position.x == 0.106 and message.header.frame_id == "world"
    turned = at(0.106)
    turned[:3, :3] = [[0, -1, 0], [1, 0, 0], [0, 0, 1]]
    assert world.frame(tracked_box("a", turned)) == [(MOVE, "a")]
    assert world.surfaces_made == 1


def test_a_new_shape_replaces_the_old_one(world) -> None:
    world.frame(tracked_box("a", at(0.1)))
    assert world.frame(tracked_box("a", at(0.1), version=2)) == [(ADD, "a")]
    assert world.frame(tracked_box("a", at(0.1), version=2)) == []


def test_uncertified_objects_are_neither_added_nor_moved(world) -> None:
    assert world.frame(tracked_box("a", at(0.1), certified=False)) == []
    world.frame(tracked_box("a", at(0.1)))
    assert world.frame(tracked_box("a", at(0.3), certified=False)) == []
    assert world.frame(tracked_box("a", at(0.4), version=2, certified=False)) == [(ADD, "a")]
    assert world.objects["a"].pose.position.x == 0.1  # a new shape, at the last certified pose
    every = dataclasses.replace(PARAMETERS, collision_objects="all")
    a, b = (
        tracked_box("a", at(0.1), 2, certified=False),
        tracked_box("b", at(-0.1), certified=False),
    )
    assert world.frame(a, b, parameters=every) == [(ADD, "b")]


def test_an_ended_object_is_removed_once_its_place_is_free(world) -> None:
    a = tracked_box("a", at(0.1))
    world.frame(a)
    unseen = tracked_box("a", at(0.1), seen=False, certified=False)
    assert world.frame(unseen, depth_m=BEFORE_M) == []
    assert world.frame(depth_m=BEFORE_M) == []  # a gripper before it
    assert world.frame(depth_m=0.8 - HALF_EDGES[2]) == []  # it stands there, unsegmented
    assert world.frame(depth_m=BEHIND_M) == [(REMOVE, "a")]
    assert world.frame() == [] and not world.objects


@pytest.mark.parametrize(("T", "depth_m"), [(at(5.0), BEFORE_M), (at(0.1), 0.0)])
def test_an_ended_object_of_unknown_occupancy_is_removed(world, T, depth_m: float) -> None:
    world.frame(tracked_box("a", T))
    assert world.frame(depth_m=depth_m) == [(REMOVE, "a")]


def test_a_new_object_replaces_an_ended_one(world) -> None:
    world.frame(tracked_box("a", at(0.1)))
    b, c = tracked_box("b", at(0.3)), tracked_box("c", at(0.11))
    assert world.frame(b, depth_m=BEFORE_M) == [(ADD, "b")]
    assert world.frame(b, c, depth_m=BEFORE_M) == [(REMOVE, "a"), (ADD, "c")]


def test_held_objects_are_neither_moved_nor_removed(world) -> None:
    world.frame(tracked_box("a", at(0.1)))
    assert world.scene.hold(["a", "never seen"], True) == ["a", "never seen"]
    assert world.frame(tracked_box("a", at(0.3))) == []
    assert world.frame() == []  # its track has ended
    b = tracked_box("b", at(0.1))
    assert world.frame(b) == [(ADD, "b")]
    assert world.scene.hold([], False) == []
    assert world.frame(b) == [(REMOVE, "a")]


def test_a_released_object_is_sent_again_with_its_pose(world) -> None:
    world.frame(tracked_box("a", at(0.1)))
    world.scene.hold(["a"], True)
    world.frame(tracked_box("a", at(0.2)))
    world.scene.hold(["a"], False)
    assert world.frame(tracked_box("a", at(0.2))) == [(ADD, "a")]
    assert world.objects["a"].pose.position.x == 0.2


def test_clear_keeps_held_objects(world) -> None:
    world.frame(tracked_box("a", at(0.1)), tracked_box("b", at(-0.1)))
    world.scene.hold(["a"], True)
    world.scene.clear(Header(frame_id="world"))
    assert set(world.objects) == {"a"} and world.heard[-1].operation == REMOVE


def test_obstacles_are_off_by_default_and_off_removes_all(world) -> None:
    assert world.frame(tracked_box("a", at(0.1)), parameters=Parameters()) == []
    world.frame(tracked_box("a", at(0.1)))
    assert world.frame(tracked_box("a", at(0.1)), parameters=Parameters()) == [(REMOVE, "a")]


def test_without_subscribers_nothing_is_sent_later_ones_get_all(world) -> None:
    world.subscribers = 0
    assert world.frame(tracked_box("a", at(0.1))) == [] and world.surfaces_made == 0
    world.subscribers = 1
    assert world.frame(tracked_box("a", at(0.1)), tracked_box("b", at(-0.1))) == [
        (ADD, "a"),
        (ADD, "b"),
    ]
    world.subscribers = 2
    world.scene.resend_all()
    assert world.frame(tracked_box("a", at(0.1)), tracked_box("b", at(-0.1))) == [
        (ADD, "a"),
        (ADD, "b"),
    ]


def test_padding_is_the_residual_in_whole_millimetres(world) -> None:
    padded = dataclasses.replace(PARAMETERS, collision_padding=True)
    world.frame(tracked_box("a", at(0.1), residual_m=0.0033), parameters=padded)
    reach = corners(world.objects["a"]).max(0)
    np.testing.assert_allclose(reach, HALF_EDGES + 0.004, atol=1e-6)
    world.frame(tracked_box("a", at(0.1), residual_m=0.0033))
    np.testing.assert_allclose(corners(world.objects["a"]).max(0), HALF_EDGES, atol=1e-6)


def test_the_hull_is_used_until_the_parts_are_computed() -> None:
    halves = [trimesh.creation.box((0.03, 0.08, 0.1)) for _ in range(2)]
    made = [TriangleMesh(h.vertices.astype(np.float32), h.faces.astype(np.int32)) for h in halves]
    world = World(lambda mesh: made)
    parts = dataclasses.replace(PARAMETERS, collision_shape="parts")
    assert world.frame(tracked_box("a", at(0.1)), parameters=parts) == [(ADD, "a")]
    assert len(world.objects["a"].meshes) == 1
    assert changes_later(world, parts) == [(ADD, "a")]
    assert len(world.objects["a"].meshes) == len(world.objects["a"].mesh_poses) == 2
    assert world.frame(tracked_box("a", at(0.1)), parameters=parts) == []


def changes_later(world: World, parameters: Parameters) -> list[tuple[bytes, str]]:
    """The next changes of an object, which a background thread prepares."""
    end = time.monotonic() + 20
    while not (said := world.frame(tracked_box("a", at(0.1)), parameters=parameters)):
        assert time.monotonic() < end
        time.sleep(0.01)
    return said


def test_parts_are_computed_again_with_padding() -> None:
    given: list[TriangleMesh] = []
    world = World(lambda mesh: (given.append(mesh), [mesh, mesh])[1])
    parts = dataclasses.replace(PARAMETERS, collision_shape="parts")
    padded = dataclasses.replace(parts, collision_padding=True)
    for parameters, reach in ((parts, HALF_EDGES), (padded, HALF_EDGES + 0.004)):
        assert world.frame(tracked_box("a", at(0.1)), parameters=parameters) == [(ADD, "a")]
        np.testing.assert_allclose(corners(world.objects["a"]).max(0), reach, atol=1e-6)
        assert changes_later(world, parameters) == [(ADD, "a")]
        assert len(world.objects["a"].meshes) == 2
        np.testing.assert_allclose(given[-1].vertices.max(0), reach, atol=1e-6)


def test_parts_that_are_no_longer_needed_are_not_sent() -> None:
    threads: list[threading.Thread] = []
    may_end = threading.Event()

    def work(mesh: TriangleMesh) -> list[TriangleMesh]:
        threads.append(threading.current_thread())
        may_end.wait(20)
        return [mesh, mesh]

    world = World(work)
    parts = dataclasses.replace(PARAMETERS, collision_shape="parts")
    world.frame(tracked_box("a", at(0.1)), parameters=parts)
    end = time.monotonic() + 20
    while not threads:
        assert time.monotonic() < end
        time.sleep(0.01)
    assert world.frame(tracked_box("a", at(0.1))) == [(ADD, "a")]
    may_end.set()
    threads[0].join(20)
    for _ in range(3):
        assert world.frame(tracked_box("a", at(0.1))) == []


def test_the_hull_stays_if_no_parts_are_found() -> None:
    def fail(mesh: TriangleMesh) -> list[TriangleMesh]:
        raise RuntimeError("no cut")

    world = World(fail)
    parts = dataclasses.replace(PARAMETERS, collision_shape="parts")
    world.frame(tracked_box("a", at(0.1)), parameters=parts)
    end = time.monotonic() + 20
    while not world.errors:
        assert time.monotonic() < end
        time.sleep(0.01)
    for _ in range(3):
        world.frame(tracked_box("a", at(0.1)), parameters=parts)
    assert len(world.errors) == 1 and len(world.objects["a"].meshes) == 1


def test_the_scene_may_have_another_frame_than_the_camera(world) -> None:
    T = at(1.0, 2.0, 3.0)
    world.frame(tracked_box("a", at(0.1)), T=T)
    p = world.objects["a"].pose.position
    np.testing.assert_allclose((p.x, p.y, p.z), (1.1, 2.0, 3.8))
    # The camera moved and the object did not: nothing to say.
    assert world.frame(tracked_box("a", at(0.0)), T=at(1.1, 2.0, 3.0)) == []
    # Seen from there its place is out of view, and its time is up.
    assert world.frame(T=at(9.0)) == [(REMOVE, "a")]


def observed_box(id: str, T: np.ndarray, version: int = 1, seen: bool = True) -> PublishedObject:
    """An unknown object with an observed hull."""
    found = dataclasses.replace(
        estimate(1, T, certified=False), shape_source="observed", residual_m=float("inf")
    )
    return PublishedObject(tracked(id, found, version, seen))


def test_an_observed_hull_is_a_padded_obstacle(world: World) -> None:
    """It is padded by the threshold whatever the parameter, and not the shape that follows it."""
    assert world.frame(observed_box("object_1", at(0.1))) == [(ADD, "object_1")]
    vertices = np.array([(p.x, p.y, p.z) for p in world.objects["object_1"].meshes[0].vertices])
    assert np.allclose(np.ptp(vertices, axis=0), 2 * (HALF_EDGES + 0.01), atol=1e-6)
    uncertain = tracked_box("object_1", at(0.3), version=2, certified=False)
    assert world.frame(uncertain) == []
    assert world.frame(tracked_box("object_1", at(0.3), version=2)) == [(ADD, "object_1")]
    assert world.objects["object_1"].pose.position.x == pytest.approx(0.3)


def test_parts_of_a_hull_are_the_hull_itself(world: World) -> None:
    parameters = dataclasses.replace(PARAMETERS, collision_shape="parts")
    assert world.frame(observed_box("object_1", at(0.1)), parameters=parameters) == [
        (ADD, "object_1")
    ]
    assert world.surfaces_made == 1 and len(world.objects["object_1"].meshes) == 1
