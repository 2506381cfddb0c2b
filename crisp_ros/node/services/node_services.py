"""Services of the node. Slow requests run in the worker's thread while the executor continues."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from std_srvs.srv import SetBool, Trigger

from crisp_ros.geometry.isosurface import TriangleMesh
from crisp_ros.node.estimated_frame import EstimatedFrame
from crisp_ros.node.node_state import NodeState
from crisp_ros.node.output_paths import (
    OutputPathError,
    output_directory,
    output_file,
    output_folder,
)
from crisp_ros.node.parameters.node_parameters import Parameters
from crisp_ros.node.self_training import SelfTraining, SelfTrainingError
from crisp_ros.node.services.estimate_requests import EstimateRequests
from crisp_ros.node.services.mesh_files import MeshFormatError, checked_format, write_objects
from crisp_ros.node.services.service_futures import ServiceFutures
from crisp_ros.pipeline.frame_dump import SUFFIX
from crisp_ros.srv import DumpFrame, EstimateObjects, ExportMeshes, HoldObjects, SaveCheckpoint

DEFAULT_TIMEOUT_S = 5.0
LONGEST_TIMEOUT_S = 600.0


class ServiceError(Exception):
    """Request that cannot be met; the text gives the caller the reason."""


_REFUSALS = (ServiceError, OutputPathError, MeshFormatError, SelfTrainingError, OSError)


@dataclass(frozen=True)
class ServiceBackend:
    """Functions and state that the services act on.

    Attributes:
        state: of the node.
        parameters: returns the current values.
        input_problem: returns why the latest images could not be used, "" if they could.
        run_in_worker: runs a task in the worker's thread.
        latest_frame: returns the latest estimated frame since the last reset, or None.
        surfaces: returns the surfaces of a frame's objects, in their order; in the worker's thread.
        reset: removes all objects; in the worker's thread.
        hold: holds (True) or releases (False) obstacles by id; returns all that are held.
        self_training: of the node.
    """

    state: NodeState
    parameters: Callable[[], Parameters]
    input_problem: Callable[[], str]
    run_in_worker: Callable[[Callable[[], None]], None]
    latest_frame: Callable[[], EstimatedFrame | None]
    surfaces: Callable[[EstimatedFrame], list[TriangleMesh]]
    reset: Callable[[], None]
    hold: Callable[[Collection[str], bool], list[str]]
    self_training: SelfTraining


class NodeServices:
    """The services of the node, which answer in all of its lifecycle states."""

    def __init__(
        self,
        node: Node,
        futures: ServiceFutures,
        requests: EstimateRequests,
        backend: ServiceBackend,
    ) -> None:
        """Create the services.

        Args:
            node: that offers them.
            futures: of the pending calls.
            requests: of ~/estimate.
            backend: what they act on.
        """
        self._node = node
        self._futures = futures
        self._requests = requests
        self._backend = backend
        self._clock = Clock(clock_type=ClockType.STEADY_TIME)
        # A callback that waits for the worker must not block the images.
        group = ReentrantCallbackGroup()
        for kind, name, callback in (
            (SetBool, "enable", self._enable),
            (Trigger, "reset", self._reset),
            (EstimateObjects, "estimate", self._estimate),
            (ExportMeshes, "export_meshes", self._export_meshes),
            (DumpFrame, "dump_frame", self._dump_frame),
            (HoldObjects, "hold", self._hold),
            (SaveCheckpoint, "save_checkpoint", self._save_checkpoint),
            (Trigger, "rollback", self._rollback),
        ):
            node.create_service(kind, f"~/{name}", callback, callback_group=group)

    def stop(self) -> None:
        """Answer all pending calls: the worker has stopped."""
        self._requests.clear()
        self._futures.complete_all(ServiceError("the node was deactivated during the call"))

    # Callbacks

    def _enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        state = self._backend.state
        if not state.is_configured:
            response.message = state.inactive_reason
            return response
        state.is_enabled = request.data
        effect = "are estimated" if request.data else "are dropped until ~/estimate requests one"
        condition = f"{state.inactive_reason}; then " if state.inactive_reason else ""
        response.success, response.message = True, f"{condition}frames {effect}"
        return response

    async def _reset(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        def reset() -> None:
            self._backend.reset()
            response.message = "all objects are removed"

        return await self._in_worker(response, reset)

    async def _estimate(
        self, request: EstimateObjects.Request, response: EstimateObjects.Response
    ) -> EstimateObjects.Response:
        timeout = request.timeout or DEFAULT_TIMEOUT_S
        if self._backend.state.inactive_reason:
            response.message = self._backend.state.inactive_reason
            return response
        if not 0 < timeout <= LONGEST_TIMEOUT_S:
            response.message = (
                f"timeout is {timeout:g} s: expected a number up to {LONGEST_TIMEOUT_S:g}"
            )
            return response
        pending = self._requests.add(request.with_meshes)

        def time_out() -> None:
            problem = self._backend.input_problem() or "see /diagnostics for what is missing"
            error = ServiceError(f"no frame was estimated within {timeout:g} s: {problem}")
            self._futures.complete(pending.future, error)

        # The node's own clock stands still with a paused simulation.
        timer = self._node.create_timer(timeout, time_out, clock=self._clock)
        try:
            answer = await pending.future
        finally:
            self._node.destroy_timer(timer)
            self._requests.remove(pending)
        if isinstance(answer, ServiceError):
            response.message = str(answer)
            return response
        return answer

    async def _export_meshes(
        self, request: ExportMeshes.Request, response: ExportMeshes.Response
    ) -> ExportMeshes.Response:
        return await self._in_worker(response, lambda: self._write_meshes(request, response))

    async def _dump_frame(
        self, request: DumpFrame.Request, response: DumpFrame.Response
    ) -> DumpFrame.Response:
        return await self._in_worker(response, lambda: self._write_dump(request, response))

    def _hold(
        self, request: HoldObjects.Request, response: HoldObjects.Response
    ) -> HoldObjects.Response:
        if request.hold and not request.ids:
            response.message = "no ids: name the objects that are held"
            return response
        if not self._backend.state.is_configured:
            response.message = self._backend.state.inactive_reason
            return response
        response.held = self._backend.hold(list(request.ids), request.hold)
        response.success = True
        response.message = f"{len(response.held)} objects are held"
        return response

    async def _save_checkpoint(
        self, request: SaveCheckpoint.Request, response: SaveCheckpoint.Response
    ) -> SaveCheckpoint.Response:
        return await self._in_worker(response, lambda: self._write_checkpoint(request, response))

    async def _rollback(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        def roll_back() -> None:
            response.message = f"rolled back to model {self._backend.self_training.rollback()}"

        return await self._in_worker(response, roll_back)

    # Tasks in the worker's thread

    def _write_meshes(self, request: ExportMeshes.Request, response: ExportMeshes.Response) -> None:
        format = checked_format(request.format)
        frame = self._latest_frame()
        objects = {o.id: o for o in frame.objects}
        missing = [id for id in request.ids if id not in objects]
        if missing or not objects:
            raise ServiceError(
                f"no object {', '.join(missing)}; in view: {', '.join(objects) or 'none'}"
            )
        surfaces = zip(frame.objects, self._backend.surfaces(frame), strict=True)
        wanted = [(o, m) for o, m in surfaces if not request.ids or o.id in request.ids]
        empty = [o.id for o, mesh in wanted if mesh.is_empty]
        if empty:
            raise ServiceError(f"no surface of {', '.join(empty)}")
        folder = output_folder(request.directory, self._base(), f"meshes_{frame.stamp_text}")
        files = write_objects(folder, format, wanted, frame.header, frame.estimate.model_version)
        response.files = [str(path) for path in files]
        response.message = f"{len(wanted)} meshes in {folder}"

    def _write_dump(self, request: DumpFrame.Request, response: DumpFrame.Response) -> None:
        frame = self._latest_frame()
        default = f"frame_{frame.stamp_text}{SUFFIX}"
        path = output_file(request.path, self._base(), default, SUFFIX)
        frame.dump().write(path)
        response.path = str(path)
        response.message = f"crisp replay {path}"

    def _write_checkpoint(
        self, request: SaveCheckpoint.Request, response: SaveCheckpoint.Response
    ) -> None:
        def path_of(version: str) -> Path:
            name = re.sub(r"[^\w.+-]", "_", version)  # versions are free text of a model's author
            return output_file(request.path, self._base(), f"checkpoint_{name}{SUFFIX}", SUFFIX)

        path, response.model_version = self._backend.self_training.save_checkpoint(path_of)
        response.path = str(path)
        response.message = f"model {response.model_version} in {path}"

    # Helpers

    async def _in_worker(self, response: Any, task: Callable[[], None]) -> Any:
        """Run a task that fills in the response in the worker's thread; report its errors."""
        if self._backend.state.inactive_reason:
            response.message = self._backend.state.inactive_reason
            return response
        future = self._futures.create()

        def run() -> None:
            try:
                task()
                self._futures.complete(future, None)
            except _REFUSALS as error:
                self._futures.complete(future, error)
            except Exception as error:  # whatever it is, the caller gets an answer
                self._node.get_logger().error(f"service failed: {type(error).__name__}: {error}")
                self._futures.complete(future, error)

        self._backend.run_in_worker(run)
        error = await future
        self._futures.discard(future)
        if error is not None:
            # The response holds only what was filled in before the error.
            response = type(response)()
            response.message = str(error) or type(error).__name__
            self._node.get_logger().warning(f"service refused: {response.message}")
        response.success = error is None
        return response

    def _latest_frame(self) -> EstimatedFrame:
        frame = self._backend.latest_frame()
        if frame is None:
            raise ServiceError(
                "no frame was estimated yet, or since the last reset: call ~/estimate first"
            )
        return frame

    def _base(self) -> Path:
        return output_directory(self._backend.parameters().output_directory)
