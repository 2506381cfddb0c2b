"""Outputs of the node over real DDS, which cost nothing without subscribers."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import trimesh
from crisp_ros.msg import ObjectMesh
from geometry_msgs.msg import PoseArray
from lifecycle_msgs.msg import Transition
from moveit_msgs.msg import CollisionObject
from node.fakes import HALF_EDGES, FakeEstimator
from node.peer import CAMERA_FRAME, FAKE_NODE, LATCHED, Peer, Scene, graph
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile
from ros_graph import isolated_node, spin_until
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection3DArray, VisionInfo
from visualization_msgs.msg import Marker, MarkerArray

from crisp_ros.geometry.isosurface import TriangleMesh
from crisp_ros.node.crisp_node import CrispNode
from crisp_ros.node.outputs import message_conversion
from crisp_ros.pipeline import ObjectEstimate, Trace

ARGUMENTS = [
    *("--ros-args", "-p", "label_names:=1=mug", "-p", "object_timeout:=0.5"),
    *("-p", "collision_objects:=certified", "-p", "tracked_labels:=true"),
]


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[Peer, subprocess.Popen[bytes]]]:
    with graph(FAKE_NODE, ARGUMENTS) as (peer, process):
        peer.listen(VisionInfo, "/crisp/vision_info", "vision_info", LATCHED)
        peer.listen(Detection3DArray, "/crisp/detections", "detections", 10)
        peer.listen(PoseArray, "/crisp/poses", "poses", 10)
        peer.listen(CollisionObject, "/collision_object", "collision", 100)
        peer.listen(MarkerArray, "/crisp/markers", "markers", LATCHED)
        peer.activate()
        topics = ("/crisp/detections", "/crisp/poses", "/collision_object", "/crisp/markers")
        peer.wait(lambda: all(peer.node.count_publishers(t) for t in topics))
        spin_until(peer.node, lambda: False, 1.0)  # the other side has to find us, too
        yield peer, process
        assert process.poll() is None, "the node did not survive"


@pytest.fixture
def peer(running: tuple[Peer, subprocess.Popen[bytes]]) -> Peer:
    peer, process = running
    assert process.poll() is None, "the node did not survive"
    return peer


def grid_scene(count: int, shift: int = 0) -> Scene:
    """Rectangles of several objects, next to each other."""
    boxes = {}
    for i in range(count):
        left, top = 4 + 38 * (i % 4) + shift, 4 + 38 * (i // 4)
        boxes[i + 1] = (left, top, left + 24, top + 24, 0.6 + 0.02 * i)
    return Scene(boxes)


def empty_scene() -> Scene:
    return Scene({1: (0, 0, 0, 0, 1.0)})


def test_detections_and_poses_agree_with_the_estimates(peer: Peer) -> None:
    scene = Scene({1: (20, 30, 60, 70, 0.5), 102: (90, 40, 130, 100, 0.8)})
    answer = peer.answer(scene)
    found, poses = [], []

    def arrived() -> bool:
        found[:] = [m for m in peer.received["detections"] if m.header == answer.header]
        poses[:] = [m for m in peer.received["poses"] if m.header == answer.header]
        return bool(found and poses)

    peer.wait(arrived)
    seen = [o for o in answer.estimates if o.label]
    assert [d.id for d in found[0].detections] == [o.id for o in seen]
    for detection, o in zip(found[0].detections, seen, strict=True):
        assert detection.header == answer.header
        (hypothesis,) = detection.results
        assert hypothesis.hypothesis.class_id == ("mug" if o.label == 1 else "102")
        assert hypothesis.hypothesis.score == pytest.approx(o.score)
        assert hypothesis.pose.pose == o.pose.pose
        assert detection.bbox.center == o.pose.pose  # the fake's box is centred
        size = detection.bbox.size
        np.testing.assert_allclose((size.x, size.y, size.z), 2 * HALF_EDGES)
    (shown,) = poses[0].poses  # only the certified one
    assert shown == seen[0].pose.pose and poses[0].header.frame_id == CAMERA_FRAME


def test_vision_info_names_the_model_to_late_subscribers(peer: Peer) -> None:
    peer.wait(lambda: peer.received["vision_info"])
    later: list[VisionInfo] = []
    subscription = peer.node.create_subscription(
        VisionInfo, "/crisp/vision_info", later.append, LATCHED
    )
    peer.wait(lambda: later)
    assert later[0].method == "CRISP, model fake-1" and later[0].database_version == 1
    assert later[0].database_location.endswith(".safetensors")
    peer.node.destroy_subscription(subscription)


def world_of(received: list[CollisionObject]) -> dict[str, CollisionObject]:
    """Planning scene after the received messages."""
    world: dict[str, CollisionObject] = {}
    for message in received:
        if message.operation == CollisionObject.ADD:
            world[message.id] = message
        elif message.operation == CollisionObject.REMOVE:
            world.pop(message.id, None)
    return world


def shown_of(received: list[MarkerArray]) -> set[str]:
    """Visible markers after the received messages."""
    shown: set[str] = set()
    for marker in (m for array in received for m in array.markers):
        (shown.add if marker.action == Marker.ADD else shown.discard)(marker.ns)
    return shown


def test_twelve_objects_appear_move_and_disappear(peer: Peer) -> None:
    collision, markers = peer.received["collision"], peer.received["markers"]
    answer = peer.answer(grid_scene(12))
    ids = {o.id for o in answer.estimates if o.label}
    assert len(ids) == 12
    peer.wait(lambda: ids <= world_of(collision).keys() and ids <= shown_of(markers))
    for message in world_of(collision).values():
        (mesh,) = message.meshes
        vertices = np.array([(p.x, p.y, p.z) for p in mesh.vertices])
        faces = np.array([t.vertex_indices for t in mesh.triangles])
        solid = trimesh.Trimesh(vertices, faces, process=False)
        assert solid.is_watertight and solid.volume > 0
        assert message.header.frame_id == CAMERA_FRAME

    before = len(collision)
    moved = peer.answer(grid_scene(12, shift=6))
    assert {o.id for o in moved.estimates if o.label} == ids
    peer.wait(lambda: {m.id for m in collision[before:]} >= ids)
    said = collision[before:]
    assert {m.operation for m in said} == {CollisionObject.MOVE}
    assert not any(m.meshes or m.mesh_poses for m in said)
    assert all(m.header == moved.header for m in said)

    # Seven leave; nothing hides their places.
    for _ in range(8):
        peer.answer(grid_scene(5, shift=6))
    left = {o.id for o in moved.estimates if 0 < o.label <= 5}
    peer.wait(lambda: shown_of(markers) == left)
    peer.wait(lambda: world_of(collision).keys() == left)
    for _ in range(8):
        peer.answer(empty_scene())
    peer.wait(lambda: not shown_of(markers) and not world_of(collision))


def test_deactivation_removes_obstacles_and_markers(peer: Peer) -> None:
    collision, markers = peer.received["collision"], peer.received["markers"]
    ids = {o.id for o in peer.answer(grid_scene(3)).estimates if o.label}
    peer.wait(lambda: ids <= world_of(collision).keys() and ids <= shown_of(markers))
    assert peer.transition(Transition.TRANSITION_DEACTIVATE)
    peer.wait(lambda: not world_of(collision) and not shown_of(markers))
    assert peer.transition(Transition.TRANSITION_ACTIVATE)
    peer.wait(peer.is_heard)
    assert len(peer.answer(grid_scene(3)).estimates) == 3


MADE_FOR_LISTENERS = (
    "object_estimates",
    "object_mesh",
    "mesh_marker",
    "detections",
    "poses",
    "added_collision_object",
)


class InProcess:
    """The node in this process, so that a test can inspect it; a peer sends it frames."""

    def __init__(self, node: Node, estimator: FakeEstimator) -> None:
        self.node = node
        self.tested = CrispNode(lambda parameters: estimator, context=node.context)
        self.tested.set_parameters_atomically([Parameter("collision_objects", value="all")])
        self.tested.trigger_configure()
        self.tested.trigger_activate()
        self._executor = SingleThreadedExecutor(context=node.context)
        self._executor.add_node(node)
        self._executor.add_node(self.tested)
        self._peer = Peer(node)
        for subscription in list(node.subscriptions):  # this one does not listen
            node.destroy_subscription(subscription)
        self.spin(self._peer.is_heard)
        self.spin(lambda: self.tested.count_subscribers("/crisp/objects") == 0)

    def spin(self, condition: Callable[[], bool], seconds: float = 30.0) -> None:
        """Spin both nodes until the condition holds."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, "the condition did not become true in time"
            self._executor.spin_once(timeout_sec=0.05)

    def frame(self, scene: Scene | None = None) -> None:
        """Send one frame and wait until it is estimated or dropped."""
        work = self.tested._monitor.work
        before = work.frames + work.dropped.total()
        self._peer.send(scene or Scene())
        self.spin(lambda: work.frames + work.dropped.total() > before)

    def listen(self, kind: type, topic: str, qos: QoSProfile | int = 10) -> list:
        """Subscribe to a topic and return the list of its messages."""
        heard: list = []
        self.node.create_subscription(kind, topic, heard.append, qos)
        self.spin(lambda: self.tested.count_subscribers(topic) == 1)
        return heard

    def close(self) -> None:
        """End the node."""
        self.tested.close()
        self._executor.shutdown(1.0)
        self.tested.destroy_node()


@contextmanager
def in_process(estimator: FakeEstimator) -> Iterator[InProcess]:
    with isolated_node("peer") as node:
        running = InProcess(node, estimator)
        try:
            yield running
        finally:
            running.close()


def test_without_subscribers_nothing_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    for name in MADE_FOR_LISTENERS:
        function = getattr(message_conversion, name)
        monkeypatch.setattr(
            message_conversion, name, lambda *a, _n=name, _f=function: (made.append(_n), _f(*a))[1]
        )
    estimator = FakeEstimator()
    with in_process(estimator) as running:
        for _ in range(3):
            running.frame()
        assert made == [] and estimator.meshes_made == 0
        assert estimator.settings.covariance is None

        heard = [
            running.listen(Detection3DArray, "/crisp/detections"),
            running.listen(CollisionObject, "/collision_object"),
            running.listen(Image, "/crisp/overlay"),
        ]
        running.spin(lambda: (running.frame(), all(heard))[1])
        assert set(made) == {"detections", "added_collision_object"}
        assert estimator.settings.covariance is not None


def test_an_object_that_ends_in_a_failed_frame_is_removed_later() -> None:
    class OutOfMemory(FakeEstimator):
        fails = False

        def meshes(self, *arguments) -> list[TriangleMesh]:
            if self.fails:
                raise RuntimeError("out of memory")
            return super().meshes(*arguments)

    estimator = OutOfMemory()
    one, two, three = (20, 30, 40, 50, 0.5), (90, 40, 130, 100, 0.8), (60, 5, 85, 25, 0.9)
    with in_process(estimator) as running:
        collision = running.listen(CollisionObject, "/collision_object", 100)
        markers = running.listen(MarkerArray, "/crisp/markers", LATCHED)
        running.frame(Scene({1: one, 2: two}))
        running.spin(lambda: len(world_of(collision)) == len(shown_of(markers)) == 2)
        running.tested.set_parameters_atomically([Parameter("object_timeout", value=0.15)])
        running.frame(Scene({2: two}))
        estimator.fails = True
        running.frame(Scene({2: two, 3: three}))
        running.spin(lambda: "out of memory" in running.tested._monitor.work.last_error)
        estimator.fails = False
        running.frame(Scene({2: two, 3: three}))
        left = {"object_2", "object_3"}
        running.spin(lambda: world_of(collision).keys() == shown_of(markers) == left)


def test_meshes_and_markers_follow_the_parameters() -> None:
    class Round(FakeEstimator):
        def meshes(self, estimates: list[ObjectEstimate], grown_m: float = 0.0) -> list:
            ball = trimesh.creation.icosphere(radius=0.05)
            return [TriangleMesh(ball.vertices.astype(np.float32), ball.faces) for _ in estimates]

    one, two = {1: (20, 30, 60, 70, 0.5)}, {2: (90, 40, 130, 100, 0.8)}
    with in_process(Round()) as running:
        meshes = running.listen(ObjectMesh, "/crisp/meshes", LATCHED)
        markers = running.listen(MarkerArray, "/crisp/markers", LATCHED)

        def spin_until_sent(most: int, **frames: str) -> None:
            """Spin until the last markers have these frames, and all meshes few triangles."""
            running.spin(
                lambda: (
                    {m.ns: m.header.frame_id for a in markers for m in a.markers} == frames
                    and {m.id: len(m.mesh.triangles) <= most for m in meshes}
                    == {m.ns: len(m.points) <= 3 * most for a in markers for m in a.markers}
                    == dict.fromkeys(frames, True)
                )
            )

        def set_parameter(name: str, value: str | int) -> None:
            running.tested.set_parameters_atomically([Parameter(name, value=value)])

        running.frame(Scene(one | two))
        spin_until_sent(2000, object_1="object_1", object_2="object_2")
        set_parameter("mesh_faces", 500)
        running.frame(Scene(one | two))
        spin_until_sent(500, object_1="object_1", object_2="object_2")
        # The transform of an object out of sight is not sent again, under no name.
        set_parameter("tf_prefix", "left_")
        running.frame(Scene(two))
        spin_until_sent(500, object_1="object_1", object_2="left_object_2")
        running.frame(Scene(one | two))
        spin_until_sent(500, object_1="left_object_1", object_2="left_object_2")
        assert len(meshes) == 4 and sum(len(a.markers) for a in markers) == 6


def test_a_parameter_change_applies_from_the_next_frame_on() -> None:
    class Changed(FakeEstimator):
        def trace(self, *arguments) -> Trace:
            before = self.settings.certificate.quantile
            change = Parameter("certificate_quantile", value=0.5)
            running.tested.set_parameters_atomically([change])
            quantiles.append((before, self.settings.certificate.quantile))
            return super().trace(*arguments)

    quantiles: list[tuple[float, float]] = []
    with in_process(Changed()) as running:
        running.frame()
        running.frame()
    assert quantiles == [(0.98, 0.98), (0.5, 0.5)]


def test_the_version_in_vision_info_grows_with_every_model() -> None:
    estimator = FakeEstimator()
    with in_process(estimator) as running:
        heard = running.listen(VisionInfo, "/crisp/vision_info", LATCHED)
        # The topic keeps the last message alone: each is awaited before the next may replace it.
        versions = (("fake-1", 1), ("trained-1", 2), ("trained-1", 2), ("trained-2", 3))
        for version, count in versions:
            estimator.model_version = version
            running.frame()
            running.spin(lambda count=count: len(heard) >= count)
        assert [m.database_version for m in heard] == [1, 2, 3]
        assert [m.method.split()[-1] for m in heard] == ["fake-1", "trained-1", "trained-2"]
        # Cleaned up and configured again, the same model is no change.
        estimator.model_version = "trained-2"
        tested = running.tested
        tested.trigger_deactivate()
        tested.trigger_cleanup()
        tested.trigger_configure()
        tested.trigger_activate()
        running.spin(lambda: len(heard) == 4)
        assert heard[-1].database_version == 3
