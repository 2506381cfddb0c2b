"""Requests of ~/estimate, which the next estimated frame answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rclpy.task import Future

from crisp_ros.geometry.isosurface import TriangleMesh
from crisp_ros.msg import ObjectMesh
from crisp_ros.node.estimated_frame import EstimatedFrame
from crisp_ros.node.outputs import message_conversion
from crisp_ros.node.services.service_futures import ServiceFutures
from crisp_ros.srv import EstimateObjects


@dataclass(eq=False)
class EstimateRequest:
    """A request for one estimate.

    Attributes:
        first_frame: number of the first frame that may answer it.
        with_meshes: whether the answer includes the surfaces.
        future: completed with the response.
    """

    first_frame: int
    with_meshes: bool
    future: Future


class EstimateRequests:
    """Queue of requests; the frames that arrive are numbered, so that no older frame answers.

    Requests are added and removed in the executor's thread, and answered in the worker's.
    """

    def __init__(self, futures: ServiceFutures) -> None:
        """Start without requests."""
        self._futures = futures
        self._requests: list[EstimateRequest] = []
        self._frame_number = 0

    @property
    def is_pending(self) -> bool:
        """Whether a request is pending."""
        return bool(self._requests)

    def number_frame(self) -> int:
        """Count a frame that arrives and return its number."""
        self._frame_number += 1
        return self._frame_number

    def add(self, with_meshes: bool) -> EstimateRequest:
        """Add a request for the next frame that arrives."""
        request = EstimateRequest(self._frame_number + 1, with_meshes, self._futures.create())
        self._requests.append(request)
        return request

    def remove(self, request: EstimateRequest) -> None:
        """Remove a request that was answered or has timed out."""
        self._futures.discard(request.future)
        if request in self._requests:
            self._requests.remove(request)

    def clear(self) -> None:
        """Remove all requests; their futures are completed elsewhere."""
        self._requests.clear()

    def succeed(
        self, number: int, frame: EstimatedFrame, surfaces: Callable[[], list[TriangleMesh]]
    ) -> None:
        """Answer the requests that a frame satisfies.

        Args:
            number: of the frame.
            frame: its estimates.
            surfaces: returns the surfaces of its objects, in their order.
        """
        for request in self._due(number):
            meshes: list[ObjectMesh] = []
            if request.with_meshes:
                meshes = [
                    message_conversion.object_mesh(o, mesh)
                    for o, mesh in zip(frame.objects, surfaces(), strict=True)
                    if not mesh.is_empty
                ]
            response = EstimateObjects.Response(
                success=True,
                message=f"{len(frame.estimate.objects)} objects",
                objects=frame.message(),
                meshes=meshes,
            )
            self._futures.complete(request.future, response)

    def fail(self, number: int, reason: str) -> None:
        """Answer the requests that a frame should have satisfied with the reason of its failure."""
        for request in self._due(number):
            self._futures.complete(request.future, EstimateObjects.Response(message=reason))

    def _due(self, number: int) -> list[EstimateRequest]:
        return [
            request
            for request in list(self._requests)
            if request.first_frame <= number and not request.future.done()
        ]
