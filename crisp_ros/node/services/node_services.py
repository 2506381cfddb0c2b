"""The node's services. What takes time is done by the worker, while the executor goes on."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.task import Future
from std_srvs.srv import SetBool, Trigger

from crisp_ros.geometry.isosurface import TriangleMesh
from crisp_ros.msg import ObjectMesh
from crisp_ros.node.outputs import message_conversion as messages
from crisp_ros.node.estimated_frame import EstimatedFrame
from crisp_ros.node.services.mesh_files import MeshFormatError, checked_format, write_objects
from crisp_ros.node.services.output_paths import (
    OutputPathError,
    output_directory,
    output_file,
    output_folder,
)
from crisp_ros.node.parameters.node_parameters import Parameters
from crisp_ros.node.self_training import SelfTraining, SelfTrainingError
from crisp_ros.pipeline.frame_dump import SUFFIX
from crisp_ros.srv import DumpFrame, EstimateObjects, ExportMeshes, HoldObjects, SaveCheckpoint

DEFAULT_TIMEOUT_S = 5.0
LONGEST_TIMEOUT_S = 600.0


class ServiceError(Exception):
    """Why a request cannot be met, for whoever asked."""


_REFUSALS = (ServiceError, OutputPathError, MeshFormatError, SelfTrainingError, OSError)


class Served(Protocol):
    """What the services ask of the node; `call` has a task run by the worker."""

    @property
    def enabled(self) -> bool:
        """Whether frames are estimated as they come."""
        ...

    @property
    def parameters(self) -> Parameters: ...

    @property
    def inactive(self) -> str:
        """Why no frame is estimated now, "" while the node is active."""
        ...

    @property
    def input_problem(self) -> str:
        """Why the newest images could not be used, "" where they could."""
        ...

    def call(self, task: Callable[[], None]) -> None: ...

    def enable(self, on: bool) -> None:
        """Has frames be estimated as they come, or not.

        Raises:
            RuntimeError: the node is not configured.
        """
        ...

    def start_afresh(self) -> None:
        """Forgets all objects. In the worker's thread."""
        ...

    def surfaces(self, frame: EstimatedFrame) -> list[TriangleMesh]:
        """Of the frame's objects, in their order. In the worker's thread."""
        ...

    def hold(self, ids: list[str], hold: bool) -> list[str]:
        """Holds obstacles or lets them go; all that are held then.

        Raises:
            RuntimeError: the node is not configured.
        """
        ...


@dataclass(eq=False)
class _OneShot:
    """A request for an estimate: of a frame with at least this number."""

    number: int
    with_meshes: bool
    future: Future


class Services:
    """Creates the services; they answer in every state of the node's lifecycle."""

    def __init__(self, node: Node, served: Served, self_training: SelfTraining) -> None:
        self._node = node
        self._self_training = self_training
        self._served = served
        self._newest: EstimatedFrame | None = None
        self._one_shots: list[_OneShot] = []
        self._waiting: set[Future] = set()
        self._number = 0
        self._clock = Clock(clock_type=ClockType.STEADY_TIME)
        # A callback that waits for the worker must not keep the images out.
        group = ReentrantCallbackGroup()
        for kind, name, answer in (
            (SetBool, "enable", self._enable),
            (Trigger, "reset", self._reset),
            (EstimateObjects, "estimate", self._estimate),
            (ExportMeshes, "export_meshes", self._export_meshes),
            (DumpFrame, "dump_frame", self._dump_frame),
            (HoldObjects, "hold", self._hold),
            (SaveCheckpoint, "save_checkpoint", self._save_checkpoint),
            (Trigger, "rollback", self._rollback),
        ):
            node.create_service(kind, f"~/{name}", answer, callback_group=group)

    # What the node tells. `number` counts the frames that came.

    def frame_came(self) -> int | None:
        """Counts a frame; its number, or None where nobody wants it."""
        self._number += 1
        return self._number if self._served.enabled or self._one_shots else None

    def frame_estimated(self, number: int, frame: EstimatedFrame) -> None:
        """Keeps the newest frame and answers those who waited for it. In the worker's thread."""
        self._newest = frame
        for request in self._due(number):
            meshes: list[ObjectMesh] = []
            if request.with_meshes:
                surfaces = zip(frame.known, self._served.surfaces(frame), strict=True)
                meshes = [messages.object_mesh(o, m) for o, m in surfaces if not m.is_empty]
            answer = EstimateObjects.Response(
                success=True,
                message=f"{len(frame.estimate.objects)} objects",
                objects=frame.message(),
                meshes=meshes,
            )
            self._settle(request.future, answer)

    def frame_failed(self, number: int, reason: str) -> None:
        """Tells those who waited for a frame why there is none. In the worker's thread."""
        for request in self._due(number):
            self._settle(request.future, EstimateObjects.Response(message=reason))

    @property
    def is_awaited(self) -> bool:
        """Whether somebody waits for a frame."""
        return bool(self._one_shots)

    def forget(self) -> None:
        """Lets go of the newest frame, whose objects are forgotten. In the worker's thread."""
        self._newest = None

    def stop(self) -> None:
        """Ends all waiting, and forgets the newest frame: the worker has stopped."""
        self.forget()
        self._one_shots.clear()
        for future in list(self._waiting):
            self._settle(future, ServiceError("the node was deactivated meanwhile"))

    # Services

    def _enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        try:
            self._served.enable(request.data)
        except RuntimeError as error:
            response.message = str(error)
            return response
        state = "are estimated" if request.data else "are left out until ~/estimate asks for one"
        once = f"{self._served.inactive}; then " if self._served.inactive else ""
        response.success, response.message = True, f"{once}frames {state}"
        return response

    async def _reset(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        return await self._by_worker(response, lambda: self._do_reset(response))

    def _do_reset(self, response: Trigger.Response) -> None:
        self._served.start_afresh()
        response.message = "all objects are forgotten"

    async def _estimate(
        self, request: EstimateObjects.Request, response: EstimateObjects.Response
    ) -> EstimateObjects.Response:
        timeout = request.timeout or DEFAULT_TIMEOUT_S
        if self._served.inactive:
            response.message = self._served.inactive
            return response
        if not 0 < timeout <= LONGEST_TIMEOUT_S:
            response.message = (
                f"timeout is {timeout:g} s: expected a number up to {LONGEST_TIMEOUT_S:g}"
            )
            return response
        asked = _OneShot(self._number + 1, request.with_meshes, self._future())
        self._one_shots.append(asked)

        def give_up() -> None:
            problem = self._served.input_problem or "/diagnostics says what is missing"
            error = ServiceError(f"no frame was estimated within {timeout:g} s: {problem}")
            self._settle(asked.future, error)

        # The node's own clock stands still with a simulation that is paused.
        timer = self._node.create_timer(timeout, give_up, clock=self._clock)
        try:
            answer = await asked.future
        finally:
            self._node.destroy_timer(timer)
            self._waiting.discard(asked.future)
            if asked in self._one_shots:
                self._one_shots.remove(asked)
        if isinstance(answer, ServiceError):
            response.message = str(answer)
            return response
        return answer

    async def _export_meshes(
        self, request: ExportMeshes.Request, response: ExportMeshes.Response
    ) -> ExportMeshes.Response:
        return await self._by_worker(response, lambda: self._do_export(request, response))

    def _do_export(self, request: ExportMeshes.Request, response: ExportMeshes.Response) -> None:
        format = checked_format(request.format)
        frame = self._newest_frame()
        known = {o.id: o for o in frame.known}
        missing = [id for id in request.ids if id not in known]
        if missing or not known:
            raise ServiceError(
                f"no object {', '.join(missing)}; in view: {', '.join(known) or 'none'}"
            )
        surfaces = zip(frame.known, self._served.surfaces(frame), strict=True)
        wanted = [(o, m) for o, m in surfaces if not request.ids or o.id in request.ids]
        empty = [o.id for o, mesh in wanted if mesh.is_empty]
        if empty:
            raise ServiceError(f"no surface of {', '.join(empty)}")
        folder = output_folder(request.directory, self._base(), f"meshes_{frame.stamp_text}")
        files = write_objects(folder, format, wanted, frame.header, frame.estimate.model_version)
        response.files = [str(path) for path in files]
        response.message = f"{len(wanted)} meshes in {folder}"

    async def _dump_frame(
        self, request: DumpFrame.Request, response: DumpFrame.Response
    ) -> DumpFrame.Response:
        return await self._by_worker(response, lambda: self._do_dump(request, response))

    def _do_dump(self, request: DumpFrame.Request, response: DumpFrame.Response) -> None:
        frame = self._newest_frame()
        default = f"frame_{frame.stamp_text}{SUFFIX}"
        path = output_file(request.path, self._base(), default, SUFFIX)
        frame.dump().write(path)
        response.path = str(path)
        response.message = f"crisp replay {path}"

    def _hold(
        self, request: HoldObjects.Request, response: HoldObjects.Response
    ) -> HoldObjects.Response:
        if request.hold and not request.ids:
            response.message = "no ids: name the objects that are held"
            return response
        try:
            response.held = self._served.hold(list(request.ids), request.hold)
        except RuntimeError as error:
            response.message = str(error)
            return response
        response.success = True
        response.message = f"{len(response.held)} objects are held"
        return response

    async def _save_checkpoint(
        self, request: SaveCheckpoint.Request, response: SaveCheckpoint.Response
    ) -> SaveCheckpoint.Response:
        return await self._by_worker(response, lambda: self._do_save(request, response))

    def _do_save(self, request: SaveCheckpoint.Request, response: SaveCheckpoint.Response) -> None:
        def path_of(version: str) -> Path:
            name = re.sub(r"[^\w.+-]", "_", version)  # a model's maker may have written anything
            return output_file(request.path, self._base(), f"checkpoint_{name}{SUFFIX}", SUFFIX)

        path, response.model_version = self._self_training.save_checkpoint(path_of)
        response.path = str(path)
        response.message = f"model {response.model_version} in {path}"

    async def _rollback(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        return await self._by_worker(response, lambda: self._do_rollback(response))

    def _do_rollback(self, response: Trigger.Response) -> None:
        response.message = f"back to model {self._self_training.rollback()}"

    # Helpers

    async def _by_worker(self, response: Any, task: Callable[[], None]) -> Any:
        """Has the worker do a task that fills the response in; tells why where it fails."""
        if self._served.inactive:
            response.message = self._served.inactive
            return response
        future = self._future()

        def run() -> None:
            try:
                task()
                self._settle(future, None)
            except _REFUSALS as error:
                self._settle(future, error)
            except Exception as error:  # the caller gets an answer, whatever it is
                self._node.get_logger().error(f"service failed: {type(error).__name__}: {error}")
                self._settle(future, error)

        self._served.call(run)
        error = await future
        self._waiting.discard(future)
        if error is not None:
            # Only what was filled in before it failed is in the response.
            response = type(response)()
            response.message = str(error) or type(error).__name__
            self._node.get_logger().warning(f"service refused: {response.message}")
        response.success = error is None
        return response

    def _future(self) -> Future:
        future = Future()
        self._waiting.add(future)
        return future

    def _settle(self, future: Future, result: Any) -> None:
        """Lets whoever awaits a future go on; from any thread, the first one counts."""
        if not future.done():
            future.set_result(result)
        if self._node.executor is not None:
            self._node.executor.wake()

    def _due(self, number: int) -> list[_OneShot]:
        return [r for r in list(self._one_shots) if r.number <= number and not r.future.done()]

    def _newest_frame(self) -> EstimatedFrame:
        if self._newest is None:
            raise ServiceError(
                "no frame was estimated yet, or since all was forgotten: call ~/estimate first"
            )
        return self._newest

    def _base(self) -> Path:
        return output_directory(self._served.parameters.output_directory)
