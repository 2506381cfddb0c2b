"""tf2_ros: look-ups against products of matrices, and the way over /tf."""

import math

import numpy as np
import pytest
from geometry_msgs.msg import TransformStamped
from numpy.typing import NDArray
from poses import random_pose
from rclpy.clock import ROSClock
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.time import Time
from ros_graph import spin_until
from scipy.spatial.transform import Rotation
from tf2_ros import (
    Buffer,
    ConnectivityException,
    ExtrapolationException,
    InvalidArgumentException,
    LookupException,
    StaticTransformBroadcaster,
    TransformBroadcaster,
    TransformException,
    TransformListener,
)


def at(seconds: float) -> Time:
    return Time(nanoseconds=round(seconds * 1e9))


def stamped(parent: str, child: str, matrix: NDArray, seconds: float = 0.0) -> TransformStamped:
    transform = TransformStamped(child_frame_id=child)
    transform.header.frame_id = parent
    transform.header.stamp = at(seconds).to_msg()
    t, q = transform.transform.translation, transform.transform.rotation
    t.x, t.y, t.z = matrix[:3, 3].tolist()
    q.x, q.y, q.z, q.w = Rotation.from_matrix(matrix[:3, :3]).as_quat().tolist()
    return transform


def matrix_of(transform: TransformStamped) -> NDArray:
    t, q = transform.transform.translation, transform.transform.rotation
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_quat([q.x, q.y, q.z, q.w]).as_matrix()
    matrix[:3, 3] = t.x, t.y, t.z
    return matrix


def shifted(x: float) -> NDArray:
    matrix = np.eye(4)
    matrix[0, 3] = x
    return matrix


def test_look_ups_in_a_tree_are_products_of_matrices() -> None:
    rng = np.random.default_rng(3)
    buffer = Buffer()
    world = {"f0": np.eye(4)}
    for i in range(1, 8):
        parent = f"f{rng.integers(i)}"
        pose = random_pose(rng)
        world[f"f{i}"] = world[parent] @ pose
        if i % 2:
            buffer.set_transform_static(stamped(parent, f"f{i}", pose), "test")
        else:
            buffer.set_transform(stamped(parent, f"f{i}", pose, 5.0), "test")
    for target, T_world_target in world.items():
        for source, T_world_source in world.items():
            found = buffer.lookup_transform(target, source, at(5.0))
            expected = np.linalg.inv(T_world_target) @ T_world_source
            np.testing.assert_allclose(matrix_of(found), expected, atol=1e-9)
            assert (found.header.frame_id, found.child_frame_id) == (target, source)


def test_between_two_stamps_poses_are_interpolated() -> None:
    buffer = Buffer()
    start, end = shifted(1.0), shifted(3.0)
    end[:3, :3] = Rotation.from_rotvec([0.0, 0.0, math.pi / 2]).as_matrix()
    buffer.set_transform(stamped("map", "robot", start, 10.0), "test")
    buffer.set_transform(stamped("map", "robot", end, 12.0), "test")
    found = matrix_of(buffer.lookup_transform("map", "robot", at(10.5)))
    np.testing.assert_allclose(found[:3, 3], [1.5, 0, 0], atol=1e-6)
    angle = Rotation.from_matrix(found[:3, :3]).as_rotvec()
    np.testing.assert_allclose(angle, [0, 0, math.pi / 8], atol=1e-6)


def test_time_zero_asks_for_the_latest_common_time() -> None:
    buffer = Buffer()
    for seconds in (10.0, 11.0, 12.0):
        buffer.set_transform(stamped("map", "robot", shifted(seconds), seconds), "test")
    buffer.set_transform(stamped("robot", "arm", shifted(0.0), 10.0), "test")
    buffer.set_transform(stamped("robot", "arm", shifted(0.0), 11.0), "test")
    found = buffer.lookup_transform("map", "arm", Time())
    assert found.header.stamp == at(11.0).to_msg()
    assert found.transform.translation.x == pytest.approx(11.0)


def test_a_static_transform_holds_at_all_times() -> None:
    buffer = Buffer()
    buffer.set_transform_static(stamped("a", "b", shifted(2.0), 50.0), "test")
    assert buffer.lookup_transform("a", "b", at(3.0)).transform.translation.x == 2.0
    assert buffer.lookup_transform("a", "b", at(1e6)).transform.translation.x == 2.0


def test_the_reason_for_a_failure_is_its_type() -> None:
    buffer = Buffer()
    buffer.set_transform(stamped("a", "b", shifted(1.0), 5.0), "test")
    buffer.set_transform(stamped("c", "d", shifted(1.0), 5.0), "test")
    cases = [
        ("a", "nobody", 5.0, LookupException),
        ("a", "d", 5.0, ConnectivityException),
        ("a", "b", 4.0, ExtrapolationException),
        ("a", "b", 6.0, ExtrapolationException),
        ("", "b", 5.0, InvalidArgumentException),
    ]
    for target, source, seconds, error in cases:
        assert not buffer.can_transform(target, source, at(seconds))
        with pytest.raises(error):
            buffer.lookup_transform(target, source, at(seconds))
        assert issubclass(error, TransformException)
    assert buffer.can_transform("a", "b", at(5.0))
    assert buffer.can_transform("a", "b", at(5.0).to_msg())


def test_old_transforms_are_forgotten() -> None:
    buffer = Buffer(cache_time=Duration(seconds=2))
    # The real buffer forgets as the next one comes: 2.0 is still there right after 5.0.
    for seconds in (1.0, 2.0, 5.0, 6.0):
        buffer.set_transform(stamped("a", "b", shifted(seconds), seconds), "test")
    assert not buffer.can_transform("a", "b", at(2.0))
    assert buffer.can_transform("a", "b", at(6.0))


def test_bad_transforms_are_ignored() -> None:
    buffer = Buffer()
    buffer.set_transform(stamped("a", "b", shifted(math.nan), 5.0), "test")
    no_rotation = TransformStamped(child_frame_id="c")
    no_rotation.header.frame_id = "a"
    no_rotation.transform.rotation.w = 0.0
    buffer.set_transform(no_rotation, "test")
    buffer.set_transform(stamped("d", "d", shifted(1.0), 5.0), "test")
    for child in "bcd":
        assert not buffer.can_transform("a", child, Time())


def test_a_negative_stamp_does_no_harm() -> None:
    buffer = Buffer()
    early = stamped("a", "b", shifted(1.0))
    early.header.stamp.sec = -1
    buffer.set_transform(early, "test")
    buffer.set_transform(stamped("a", "b", shifted(2.0), 5.0), "test")
    assert buffer.lookup_transform("a", "b", at(5.0)).transform.translation.x == 2.0


def test_clearing_keeps_what_is_static() -> None:
    buffer = Buffer()
    buffer.set_transform_static(stamped("a", "b", shifted(1.0)), "test")
    buffer.set_transform(stamped("b", "c", shifted(1.0), 5.0), "test")
    buffer.clear()
    assert buffer.can_transform("a", "b", at(5.0))
    assert not buffer.can_transform("b", "c", at(5.0))


def test_a_jump_back_in_time_clears_the_buffer(node: Node) -> None:
    clock = node.get_clock()
    assert isinstance(clock, ROSClock)
    clock._set_ros_time_is_active(True)
    clock.set_ros_time_override(at(100.0))
    buffer = Buffer(node=node)
    buffer.set_transform(stamped("a", "b", shifted(1.0), 100.0), "test")
    clock.set_ros_time_override(at(101.0))
    assert buffer.can_transform("a", "b", at(100.0))
    clock.set_ros_time_override(at(10.0))
    assert not buffer.can_transform("a", "b", at(100.0))


def test_from_broadcaster_to_listener(node: Node) -> None:
    buffer = Buffer()
    broadcaster = TransformBroadcaster(node)
    fixed = StaticTransformBroadcaster(node)
    fixed.sendTransform(stamped("map", "camera", shifted(1.0)))
    fixed.sendTransform([stamped("camera", "lens", shifted(0.5))])
    listener = TransformListener(buffer, node)  # late: the static ones were sent before

    def send() -> bool:
        broadcaster.sendTransform([stamped("lens", "cup", shifted(2.0), 7.0)])
        return buffer.can_transform("map", "cup", at(7.0))

    assert spin_until(node, send)
    found = buffer.lookup_transform("map", "cup", at(7.0))
    assert found.transform.translation.x == pytest.approx(3.5)
    broadcaster.sendTransform(stamped("lens", "mug", shifted(4.0), 7.0))
    assert spin_until(node, lambda: buffer.can_transform("lens", "mug", at(7.0)))
    listener.unregister()


def test_waiting_for_a_transform_ends() -> None:
    assert not Buffer().can_transform("a", "b", Time(), timeout=Duration(seconds=0.05))
