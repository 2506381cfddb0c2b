"""The node's tracker: what parameters ask of it, and which frame it works in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from rclpy.node import Node
from rclpy.time import Time
from std_msgs.msg import Header

from crisp_ros.correction.library_tests import LibraryTestSettings
from crisp_ros.node.inputs.fixed_frame import FixedFrame
from crisp_ros.node.parameters.node_parameters import Parameters
from crisp_ros.pipeline import Estimator, Trace
from crisp_ros.tracking.association import AssociationSettings
from crisp_ros.tracking.multi_view_shape import MultiViewShapeSettings
from crisp_ros.tracking.pose_filter import PoseFilterSettings
from crisp_ros.tracking.shape_manager import ShapeManagerSettings
from crisp_ros.tracking.tracker import TrackedFrame, Tracker
from crisp_ros.tracking.tracker_settings import TrackerSettings
from crisp_ros.tracking.view_buffer import ViewBufferSettings

_SHORTEST_FILTER_S = 0.001


def tracker_settings(parameters: Parameters) -> TrackerSettings:
    """Settings of the tracker that the parameters ask for."""
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


class Tracking:
    """Follows the objects of the estimator's frames, in the fixed frame where there is one.

    `T_fixed_camera` (4, 4) is where the camera was at the last frame.
    """

    def __init__(self, node: Node) -> None:
        """Has no tracker yet."""
        self.fixed_frame = FixedFrame(node)
        self.T_fixed_camera = np.eye(4)
        self._tracker: Tracker | None = None
        self._estimator: Estimator | None = None

    def fixed_header(self, header: Header) -> Header:
        """An image's header, with the frame in which objects rest."""
        return Header(stamp=header.stamp, frame_id=self.fixed_frame.name or header.frame_id)

    def configure(self, estimator: Estimator) -> None:
        """Makes the tracker; it lives until `release`, and never gives an id twice."""
        self._estimator = estimator
        self._tracker = Tracker(
            estimator.field, estimator.prepared_library, device=estimator.device
        )

    def release(self) -> None:
        """Lets the tracker go."""
        self._tracker = self._estimator = None

    def start(self, parameters: Parameters) -> None:
        """Begins to listen to transforms, and has the tracker follow the parameters."""
        self._tracker.restart(tracker_settings(parameters))
        self.fixed_frame.listen(parameters.fixed_frame)

    def stop(self) -> None:
        """Stops listening, and ends all tracks."""
        self.fixed_frame.stop()
        if self._tracker is not None:
            self._tracker.reset()

    def reset(self) -> None:
        """Forgets all that is bound to time, which has jumped back."""
        self.fixed_frame.clear()
        self._tracker.reset()

    def update(
        self,
        header: Header,
        trace: Trace,
        names: Mapping[int, str],
        parameters: Parameters,
    ) -> TrackedFrame:
        """The tracked objects of one frame.

        Args:
            header: of the image.
            trace: of the estimator.
            names: class names of labels, as far as known.
            parameters: the node's.

        Raises:
            FixedFrameError: the camera's place is not known.
        """
        T = self.fixed_frame.T_fixed_camera(header, parameters.fixed_frame_timeout)
        self.T_fixed_camera = T
        tracker, settings = self._tracker, self._estimator.settings
        tracker.settings = replace(tracker.settings, death_s=parameters.object_timeout)
        tracker.verification = settings.verification
        stamp_s = Time.from_msg(header.stamp).nanoseconds / 1e9
        return tracker.update(stamp_s, trace, T, names)

    def finish(self) -> None:
        """Solves for shapes, which may change from the next frame on; after the frame's answer."""
        self._tracker.finish()
