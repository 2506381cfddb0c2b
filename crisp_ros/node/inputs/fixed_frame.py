"""Pose of the camera in the fixed frame, in which objects are at rest."""

from __future__ import annotations

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus
from diagnostic_updater import DiagnosticStatusWrapper
from numpy.typing import NDArray
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.time import Time
from std_msgs.msg import Header
from tf2_ros import Buffer, TransformException, TransformListener

from crisp_ros.node.pose_conversion import pose_matrix


class FixedFrameError(Exception):
    """The camera's pose at an image's stamp is unknown; the text gives the cause."""


class FixedFrame:
    """Lookup of the camera's pose in a fixed TF frame; without one, the camera is fixed."""

    def __init__(self, node: Node) -> None:
        """Prepare the lookup; `listen` subscribes."""
        self._node = node
        self._name = ""
        self._buffer: Buffer | None = None
        self._listener: TransformListener | None = None
        self._missed = 0
        self._problem = ""

    @property
    def name(self) -> str:
        """Name of the frame, "" if the camera is fixed."""
        return self._name

    def listen(self, name: str) -> None:
        """Subscribe to transforms, if `name` is not empty."""
        self._name, self._missed, self._problem = name, 0, ""
        if name:
            self._buffer = Buffer(node=self._node)
            self._listener = TransformListener(self._buffer, self._node)

    def stop(self) -> None:
        """Unsubscribe and drop all transforms."""
        if self._listener is not None:
            self._listener.unregister()
        self._listener = self._buffer = None
        self._name = ""

    def clear(self) -> None:
        """Drop all but static transforms, after time has jumped back."""
        if self._buffer is not None:
            self._buffer.clear()

    def T_fixed_camera(self, header: Header, timeout_s: float) -> NDArray[np.float64]:
        """Get the pose (4, 4) of an image's frame at its stamp; identity without a fixed frame.

        Args:
            header: of the image.
            timeout_s: longest time to wait for the transform, seconds. Another thread has to spin
                the node meanwhile.

        Raises:
            FixedFrameError: the transform did not arrive in time.
        """
        if self._buffer is None or header.frame_id == self._name:
            return np.eye(4)
        try:
            found = self._buffer.lookup_transform(
                self._name,
                header.frame_id,
                Time.from_msg(header.stamp),
                Duration(seconds=timeout_s),
            ).transform
        except TransformException as error:
            self._missed += 1
            self._problem = (
                f"no transform from {header.frame_id!r} to the fixed frame {self._name!r}: {error}"
            )
            raise FixedFrameError(self._problem) from error
        self._problem = ""
        return pose_matrix(found.translation, found.rotation)

    def T_fixed_camera_now(self, header: Header) -> NDArray[np.float64] | None:
        """Get the pose of an image's frame without waiting, None while it is not known.

        From any thread; nothing is reported.
        """
        buffer = self._buffer
        if buffer is None or header.frame_id == self._name:
            return np.eye(4)
        try:
            stamp = Time.from_msg(header.stamp)
            found = buffer.lookup_transform(self._name, header.frame_id, stamp).transform
        except TransformException:
            return None
        return pose_matrix(found.translation, found.rotation)

    def report(self, stat: DiagnosticStatusWrapper) -> DiagnosticStatusWrapper:
        """Fill in the diagnostic status."""
        if self._problem:
            stat.summary(DiagnosticStatus.ERROR, self._problem)
        elif self._name:
            stat.summary(DiagnosticStatus.OK, f"objects are tracked in {self._name!r}")
        else:
            stat.summary(DiagnosticStatus.OK, "none: objects are tracked in the camera's frame")
        stat.add("fixed frame", self._name)
        stat.add("frames without transform", str(self._missed))
        return stat
