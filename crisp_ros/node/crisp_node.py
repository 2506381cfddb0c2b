"""The lifecycle node: camera images in, certified poses and shapes out."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from typing import Any

import torch
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn
from tf2_ros import TransformBroadcaster

from crisp_ros.geometry.cuda_graphs import release_graphs
from crisp_ros.network.cpu_threads import set_own_cpu_threads
from crisp_ros.node.estimator_factory import checkpoint_file, make_estimator
from crisp_ros.node.frame_processor import FrameProcessor, NumberedFrame
from crisp_ros.node.health.diagnostics import Diagnostics
from crisp_ros.node.health.search_report import report_searches
from crisp_ros.node.inputs.input_topics import TOPICS
from crisp_ros.node.inputs.subscriptions import InputSubscriptions, ReceivedFrame
from crisp_ros.node.inputs.synchronizer import stamp_ns
from crisp_ros.node.latest_item_worker import LatestItemWorker
from crisp_ros.node.managed_node import ManagedNode
from crisp_ros.node.monitor import DropReason, ModelStatus, Monitor
from crisp_ros.node.outputs.publishers import Publishers
from crisp_ros.node.parameters.node_parameters import Parameters
from crisp_ros.node.parameters.parameter_server import ParameterServer
from crisp_ros.node.progress_log import progress_log
from crisp_ros.node.segmenter.estimator_link import EstimatorLink
from crisp_ros.node.self_training import SelfTraining
from crisp_ros.node.services.estimate_requests import EstimateRequests
from crisp_ros.node.services.node_services import NodeServices, ServiceBackend
from crisp_ros.node.services.service_futures import ServiceFutures
from crisp_ros.pipeline import Estimator


class CrispNode(ManagedNode):
    """Node that estimates pose and shape of every segmented object.

    configure: loads the model and warms it up; fails with the reason if that is impossible.
    activate: subscribes. deactivate: stops and keeps the model. cleanup: releases the model.
    """

    def __init__(
        self,
        make_estimator: Callable[[Parameters], Estimator] = make_estimator,
        name: str = "crisp",
        link: EstimatorLink | None = None,
        **options: Any,
    ) -> None:
        """Declare the parameters, create the services and start to publish diagnostics.

        Args:
            make_estimator: called in configure.
            name: of the node.
            link: to the segmenter of this process, which then receives the images for both.
            options: of the node.

        Raises:
            rclpy.exceptions.ParameterException: a parameter's override is refused.
        """
        super().__init__(name, **options)
        self._make_estimator = make_estimator
        self._broadcaster = TransformBroadcaster(self)
        self._model_versions: list[str] = []  # of all models used so far
        self._parameters_set = ParameterServer(self, lambda: self._state.label)
        self._monitor = Monitor({n: self.resolve_topic_name(topic) for n, topic in TOPICS.items()})
        self._self_training = SelfTraining()
        self._inputs = InputSubscriptions(
            self, self._monitor, self._frame_received, self._time_jumped, link is not None
        )
        futures = ServiceFutures(self)
        self._requests = EstimateRequests(futures)
        self._processor = FrameProcessor(
            self,
            self._monitor,
            self._inputs,
            self._requests,
            self._self_training,
            lambda: self.parameters,
        )
        if link is not None:
            self._attach(link)
        self._worker: LatestItemWorker[NumberedFrame] = LatestItemWorker(
            self._processor.process, self._processor.fail, "estimation", self._set_cpu_threads
        )
        self._node_services = NodeServices(self, futures, self._requests, self._service_backend())
        self._diagnostics = self._make_diagnostics()
        if self.parameters.autostart:
            self.start_by_itself()

    @property
    def parameters(self) -> Parameters:
        """Values of the parameters."""
        return self._parameters_set.values

    def close(self) -> None:
        """End the threads, before the node is destroyed."""
        self._worker.stop()
        self._self_training.stop()
        self._processor.stop_searches()

    def _attach(self, link: EstimatorLink) -> None:
        find_camera = self._processor.tracker.fixed_frame.T_fixed_camera_now
        link.attach(self, self._inputs, find_camera, self._processor.surfaces_of)
        self._processor.on_objects = link.update_objects

    def _service_backend(self) -> ServiceBackend:
        return ServiceBackend(
            state=self._state,
            parameters=lambda: self.parameters,
            input_problem=lambda: self._monitor.input_problem,
            run_in_worker=self._worker.call,
            latest_frame=lambda: self._processor.latest,
            surfaces=self._processor.surfaces,
            reset=self._processor.reset,
            hold=self._processor.hold,
            self_training=self._self_training,
        )

    def _make_diagnostics(self) -> Diagnostics:
        diagnostics = Diagnostics(self, self._monitor, lambda: self.parameters, self._state)
        diagnostics.add("fixed frame", self._processor.tracker.fixed_frame.report)
        diagnostics.add("self-training", self._self_training.report)
        diagnostics.add(
            "searches", lambda stat: report_searches(self._processor.search_status, stat)
        )
        diagnostics.add("lifecycle", self._state.report)
        return diagnostics

    # Transitions

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the model, warm it up, and create the publishers."""
        parameters = self.parameters
        start = time.monotonic()
        try:
            estimator = self._make_estimator(parameters)
            estimator.warm_up(progress_log(self.get_logger().info))
            if parameters.self_training:
                self._self_training.configure(estimator, parameters, checkpoint_file(parameters))
            publishers = Publishers(
                self, self._broadcaster, estimator, self._viewer_matched, self._model_versions
            )
            self._processor.configure(estimator, publishers)
        except Exception as error:  # whatever it is, the node survives and reports it
            self._release()
            self._monitor.model = ModelStatus({}, f"cannot configure: {error}")
            return self._refuse(f"cannot configure: {error}")
        duration_s = time.monotonic() - start
        self._monitor.model = ModelStatus(
            {
                "version": estimator.model_version,
                "file": parameters.checkpoint or "the package's own",
                "prior for unknown objects": estimator.prior_version or "none",
                "device": parameters.device,
                "precision": estimator.settings.precision,
                "loaded and warm in (s)": f"{duration_s:.1f}",
            },
            "",
        )
        self.get_logger().info(f"model {estimator.model_version} ready after {duration_s:.1f} s")
        return self._enter("inactive")

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe and start to work."""
        super().on_activate(state)
        try:
            self._processor.start()
            self._inputs.subscribe(self.parameters)
        except Exception as error:  # an invalid QoS override, above all
            self._inputs.unsubscribe()
            self._processor.tracker.stop()
            super().on_deactivate(state)
            return self._refuse(f"cannot activate: {error}")
        self._worker.start()
        self._self_training.start()
        self._processor.publish_model()
        return self._enter("active")

    def _update_diagnostics(self) -> None:
        self._diagnostics.update()

    def _stop(self) -> None:
        self._inputs.unsubscribe()
        self._drop(self._worker.stop(), DropReason.DEACTIVATED)
        self._self_training.stop()
        self._node_services.stop()
        self._processor.stop()

    def _release(self) -> None:
        self._processor.release()
        self._self_training.release()
        self._state.is_enabled = True
        self._inputs.label_names = {}
        self._monitor.model = ModelStatus({}, "")
        release_graphs()
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    # In the executor's thread

    def _frame_received(self, received: ReceivedFrame) -> None:
        frame = NumberedFrame(self._requests.number_frame(), received)
        if not (self._state.is_enabled or self._requests.is_pending):
            self._drop(frame, DropReason.DISABLED)
            return
        replaced = self._worker.submit(frame)
        is_stopped = replaced is frame
        self._drop(replaced, DropReason.DEACTIVATED if is_stopped else DropReason.SUPERSEDED)

    def _drop(self, frame: NumberedFrame | None, reason: DropReason) -> None:
        """Record that a frame, if there is one, is not estimated."""
        if frame is not None:
            self._inputs.drop_frame(stamp_ns(frame.received.messages.rgb), reason)

    def _viewer_matched(self) -> None:
        self._worker.call(self._processor.publish_shapes)

    def _time_jumped(self) -> None:
        self._worker.call(self._processor.reset)

    # In the worker's thread

    def _set_cpu_threads(self) -> None:
        set_own_cpu_threads(self.parameters.threads)
        self._monitor.cpu_threads = torch.get_num_threads()
