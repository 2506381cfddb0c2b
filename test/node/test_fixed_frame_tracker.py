"""Objects over time, over real DDS: a camera that moves through a fixed frame."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from crisp_ros.msg import ObjectEstimate, ObjectEstimateArray
from diagnostic_msgs.msg import DiagnosticStatus
from node.fakes import SYMMETRIC
from node.peer import CAMERA_FRAME, FAKE_NODE, FOCAL, LATCHED, Peer, Scene, graph
from std_msgs.msg import Header
from tf2_ros import TransformBroadcaster
from visualization_msgs.msg import Marker, MarkerArray

from crisp_ros.node.outputs.message_conversion import transform

ARGUMENTS = [
    *("--ros-args", "-p", "fixed_frame:=map", "-p", "object_timeout:=3.0"),
    *("-p", "diagnostic_updater.period:=0.2", "-p", "fixed_frame_timeout:=2.0"),
]
Z_M = 0.5  # of all objects
PIXELS_A_METRE = FOCAL / Z_M


class World:
    """Objects at rest in the map, and a camera that looks along its z axis from anywhere.

    Args:
        peer: sends the images.
        left: of each object's square in the image from the map's origin, pixels.
    """

    def __init__(self, peer: Peer, left: dict[str, int]) -> None:
        self.peer = peer
        self._left = left
        self._broadcaster = TransformBroadcaster(peer.node)

    def send_camera(self, x_m: float) -> None:
        """Broadcast the pose of the camera at the stamp of the next image."""
        header = Header(frame_id="map")
        header.stamp.sec, header.stamp.nanosec = divmod(self.peer.stamp_ns + 100_000_000, 10**9)
        T = np.eye(4)
        T[0, 3] = x_m
        self._broadcaster.sendTransform(transform(header, CAMERA_FRAME, T))

    def answer(
        self, x_m: float, labels: dict[str, int], flip: bool = False
    ) -> dict[str, ObjectEstimate]:
        """Send a frame; return the estimates by object, "held" for unseen ones."""
        rectangles = {}
        for name, label in labels.items():
            left = round(self._left[name] - x_m * PIXELS_A_METRE)
            rectangles[label] = (left, 40, left + 20, 60, Z_M)
        self.send_camera(x_m)
        answer = self.peer.answer(Scene(rectangles, flip=flip))
        names = {label: name for name, label in labels.items()}
        return {names.get(o.label, "held"): o for o in answer.estimates}


@pytest.fixture(scope="module")
def peer() -> Iterator[Peer]:
    with graph(FAKE_NODE, ARGUMENTS) as (peer, process):
        peer.activate()
        yield peer
        assert process.poll() is None, "the node did not survive"


def test_ids_follow_positions_in_the_fixed_frame(peer: Peer) -> None:
    markers = peer.received["markers"]
    peer.listen(MarkerArray, "/crisp/markers", "markers", LATCHED)
    world = World(peer, {"a": 30, "b": 100})
    first = world.answer(0.0, {"a": 1, "b": 2})
    a, b = first["a"].id, first["b"].id
    # The camera jumps: b is now where a was in the image, under a's label, and a is out of view.
    step = 70 / PIXELS_A_METRE
    there = world.answer(step, {"b": 1})
    assert there["b"].id == b and there["b"].certified
    held = there["held"]
    assert held.id == a and not held.certified and held.score == 0.0
    assert held.pose.pose.position.x == pytest.approx(first["a"].pose.pose.position.x - step)
    back = world.answer(0.0, {"a": 2, "b": 1})
    assert (back["a"].id, back["b"].id) == (a, b) and "held" not in back

    def last_action(id: str) -> int | None:
        return next((m.action for s in markers[::-1] for m in s.markers if m.ns == id), None)

    peer.wait(lambda: last_action(a) == last_action(b) == Marker.ADD)
    for _ in range(3):
        peer.stamp_ns += 900_000_000
        assert set(world.answer(step, {"b": 1})) == {"b", "held"}
    peer.stamp_ns += 900_000_000
    assert set(world.answer(step, {"b": 1})) == {"b"}
    peer.wait(lambda: last_action(a) == Marker.DELETE)
    assert last_action(b) == Marker.ADD


def test_a_symmetric_object_does_not_flip(peer: Peer) -> None:
    world = World(peer, {"can": 60})
    peer.stamp_ns += 10**10  # nothing is held
    poses = []
    for i in range(6):
        found = world.answer(0.02 * i, {"can": SYMMETRIC}, flip=i in (1, 2, 4))
        assert set(found) == {"can"} and found["can"].id
        poses.append(found["can"].pose.pose.orientation)
    assert all(abs(q.w) == pytest.approx(1.0, abs=1e-6) for q in poses), poses


def test_a_restarted_recording_resets_the_tracker(peer: Peer) -> None:
    world = World(peer, {"a": 30, "b": 100})
    ids = {o.id for o in world.answer(0.0, {"a": 1, "b": 2}).values()}
    peer.stamp_ns -= 30 * 10**9
    # The first frame after the jump clears what was known of transforms, its own included.
    world.send_camera(0.0)
    peer.send(Scene({1: (30, 40, 50, 60, Z_M)}))
    peer.diagnosis("synchronisation", "1")
    again = world.answer(0.0, {"a": 1, "b": 2})
    assert set(again) == {"a", "b"} and not ids & {o.id for o in again.values()}
    same = world.answer(0.0, {"a": 2, "b": 1})
    assert same["a"].id == again["a"].id and same["b"].id == again["b"].id


def test_a_frame_without_transform_is_dropped_with_the_reason(peer: Peer) -> None:
    peer.stamp_ns += 10**9
    header = peer.send(Scene())
    status = peer.diagnosis("fixed frame", "no transform from 'camera_optical' to the fixed frame")
    assert status.level == DiagnosticStatus.ERROR and "'map'" in status.message
    answered: list[ObjectEstimateArray] = peer.received["objects"]
    assert not any(m.header == header for m in answered)
    World(peer, {"a": 30}).answer(0.0, {"a": 1})
    assert peer.diagnosis("fixed frame", "tracked in 'map'").level == DiagnosticStatus.OK


def test_tracking_parameters_cannot_change_while_active(peer: Peer) -> None:
    (reason,) = peer.set_parameters(fixed_frame="odom")
    assert "deactivate it first" in reason
