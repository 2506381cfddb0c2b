"""Buffer of transforms, for lookups of one frame in another at a given time."""

from __future__ import annotations

import bisect
import threading
from dataclasses import dataclass, field
from time import monotonic, sleep
from typing import NamedTuple

import builtin_interfaces.msg
import numpy as np
from geometry_msgs.msg import TransformStamped
from numpy.typing import NDArray
from rclpy.clock import Clock, JumpThreshold, TimeJump
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.time import Time
from scipy.spatial.transform import Rotation, Slerp

from .exceptions import (
    ConnectivityException,
    ExtrapolationException,
    InvalidArgumentException,
    LookupException,
    TransformException,
)

_LATEST = 0  # as a requested time: the newest transform
_POLL_SECONDS = 0.02


class _Pose(NamedTuple):
    """A rotation and a translation in metres: x_parent = rotation x_child + translation."""

    rotation: Rotation
    translation: NDArray[np.float64]

    def __matmul__(self, other: _Pose) -> _Pose:
        return _Pose(
            self.rotation * other.rotation,
            self.rotation.apply(other.translation) + self.translation,
        )

    def inverse(self) -> _Pose:
        rotation = self.rotation.inv()
        return _Pose(rotation, -rotation.apply(self.translation))


class _Sample(NamedTuple):
    stamp: int
    parent: str
    pose: _Pose


@dataclass
class _History:
    """Received transforms of one child frame, sorted by stamp in nanoseconds."""

    is_static: bool
    samples: list[_Sample] = field(default_factory=list)

    def at(self, child: str, time: int) -> _Sample:
        """Return the sample at a time, interpolated between its neighbours.

        Raises:
            ExtrapolationException: before the first or after the last sample.
        """
        if self.is_static or time == _LATEST:
            return self.samples[-1]
        after = bisect.bisect_left(self.samples, time, key=lambda sample: sample.stamp)
        if after < len(self.samples) and self.samples[after].stamp == time:
            return self.samples[after]
        if after in (0, len(self.samples)):
            first, last = self.samples[0].stamp / 1e9, self.samples[-1].stamp / 1e9
            raise ExtrapolationException(
                f"Lookup would require extrapolation: frame [{child}] was received from "
                f"{first:.6f} s to {last:.6f} s, asked for {time / 1e9:.6f} s"
            )
        a, b = self.samples[after - 1], self.samples[after]
        if a.parent != b.parent:
            return a
        share = (time - a.stamp) / (b.stamp - a.stamp)
        rotations = Rotation.concatenate([a.pose.rotation, b.pose.rotation])
        rotation = Slerp([0.0, 1.0], rotations)(share)
        translation = (1 - share) * a.pose.translation + share * b.pose.translation
        return _Sample(time, a.parent, _Pose(rotation, translation))


class Buffer:
    """Buffer of the transforms of the last `cache_time` (10 seconds) and of all static ones.

    Discards all but the static ones when the clock of `node` jumps back by a second or more, or
    changes between system and simulated time.
    """

    def __init__(self, cache_time: Duration | None = None, node: Node | None = None) -> None:
        self._cache_ns = (cache_time or Duration(seconds=10)).nanoseconds
        self._frames: dict[str, _History] = {}  # by child frame
        self._lock = threading.RLock()
        clock = Clock() if node is None else node.get_clock()
        back = JumpThreshold(
            min_forward=None, min_backward=Duration(seconds=-1), on_clock_change=True
        )
        self._jump_handle = clock.create_jump_callback(back, post_callback=self._time_jumped)

    def set_transform(self, transform: TransformStamped, authority: str) -> None:
        """Add a transform that is valid at its stamp; `authority` names the sender."""
        self._insert(transform, is_static=False)

    def set_transform_static(self, transform: TransformStamped, authority: str) -> None:
        """Add a transform that is valid at all times; `authority` names the sender."""
        self._insert(transform, is_static=True)

    def clear(self) -> None:
        """Remove all but static transforms."""
        with self._lock:
            self._frames = {c: h for c, h in self._frames.items() if h.is_static}

    def lookup_transform(
        self,
        target_frame: str,
        source_frame: str,
        time: Time | builtin_interfaces.msg.Time,
        timeout: Duration | None = None,
    ) -> TransformStamped:
        """Return the transform that maps source frame coordinates to the target frame.

        Args:
            target_frame: frame of the result.
            source_frame: frame of the coordinates to transform.
            time: time of the transform; zero is the newest time at which the whole chain is known.
            timeout: maximum time to wait for it.

        Raises:
            InvalidArgumentException, LookupException, ConnectivityException,
            ExtrapolationException: see these classes.
        """
        if timeout is not None:
            self.can_transform(target_frame, source_frame, time, timeout)
        with self._lock:
            stamp, pose = self._lookup(target_frame, source_frame, _nanoseconds(time))
        result = TransformStamped(child_frame_id=source_frame)
        result.header.frame_id = target_frame
        result.header.stamp = Time(nanoseconds=stamp).to_msg()
        translation, rotation = result.transform.translation, result.transform.rotation
        translation.x, translation.y, translation.z = pose.translation.tolist()
        rotation.x, rotation.y, rotation.z, rotation.w = pose.rotation.as_quat().tolist()
        return result

    def can_transform(
        self,
        target_frame: str,
        source_frame: str,
        time: Time | builtin_interfaces.msg.Time,
        timeout: Duration | None = None,
    ) -> bool:
        """Whether `lookup_transform` would succeed, now or within `timeout`."""
        end = monotonic() + (0.0 if timeout is None else timeout.nanoseconds / 1e9)
        while not (possible := self._is_possible(target_frame, source_frame, time)):
            if monotonic() >= end:
                break
            sleep(_POLL_SECONDS)
        return possible

    def _is_possible(
        self, target: str, source: str, time: Time | builtin_interfaces.msg.Time
    ) -> bool:
        try:
            with self._lock:
                self._lookup(target, source, _nanoseconds(time))
        except TransformException:
            return False
        return True

    def _insert(self, transform: TransformStamped, is_static: bool) -> None:
        t, q = transform.transform.translation, transform.transform.rotation
        numbers = np.array([t.x, t.y, t.z, q.x, q.y, q.z, q.w])
        child, parent = transform.child_frame_id.lstrip("/"), transform.header.frame_id.lstrip("/")
        named = child and parent and child != parent
        is_unit = abs(np.linalg.norm(numbers[3:]) - 1) < 1e-2
        has_time = transform.header.stamp.sec >= 0  # Time holds no other
        if not (named and np.isfinite(numbers).all() and is_unit and has_time):
            return  # one bad sender must not stop the others
        pose = _Pose(Rotation.from_quat(numbers[3:]), numbers[:3])
        sample = _Sample(_nanoseconds(transform.header.stamp), parent, pose)
        with self._lock:
            history = self._frames.setdefault(child, _History(is_static))
            if is_static or history.is_static:
                self._frames[child] = _History(is_static, [sample])
                return
            samples = history.samples
            if samples and sample.stamp < samples[-1].stamp - self._cache_ns:
                return
            at = bisect.bisect_left(samples, sample.stamp, key=lambda s: s.stamp)
            same = at < len(samples) and samples[at].stamp == sample.stamp
            samples[at : at + same] = [sample]
            oldest = samples[-1].stamp - self._cache_ns
            del samples[: bisect.bisect_left(samples, oldest, key=lambda s: s.stamp)]

    def _lookup(self, target: str, source: str, time: int) -> tuple[int, _Pose]:
        """The stamp in nanoseconds and the pose of the source frame in the target frame."""
        frames = {*self._frames, *(h.samples[-1].parent for h in self._frames.values())}
        for frame in (target, source):
            if not frame or frame.startswith("/"):
                raise InvalidArgumentException(f"Invalid frame name [{frame}]")
            if frame not in frames:
                raise LookupException(f"Frame [{frame}] does not exist")
        if time == _LATEST:
            time = self._latest_common_time(target, source)
        from_source, problem = self._ancestors(source, time)
        from_target, other_problem = self._ancestors(target, time)
        for frame, pose in from_target.items():
            if frame in from_source:
                return time, pose.inverse() @ from_source[frame]
        raise (
            problem
            or other_problem
            or ConnectivityException(f"Frames [{source}] and [{target}] are not connected")
        )

    def _ancestors(
        self, frame: str, time: int
    ) -> tuple[dict[str, _Pose], ExtrapolationException | None]:
        """The pose of `frame` in itself and in each ancestor, nearest first, as far as known."""
        pose = _Pose(Rotation.identity(), np.zeros(3))
        poses = {frame: pose}
        try:
            while frame in self._frames:
                sample = self._frames[frame].at(frame, time)
                frame, pose = sample.parent, sample.pose @ pose
                if frame in poses:
                    break  # a loop: bad data, and no further ancestors
                poses[frame] = pose
        except ExtrapolationException as error:
            return poses, error
        return poses, None

    def _latest_common_time(self, target: str, source: str) -> int:
        from_source, _ = self._ancestors(source, _LATEST)
        from_target, _ = self._ancestors(target, _LATEST)
        meeting = next((frame for frame in from_target if frame in from_source), None)
        stamps = [
            self._frames[frame].samples[-1].stamp
            for chain in (from_source, from_target)
            for frame in list(chain)[: list(chain).index(meeting) if meeting in chain else 0]
            if not self._frames[frame].is_static
        ]
        return min(stamps, default=_LATEST)

    def _time_jumped(self, jump: TimeJump) -> None:
        self.clear()


def _nanoseconds(time: Time | builtin_interfaces.msg.Time) -> int:
    return time.nanoseconds if isinstance(time, Time) else Time.from_msg(time).nanoseconds
