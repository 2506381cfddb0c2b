"""The lifecycle node: camera images in, certified poses and shapes out."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import torch
from diagnostic_msgs.msg import DiagnosticStatus
from diagnostic_updater import DiagnosticStatusWrapper
from lifecycle_msgs.srv import ChangeState
from rclpy.clock import Clock, ClockType
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.time import Time
from std_msgs.msg import Header
from tf2_ros import TransformBroadcaster

from crisp_ros.geometry.isosurface import TriangleMesh
from crisp_ros.network.cpu_threads import set_own_cpu_threads
from crisp_ros.node.estimator_factory import checkpoint_file, estimator_settings, make_estimator
from crisp_ros.node.fixed_frame_tracker import Tracking
from crisp_ros.node.health.diagnostics import Diagnostics, ModelStatus
from crisp_ros.node.health.monitor import DropReason, Monitor
from crisp_ros.node.inputs import frame_conversion as frames
from crisp_ros.node.inputs.fixed_frame import FixedFrameError
from crisp_ros.node.inputs.subscriptions import TOPICS, InputSubscriptions, ReceivedFrame
from crisp_ros.node.inputs.synchronizer import stamp_ns
from crisp_ros.node.latest_item_worker import NewestItemWorker
from crisp_ros.node.outputs.collision_objects import SceneFrame
from crisp_ros.node.estimated_frame import EstimatedFrame
from crisp_ros.node.outputs.published_objects import KnownObjects
from crisp_ros.node.outputs.publishers import Outputs
from crisp_ros.node.parameters.node_parameters import Parameters, label_names
from crisp_ros.node.parameters.parameter_server import ParameterServer
from crisp_ros.node.self_training import SelfTraining
from crisp_ros.node.services.node_services import Services
from crisp_ros.pipeline import Estimator

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


class _Numbered(NamedTuple):
    """A frame's messages, and which of all frames since the start it is."""

    number: int
    received: ReceivedFrame


class CrispNode(LifecycleNode):
    """Estimates pose and shape of every segmented object.

    configure: reads the model and warms it up; fails with the reason where that is impossible.
    activate: subscribes. deactivate: stops and keeps the model. cleanup: lets the model go.
    """

    def __init__(
        self,
        make_estimator: Callable[[Parameters], Estimator] = make_estimator,
        name: str = "crisp",
        **options: Any,
    ) -> None:
        """Declares the parameters and begins to report diagnostics.

        Args:
            make_estimator: called in configure.
            name, options: of the node.

        Raises:
            rclpy.exceptions.ParameterException: a parameter's override is refused.
        """
        super().__init__(name, **options)
        self._label = "unconfigured"
        self._problem = ""  # because of which the last transition failed
        self._make_estimator = make_estimator
        self._tracking = Tracking(self)
        self._estimator: Estimator | None = None
        self._outputs: Outputs | None = None
        self._models: list[str] = []
        self._known = KnownObjects()
        self._self_training = SelfTraining()
        self._broadcaster = TransformBroadcaster(self)
        self._parameters_set = ParameterServer(self, lambda: self._label)
        topics = {input: self.resolve_topic_name(topic) for input, topic in TOPICS.items()}
        self._monitor = Monitor(topics)
        self._diagnostics = Diagnostics(
            self,
            self._monitor,
            lambda: self._parameters_set.values,
            lambda: self._label,
            lambda: self.enabled,
        )
        self._diagnostics.add("fixed frame", self._tracking.fixed_frame.report)
        self._diagnostics.add("self-training", self._self_training.report)
        self._worker: NewestItemWorker[_Numbered] = NewestItemWorker(
            self._process, self._failed, "estimation", self._take_cpu_threads
        )
        self._number = 0  # of the frame that the worker is at
        self._inputs = InputSubscriptions(self, self._monitor, self._frame_came, self._time_jumped)
        self.enabled = True
        self._offered = Services(self, self, self._self_training)
        self._diagnostics.add("lifecycle", self._report_lifecycle)
        self._refuse_transitions_politely()
        if self.parameters.autostart:
            # Once it is spun. By itself: requests and answers that launch files exchange while
            # nodes still discover each other can be lost.
            steady = Clock(clock_type=ClockType.STEADY_TIME)
            self._start_timer = self.create_timer(0.0, self._start_up, clock=steady)

    def _start_up(self) -> None:
        self.destroy_timer(self._start_timer)
        if self._label == "unconfigured" and (
            self.trigger_configure() == TransitionCallbackReturn.SUCCESS
        ):
            self.trigger_activate()

    # Transitions. rclpy swallows what they raise, so each reports its own errors.

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Reads the model, warms it up, and creates the publishers."""
        parameters = self._parameters_set.values
        start = time.monotonic()
        try:
            self._estimator = self._make_estimator(parameters)
            self._estimator.warm_up()
            if parameters.self_training:
                file = checkpoint_file(parameters)
                self._self_training.configure(self._estimator, parameters, file)
            self._tracking.configure(self._estimator)
            self._outputs = Outputs(self, self._broadcaster, self._viewer_came, self._models)
        except Exception as error:  # whatever it is, the node stays, and says it
            self._release()
            self._diagnostics.model = ModelStatus({}, f"cannot configure: {error}")
            return self._refused(f"cannot configure: {error}")
        self._diagnostics.model = ModelStatus(
            {
                "version": self._estimator.model_version,
                "file": parameters.checkpoint or "the package's own",
                "device": parameters.device,
                "loaded and warm in (s)": f"{time.monotonic() - start:.1f}",
            },
            "",
        )
        self.get_logger().info(
            f"model {self._estimator.model_version} ready after {time.monotonic() - start:.1f} s"
        )
        return self._reached("inactive")

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribes and starts to work."""
        super().on_activate(state)
        try:
            self._tracking.start(self._parameters_set.values)
            self._inputs.subscribe(self._parameters_set.values)
        except Exception as error:  # a QoS override that makes no sense, above all
            self._inputs.unsubscribe()
            self._tracking.stop()
            super().on_deactivate(state)
            return self._refused(f"cannot activate: {error}")
        self._worker.start()
        self._self_training.start()
        self._outputs.publish_model(self._estimator.model_version, self._model_file())
        return self._reached("active")

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stops listening and working; the model stays."""
        self._stop()
        super().on_deactivate(state)
        return self._reached("inactive")

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Lets go of the model and its memory."""
        self._release()
        return self._reached("unconfigured")

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Ends all work, whatever the state."""
        self._stop()
        self._release()
        return self._reached("finalized")

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Goes back to the beginning."""
        self._stop()
        self._release()
        return self._reached("unconfigured")

    def _reached(self, label: str) -> TransitionCallbackReturn:
        self._label, self._problem = label, ""
        return SUCCESS

    def _refused(self, problem: str) -> TransitionCallbackReturn:
        self._problem = problem
        self.get_logger().error(problem)
        self._diagnostics.update()
        return FAILURE

    def close(self) -> None:
        """Ends the threads, before the node is destroyed."""
        self._worker.stop()
        self._self_training.stop()

    def _stop(self) -> None:
        self._inputs.unsubscribe()
        self._leave_out(self._worker.stop(), DropReason.DEACTIVATED)
        self._self_training.stop()
        self._offered.stop()
        if self._outputs is not None:
            self._end_all()
        self._tracking.stop()

    def _release(self) -> None:
        if self._outputs is not None:
            self._outputs.destroy()
        self._tracking.release()
        self._self_training.release()
        self._outputs = None
        self._estimator = None
        self.enabled = True
        self._inputs.label_names = {}
        self._diagnostics.model = ModelStatus({}, "")
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _refuse_transitions_politely(self) -> None:
        """Answers "no" to transitions that the state does not allow.

        rclpy raises in its service's callback instead, which ends the node and answers nothing.
        """
        service = next(s for s in self.services if s.srv_type is ChangeState)
        answer = service.callback

        def polite(
            request: ChangeState.Request, response: ChangeState.Response
        ) -> ChangeState.Response:
            try:
                return answer(request, response)
            except rclpy_implementation.RCLError as error:
                self.get_logger().warning(f"transition refused while {self._label}: {error}")
                response.success = False
                return response

        service.callback = polite

    # What the services ask for

    @property
    def parameters(self) -> Parameters:
        """Their values."""
        return self._parameters_set.values

    @property
    def inactive(self) -> str:
        """Why no frame is estimated now, "" while the node is active."""
        return "" if self._label == "active" else f"the node is {self._label}: activate it first"

    @property
    def input_problem(self) -> str:
        """Why the newest images could not be used, "" where they could."""
        with self._monitor.lock:
            faults = {name: r.fault for name, r in self._monitor.inputs.items() if r.fault}
        return "; ".join(f"{name}: {fault}" for name, fault in faults.items())

    def call(self, task: Callable[[], None]) -> None:
        """Has a task done by the worker."""
        self._worker.call(task)

    def start_afresh(self) -> None:
        """Forgets all objects. In the worker's thread."""
        self._tracking.reset()
        self._end_all()
        self._offered.forget()

    def surfaces(self, frame: EstimatedFrame) -> list[TriangleMesh]:
        """Of a frame's objects. In the worker's thread."""
        return self._outputs.surfaces(frame.known, self._estimator, self.parameters)

    def enable(self, on: bool) -> None:
        """Has frames be estimated as they come, or not; until the node is cleaned up."""
        if self._outputs is None:
            raise RuntimeError(self.inactive)
        self.enabled = on

    def hold(self, ids: Collection[str], hold: bool) -> list[str]:
        """Holds obstacles or lets them go; all that are held then."""
        if self._outputs is None:
            raise RuntimeError(self.inactive)
        return self._outputs.scene.hold(ids, hold)

    # The executor's thread

    def _viewer_came(self) -> None:
        self._worker.call(self._publish_shapes)

    def _time_jumped(self) -> None:
        self._worker.call(self.start_afresh)

    def _frame_came(self, received: ReceivedFrame) -> None:
        number = self._offered.frame_came()
        if number is None:
            self._leave_out(_Numbered(0, received), DropReason.DISABLED)
            return
        numbered = _Numbered(number, received)
        instead = self._worker.submit(numbered)
        self._leave_out(
            instead, DropReason.DEACTIVATED if instead is numbered else DropReason.SUPERSEDED
        )

    def _leave_out(self, numbered: _Numbered | None, cause: DropReason) -> None:
        """Notes that a frame, if there is one, is not estimated."""
        if numbered is not None:
            self._inputs.drop_frame(stamp_ns(numbered.received.messages.rgb), cause)

    def _report_lifecycle(self, stat: DiagnosticStatusWrapper) -> DiagnosticStatusWrapper:
        if self._problem:
            stat.summary(DiagnosticStatus.ERROR, f"{self._label}: {self._problem}")
        else:
            stat.summary(DiagnosticStatus.OK, self._label)
        return stat

    # The worker's thread

    def _take_cpu_threads(self) -> None:
        set_own_cpu_threads(self.parameters.threads)
        self._diagnostics.cpu_threads = torch.get_num_threads()

    def _process(self, numbered: _Numbered) -> None:
        self._number = numbered.number
        left_out: DropReason | None = DropReason.FAILED
        try:
            left_out = self._estimated(numbered.received)
        finally:
            if left_out is not None:
                self._leave_out(numbered, left_out)

    def _outdated(self, received: ReceivedFrame) -> DropReason | None:
        """Why nobody wants a frame's answer any more, if so."""
        if received.epoch == self._inputs.epoch:
            return None
        return DropReason.TIME_JUMP if self._inputs.is_subscribed else DropReason.DEACTIVATED

    def _estimated(self, received: ReceivedFrame) -> DropReason | None:
        """Estimates a frame and publishes all about it; why not, where it could not."""
        if (outdated := self._outdated(received)) is not None:
            return outdated  # while it waited
        parameters = self._parameters_set.values
        messages, header = received.messages, received.messages.rgb.header
        names = {**self._inputs.label_names, **label_names(parameters.label_names)}
        start = time.perf_counter()
        try:
            frame, names, warnings = frames.convert_frame(messages, parameters, names)
        except frames.InputError as error:
            self._monitor.record_refused(error.input, str(error))
            self.get_logger().warning(
                f"{error.input}: {error}", throttle_duration_sec=5.0, skip_first=False
            )
            self._offered.frame_failed(self._number, f"{error.input}: {error}")
            return DropReason.REFUSED
        self._monitor.record_accepted(warnings)
        stage_ms = {"convert": 1e3 * (time.perf_counter() - start)}
        with_covariance = self._outputs.want_covariance or self._offered.is_awaited
        settings = estimator_settings(parameters, self._estimator.settings, with_covariance)
        self._estimator.settings = settings
        with self._self_training.estimating():
            trace = self._estimator.trace(frame, lambda: self._outdated(received) is not None)
        stage_ms.update(trace.estimate.stage_ms)
        self._diagnostics.model.values["version"] = trace.estimate.model_version
        if (outdated := self._outdated(received)) is not None:
            return outdated  # meanwhile
        start = time.perf_counter()
        try:
            tracked = self._tracking.update(header, trace, names, parameters)
        except FixedFrameError as error:
            self.get_logger().warning(str(error), throttle_duration_sec=5.0, skip_first=False)
            self._offered.frame_failed(self._number, str(error))
            return DropReason.NO_TRANSFORM
        stage_ms["fits"] = tracked.fit_ms
        stage_ms["tracking"] = 1e3 * (time.perf_counter() - start) - tracked.fit_ms
        estimate = tracked.estimate_of(trace.estimate)
        self._known.update((*tracked.objects, *tracked.unseen))
        known = [self._known[o.id] for o in (*tracked.objects, *tracked.held)]
        self._outputs.publish_estimate(header, known, estimate, stage_ms, parameters)
        delay = self.get_clock().now() - Time.from_msg(header.stamp)
        self._self_training.offer(trace, {o.estimate.label: o.id for o in tracked.objects})
        self._monitor.record_tracks((*tracked.objects, *tracked.unseen))
        self._outputs.publish_model(estimate.model_version, self._model_file())
        start = time.perf_counter()
        self._tracking.finish()
        stage_ms["views"] = 1e3 * (time.perf_counter() - start)
        start = time.perf_counter()
        scene = SceneFrame(
            self._tracking.fixed_header(header), self._tracking.T_fixed_camera, frame
        )
        self._outputs.publish_scene(scene, self._known, self._estimator, parameters)
        self._publish_shapes()
        self._outputs.publish_overlay(header, frame, known, self._estimator, parameters)
        stage_ms["shapes"] = 1e3 * (time.perf_counter() - start)
        ids = tuple(o.id for o in tracked.objects)
        self._monitor.record_estimate(estimate, ids, stage_ms, delay.nanoseconds / 1e9)
        estimated = EstimatedFrame(
            header,
            messages.camera_info,
            frame,
            trace.estimate,
            settings,
            str(self._estimator.device),
            self._model_file(),
            known,
            stage_ms,
            parameters,
        )
        self._offered.frame_estimated(self._number, estimated)
        return None

    def _publish_shapes(self) -> None:
        self._outputs.publish_shapes(self._known, self._estimator, self._parameters_set.values)

    def _end_all(self) -> None:
        """Takes all objects away from those who were told of them."""
        self._known.clear()
        self._publish_shapes()
        header = Header(stamp=self.get_clock().now().to_msg())
        self._outputs.scene.clear(self._tracking.fixed_header(header))

    def _model_file(self) -> str:
        return str(checkpoint_file(self.parameters))

    def _failed(self, error: Exception) -> None:
        if not self.context.ok():
            return  # shutting down: publishing is no longer possible
        reason = f"frame failed: {type(error).__name__}: {error}"
        self._monitor.record_failure(reason)
        self.get_logger().error(reason, throttle_duration_sec=5.0)
        self._offered.frame_failed(self._number, reason)
