"""Link of segmenter and estimator in one process: what they hand to each other."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import trimesh
from numpy.typing import NDArray
from rclpy.node import Node
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from crisp_ros.geometry.isosurface import TriangleMesh
from crisp_ros.geometry.se3 import invert
from crisp_ros.node.inputs.shared_images import SharedImages
from crisp_ros.node.inputs.subscriptions import InputSubscriptions
from crisp_ros.node.outputs.published_objects import PublishedObject
from crisp_ros.segmentation.known_surfaces import KnownObject, Surface

_POINTS = 3000  # of a surface: 6 mm apart on a cereal box
_MAX_FACES = 2000

MakeSurfaces = Callable[[Sequence[PublishedObject], int], list[TriangleMesh]]
FindCamera = Callable[[Header], "NDArray[np.float64] | None"]


class _Certified(NamedTuple):
    """An object that a frame has certified.

    Attributes:
        version: of the shape.
        surface: that shape.
        T_fixed_object: (4, 4) last certified pose.
    """

    version: int
    surface: Surface
    T_fixed_object: NDArray[np.float64]


class EstimatorLink:
    """Messages, converted images and labels for the estimator; certified surfaces from it.

    The estimator attaches itself at its creation. Objects without a track are forgotten.

    Attributes:
        images: converted once for both nodes.
    """

    def __init__(self) -> None:
        self.images = SharedImages()
        self._certified: dict[str, _Certified] = {}
        self._labels: deque[Image] = deque()

    def attach(
        self,
        node: Node,
        inputs: InputSubscriptions,
        find_camera: FindCamera,
        make_surfaces: MakeSurfaces,
    ) -> None:
        """Connect the estimator.

        Args:
            node: whose executor receives the labels.
            inputs: receive all messages.
            find_camera: returns the pose (4, 4) of an image's camera in the fixed frame.
            make_surfaces: makes surfaces of objects with at most a number of faces.
        """
        self._inputs, self._find_camera, self._make_surfaces = inputs, find_camera, make_surfaces
        inputs.read_images = self.images.read
        self._arrived = node.create_guard_condition(self._deliver)

    # From the segmenter

    def receive(self, name: str, message: Any) -> None:
        """Pass a camera's message on, in the executor's thread."""
        self._inputs.receive(name, message)

    def send_labels(self, message: Image) -> None:
        """Pass a label image on, from any thread."""
        self._labels.append(message)
        self._arrived.trigger()

    def known_objects(self, header: Header) -> list[KnownObject]:
        """List the certified objects at their poses in an image; none without the camera's pose."""
        certified = [*self._certified.values()]
        T_fixed_camera = self._find_camera(header) if certified else None
        if T_fixed_camera is None:
            return []
        T = invert(T_fixed_camera)
        return [KnownObject(c.surface, T @ c.T_fixed_object) for c in certified]

    # From the estimator

    def update_objects(self, objects: Sequence[PublishedObject]) -> None:
        """Take the tracked objects of a frame, in the estimator's thread."""
        certified = {o.id: o for o in objects if o.is_seen and o.estimate.certified}
        known = {o.id: self._certified[o.id] for o in objects if o.id in self._certified}
        changed = [
            o for o in certified.values() if o.id not in known or known[o.id].version != o.version
        ]
        meshes = self._make_surfaces(changed, _MAX_FACES) if changed else []
        surfaces = {o.id: _sampled(m) for o, m in zip(changed, meshes, strict=True)}
        for id, o in certified.items():
            surface = surfaces.get(id, known[id].surface if id in known else None)
            if surface is not None:
                known[id] = _Certified(o.version, surface, o.tracked.T_fixed_object)
        self._certified = known

    def _deliver(self) -> None:
        while self._labels:
            self._inputs.receive("segmentation", self._labels.popleft())


def _sampled(mesh: TriangleMesh) -> Surface | None:
    """Points on a surface; None where it is empty."""
    if mesh.is_empty:
        return None
    whole = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    points, _ = trimesh.sample.sample_surface(whole, _POINTS, seed=0)
    return Surface(np.asarray(points))
