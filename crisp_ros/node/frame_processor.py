"""Processing of a frame: convert, estimate, track, publish, hand over to self-training."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from rclpy.node import Node
from rclpy.time import Time
from std_msgs.msg import Header

from crisp_ros.geometry.isosurface import TriangleMesh
from crisp_ros.node.estimated_frame import EstimatedFrame
from crisp_ros.node.estimator_factory import checkpoint_file, estimator_settings, prior_file
from crisp_ros.node.fixed_frame_tracker import FixedFrameTracker
from crisp_ros.node.inputs.fixed_frame import FixedFrameError
from crisp_ros.node.inputs.frame_conversion import ConvertedFrame, InputError, convert_frame
from crisp_ros.node.inputs.subscriptions import InputSubscriptions, ReceivedFrame
from crisp_ros.node.inputs.synchronizer import stamp_ns
from crisp_ros.node.monitor import DropReason, Monitor
from crisp_ros.node.outputs.collision_objects import SceneFrame
from crisp_ros.node.outputs.published_objects import PublishedObject, PublishedObjects
from crisp_ros.node.outputs.publishers import Publishers
from crisp_ros.node.parameters.node_parameters import Parameters
from crisp_ros.node.parameters.parameter_values import parse_label_names
from crisp_ros.node.self_training import SelfTraining
from crisp_ros.node.services.estimate_requests import EstimateRequests
from crisp_ros.observation.frame import Frame
from crisp_ros.pipeline import Estimator, FrameEstimate, Trace
from crisp_ros.pipeline.prior_searches import SearchStatus
from crisp_ros.tracking.tracker import TrackedFrame


class NumberedFrame(NamedTuple):
    """A received frame.

    Attributes:
        number: counts the frames that arrive.
        received: its messages.
    """

    number: int
    received: ReceivedFrame


@dataclass
class _FrameJob:
    """A frame in progress.

    Attributes:
        number: of the frame.
        received: its messages.
        parameters: values that hold for all of its steps.
        stage_ms: durations by stage, in order, milliseconds.
    """

    number: int
    received: ReceivedFrame
    parameters: Parameters
    stage_ms: dict[str, float] = field(default_factory=dict)

    @property
    def header(self) -> Header:
        """Header of the colour image."""
        return self.received.messages.rgb.header

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Measure the duration of a stage."""
        start = time.perf_counter()
        yield
        self.stage_ms[stage] = 1e3 * (time.perf_counter() - start)


class _FrameDroppedError(Exception):
    """The frame is dropped for a reason; a text, if any, explains it to callers of ~/estimate."""

    def __init__(self, reason: DropReason, text: str = "") -> None:
        super().__init__(text)
        self.reason = reason


class FrameProcessor:
    """Processor of frames and owner of the objects; works in the worker's thread.

    Between `configure` and `release` it has a model and publishers; between `start` and `stop` it
    may be given frames.

    Attributes:
        tracker: of the objects.
        latest: the latest estimated frame since the last reset, or None.
        on_objects: called with the objects of each frame, in the worker's thread.
    """

    def __init__(
        self,
        node: Node,
        monitor: Monitor,
        inputs: InputSubscriptions,
        requests: EstimateRequests,
        self_training: SelfTraining,
        parameters: Callable[[], Parameters],
    ) -> None:
        """Create a processor without a model.

        Args:
            node: provides the clock, the logger and TF.
            monitor: records the results.
            inputs: tell whether a frame is outdated, and the names of labels.
            requests: of ~/estimate, answered by frames.
            self_training: learns from the estimates.
            parameters: returns the current values.
        """
        self.tracker = FixedFrameTracker(node)
        self.latest: EstimatedFrame | None = None
        self.on_objects: Callable[[Sequence[PublishedObject]], None] = lambda objects: None
        self._node = node
        self._monitor = monitor
        self._inputs = inputs
        self._requests = requests
        self._self_training = self_training
        self._parameters = parameters
        self._objects = PublishedObjects()
        self._estimator: Estimator | None = None
        self._publishers: Publishers | None = None
        self._checkpoint = self._prior_checkpoint = ""
        self._number = 0  # of the current frame

    # Lifecycle, in the executor's thread while the worker is stopped

    def configure(self, estimator: Estimator, publishers: Publishers) -> None:
        """Take a model and publishers into use."""
        self._estimator, self._publishers = estimator, publishers
        self._checkpoint = str(checkpoint_file(self._parameters()))
        has_prior = estimator.prior_model is not None
        self._prior_checkpoint = str(prior_file(self._parameters())) if has_prior else ""
        self.tracker.configure(estimator)

    def start(self) -> None:
        """Start to track."""
        self.tracker.start(self._parameters())

    def publish_model(self) -> None:
        """Publish which model is in use, if that has changed."""
        self._publishers.publish_model(self._estimator.model_version, self._checkpoint)

    def stop(self) -> None:
        """Remove all objects and stop to track."""
        self.latest = None
        if self._publishers is not None:
            self._remove_objects()
        self.tracker.stop()
        self.stop_searches()

    def stop_searches(self) -> None:
        """End the thread that searches shapes; what it searches is searched again later."""
        if self._estimator is not None:
            self._estimator.stop_searches()

    @property
    def search_status(self) -> SearchStatus | None:
        """Searches in the background; None where nothing can be searched there."""
        return self._estimator and self._estimator.search_status

    def release(self) -> None:
        """Release the model and the publishers."""
        if self._publishers is not None:
            self._publishers.destroy()
        self.tracker.release()
        self._estimator = self._publishers = None

    def hold(self, ids: Collection[str], hold: bool) -> list[str]:
        """Hold or release obstacles; return all that are held. From any thread."""
        return self._publishers.scene.hold(ids, hold)

    # In the worker's thread

    def process(self, frame: NumberedFrame) -> None:
        """Estimate a frame and publish the results, or record why it is dropped."""
        self._number = frame.number
        try:
            self._process(_FrameJob(*frame, self._parameters()))
        except _FrameDroppedError as dropped:
            if text := str(dropped):
                self._node.get_logger().warning(text, throttle_duration_sec=5.0, skip_first=False)
                self._requests.fail(frame.number, text)
            self._drop(frame.received, dropped.reason)
        except BaseException:
            self._drop(frame.received, DropReason.FAILED)
            raise

    def fail(self, error: Exception) -> None:
        """Report an unexpected error of `process` or of another task of the worker."""
        if not self._node.context.ok():
            return  # shutting down: publishing is no longer possible
        reason = f"frame failed: {type(error).__name__}: {error}"
        self._monitor.record_failure(reason)
        self._node.get_logger().error(reason, throttle_duration_sec=5.0)
        self._requests.fail(self._number, reason)

    def reset(self) -> None:
        """Remove all objects."""
        self.tracker.reset()
        self._estimator.forget()
        self._remove_objects()
        self.latest = None

    def publish_shapes(self) -> None:
        """Publish new surfaces to their subscribers."""
        self._publishers.publish_shapes(self._objects, self._parameters())

    def surfaces(self, frame: EstimatedFrame) -> list[TriangleMesh]:
        """Get the surfaces of a frame's objects, in their order."""
        return self.surfaces_of(frame.objects, self._parameters().mesh_faces)

    def surfaces_of(self, objects: Sequence[PublishedObject], max_faces: int) -> list[TriangleMesh]:
        """Get the surfaces of objects, in their order."""
        return self._publishers.surfaces(objects, max_faces)

    # Steps of a frame

    def _process(self, job: _FrameJob) -> None:
        self._require_current(job)
        converted = self._convert(job)
        trace = self._estimate(job, converted.frame)
        self._require_current(job)
        tracked = self._track(job, converted, trace)
        estimate = tracked.estimate_of(trace.estimate)
        objects = self._update_objects(tracked)
        self._publish_poses(job, objects, estimate)
        latency = self._node.get_clock().now() - Time.from_msg(job.header.stamp)
        self._hand_over_to_self_training(trace, tracked)
        self._update_shapes(job)
        self._publish_surfaces(job, converted.frame, objects)
        self._answer_requests(job, converted.frame, trace, objects)
        self.on_objects(objects)
        # Last, as a frame that fails before is recorded as dropped.
        ids = tuple(o.id for o in tracked.objects)
        self._monitor.record_estimate(estimate, ids, job.stage_ms, latency.nanoseconds / 1e9)

    def _require_current(self, job: _FrameJob) -> None:
        """Drop a frame from before a time jump or a deactivation."""
        if (reason := self._outdated(job.received)) is not None:
            raise _FrameDroppedError(reason)

    def _outdated(self, received: ReceivedFrame) -> DropReason | None:
        if received.epoch == self._inputs.epoch:
            return None
        return DropReason.TIME_JUMP if self._inputs.is_subscribed else DropReason.DEACTIVATED

    def _convert(self, job: _FrameJob) -> ConvertedFrame:
        names = {**self._inputs.label_names, **parse_label_names(job.parameters.label_names)}
        try:
            with job.timed("convert"):
                converted = convert_frame(
                    job.received.messages, job.parameters, names, self._inputs.read_images
                )
        except InputError as error:
            self._monitor.record_refused(error.input, str(error))
            raise _FrameDroppedError(DropReason.REFUSED, f"{error.input}: {error}") from error
        self._monitor.record_accepted(converted.warnings)
        return converted

    def _estimate(self, job: _FrameJob, frame: Frame) -> Trace:
        estimator = self._estimator
        with_covariance = self._publishers.wants_covariance or self._requests.is_pending
        estimator.settings = estimator_settings(job.parameters, estimator.settings, with_covariance)
        T_fixed_camera = self._camera_pose(job) if estimator.remembers else None
        with self._self_training.estimating():
            trace = estimator.trace(
                frame,
                lambda: self._outdated(job.received) is not None,
                T_fixed_camera,
                self.tracker.expected,
            )
        job.stage_ms.update(trace.estimate.stage_ms)
        self._monitor.model.values["version"] = trace.estimate.model_version
        return trace

    def _camera_pose(self, job: _FrameJob) -> NDArray[np.float64]:
        """Pose (4, 4) of the camera in the fixed frame, for objects that are remembered."""
        try:
            return self.tracker.camera_pose(job.header, job.parameters)
        except FixedFrameError as error:
            raise _FrameDroppedError(DropReason.NO_TRANSFORM, str(error)) from error

    def _track(self, job: _FrameJob, converted: ConvertedFrame, trace: Trace) -> TrackedFrame:
        start = time.perf_counter()
        try:
            tracked = self.tracker.update(job.header, trace, converted.class_names, job.parameters)
        except FixedFrameError as error:
            raise _FrameDroppedError(DropReason.NO_TRANSFORM, str(error)) from error
        job.stage_ms["fits"] = tracked.fit_ms
        job.stage_ms["tracking"] = 1e3 * (time.perf_counter() - start) - tracked.fit_ms
        return tracked

    def _update_objects(self, tracked: TrackedFrame) -> list[PublishedObject]:
        """Update all objects; return those seen in this frame and those held from earlier ones."""
        tracks = (*tracked.objects, *tracked.unseen)
        self._objects.update(tracks)
        self._monitor.record_tracks(tracks)
        return [self._objects[o.id] for o in (*tracked.objects, *tracked.held)]

    def _publish_poses(
        self, job: _FrameJob, objects: Sequence[PublishedObject], estimate: FrameEstimate
    ) -> None:
        """Broadcast the transforms first, as most users wait for them; then publish messages."""
        version = estimate.model_version
        self._publishers.broadcast_transforms(job.header, objects, job.parameters)
        self._publishers.publish_estimates(
            job.header, objects, version, job.stage_ms, job.parameters
        )
        self._publishers.publish_model(version, self._checkpoint)

    def _hand_over_to_self_training(self, trace: Trace, tracked: TrackedFrame) -> None:
        self._self_training.offer(trace, {o.estimate.label: o.id for o in tracked.objects})

    def _update_shapes(self, job: _FrameJob) -> None:
        """Solve for shapes from several views; they apply from the next frame on."""
        with job.timed("views"):
            self.tracker.finish()

    def _publish_surfaces(
        self, job: _FrameJob, frame: Frame, objects: Sequence[PublishedObject]
    ) -> None:
        """Publish obstacles, surfaces and overlay to their subscribers."""
        with job.timed("shapes"):
            header = self.tracker.fixed_header(job.header)
            scene = SceneFrame(header, self.tracker.T_fixed_camera, frame)
            self._publishers.publish_scene(scene, self._objects, job.parameters)
            self.publish_shapes()
            self._publishers.publish_overlay(job.header, frame, objects, job.parameters)
            self._publishers.publish_points(job.header, frame, objects)

    def _answer_requests(
        self,
        job: _FrameJob,
        frame: Frame,
        trace: Trace,
        objects: list[PublishedObject],
    ) -> None:
        self.latest = latest = EstimatedFrame(
            header=job.header,
            camera_info=job.received.messages.camera_info,
            frame=frame,
            estimate=trace.estimate,
            expected=trace.expected,
            prior_context=trace.prior_context,
            settings=self._estimator.settings,
            device=str(self._estimator.device),
            checkpoint=self._checkpoint,
            prior_checkpoint=self._prior_checkpoint,
            prior_version=self._estimator.prior_version,
            objects=objects,
            stage_ms=job.stage_ms,
            parameters=job.parameters,
        )
        self._requests.succeed(job.number, latest, lambda: self.surfaces(latest))

    # Helpers

    def _drop(self, received: ReceivedFrame, reason: DropReason) -> None:
        self._inputs.drop_frame(stamp_ns(received.messages.rgb), reason)

    def _remove_objects(self) -> None:
        """Remove all objects from viewers and planners."""
        self._objects.clear()
        self.on_objects(())
        self.publish_shapes()
        header = Header(stamp=self._node.get_clock().now().to_msg())
        self._publishers.scene.clear(self.tracker.fixed_header(header))
