"""The tracker of the node, which works in the fixed frame."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from rclpy.node import Node
from rclpy.time import Time
from std_msgs.msg import Header

from crisp_ros.correction.library_tests import LibraryTestSettings
from crisp_ros.node.inputs.fixed_frame import FixedFrame
from crisp_ros.node.parameters.node_parameters import Parameters
from crisp_ros.pipeline import Estimator, Trace
from crisp_ros.pipeline.added_shapes import ExpectedObject
from crisp_ros.tracking.association import AssociationSettings
from crisp_ros.tracking.multi_view_shape import MultiViewShapeSettings
from crisp_ros.tracking.pose_filter import PoseFilterSettings
from crisp_ros.tracking.shape_manager import ShapeManagerSettings
from crisp_ros.tracking.tracker import TrackedFrame, Tracker
from crisp_ros.tracking.tracker_settings import TrackerSettings
from crisp_ros.tracking.view_buffer import ViewBufferSettings

_SHORTEST_FILTER_S = 0.001


def tracker_settings(parameters: Parameters) -> TrackerSettings:
    """Get the settings of the tracker from the parameters."""
    gate_m = parameters.track_distance
    association = AssociationSettings(
        gate_m=gate_m,
        gate_limit_m=max(gate_m, AssociationSettings().gate_limit_m),
        tracked_labels=parameters.tracked_labels,
    )
    views = ViewBufferSettings(
        max_views=parameters.max_views, min_angle_rad=parameters.view_separation
    )
    multi_view = MultiViewShapeSettings(change_m=parameters.shape_change)
    smoothing_s = parameters.pose_smoothing
    pose_filter = PoseFilterSettings(time_constant_s=max(smoothing_s, _SHORTEST_FILTER_S))
    return TrackerSettings(
        association=association,
        shapes=ShapeManagerSettings(
            views=views,
            multi_view=multi_view,
            alternatives=LibraryTestSettings() if parameters.degeneracy else None,
        ),
        pose_filter=pose_filter if smoothing_s > 0.0 else None,
        death_s=parameters.object_timeout,
    )


class FixedFrameTracker:
    """Tracker of the objects, in the fixed frame if there is one.

    Attributes:
        fixed_frame: lookup of the camera's pose.
        T_fixed_camera: (4, 4) pose of the camera at the last frame.
    """

    def __init__(self, node: Node) -> None:
        """Create it without a tracker, which needs a model."""
        self.fixed_frame = FixedFrame(node)
        self.T_fixed_camera = np.eye(4)
        self._tracker: Tracker | None = None
        self._estimator: Estimator | None = None

    def fixed_header(self, header: Header) -> Header:
        """Replace the frame of an image's header by the fixed frame."""
        return Header(stamp=header.stamp, frame_id=self.fixed_frame.name or header.frame_id)

    def configure(self, estimator: Estimator) -> None:
        """Create the tracker; it lives until `release` and never reuses an id."""
        self._estimator = estimator
        self._tracker = Tracker(
            estimator.field,
            estimator.prepared_library,
            device=estimator.device,
            prior_field=estimator.prior_field,
        )

    def release(self) -> None:
        """Release the tracker."""
        self._tracker = self._estimator = None

    def start(self, parameters: Parameters) -> None:
        """Subscribe to transforms, and apply the parameters to the tracker."""
        self._tracker.restart(tracker_settings(parameters))
        self.fixed_frame.listen(parameters.fixed_frame)

    def stop(self) -> None:
        """Unsubscribe, and end all tracks."""
        self.fixed_frame.stop()
        if self._tracker is not None:
            self._tracker.reset()

    def reset(self) -> None:
        """Drop all tracks and transforms, after time has jumped back or on request."""
        self.fixed_frame.clear()
        self._tracker.reset()

    @property
    def expected(self) -> tuple[ExpectedObject, ...]:
        """The objects seen in the last frame."""
        return self._tracker.expected

    def camera_pose(self, header: Header, parameters: Parameters) -> NDArray[np.float64]:
        """Pose (4, 4) of the camera in the fixed frame at an image's stamp.

        Raises:
            FixedFrameError: it is unknown.
        """
        return self.fixed_frame.T_fixed_camera(header, parameters.fixed_frame_timeout)

    def update(
        self,
        header: Header,
        trace: Trace,
        names: Mapping[int, str],
        parameters: Parameters,
    ) -> TrackedFrame:
        """Track the objects of one frame.

        Args:
            header: of the image.
            trace: output of the estimator.
            names: class names by label, as far as known.
            parameters: of the node.

        Raises:
            FixedFrameError: the camera's pose is unknown.
        """
        T = self.camera_pose(header, parameters)
        self.T_fixed_camera = T
        tracker, settings = self._tracker, self._estimator.settings
        tracker.settings = replace(tracker.settings, death_s=parameters.object_timeout)
        tracker.verification = settings.verification
        stamp_s = Time.from_msg(header.stamp).nanoseconds / 1e9
        return tracker.update(stamp_s, trace, T, names)

    def finish(self) -> None:
        """Solve for shapes after the frame was published; they apply from the next frame on."""
        self._tracker.finish()
