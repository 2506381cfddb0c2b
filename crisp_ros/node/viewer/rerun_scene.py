"""Rerun recording of the node's inputs and outputs."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
from builtin_interfaces.msg import Time as TimeMessage
from sensor_msgs.msg import CameraInfo, Image

from crisp_ros.data import image_messages
from crisp_ros.data.camera_calibration import CameraInfoError, camera
from crisp_ros.geometry.camera import FrameError
from crisp_ros.msg import ObjectEstimate, ObjectEstimateArray, ObjectMesh
from crisp_ros.node.inputs.cv_bridge_decoder import CV_BRIDGE
from crisp_ros.node.outputs.message_conversion import colour

_CAMERA = "camera"
_IMAGE = f"{_CAMERA}/image"
_OBJECTS = f"{_CAMERA}/objects"
_OVERLAY = "overlay"
_UNCERTIFIED = (130, 130, 130, 255)
_QUALITY = 80
_MEMORY = "512MiB"


class ViewerError(Exception):
    """The viewer cannot start; the text gives the cause and the remedy."""


class RerunScene:
    """Writer of messages to a recording, each at the stamp of its header.

    In the camera's optical frame: `camera/image` with colour and depth, and `camera/objects/ID`
    with pose, surface and certificate of each object of the latest frame. In addition `overlay`,
    the image of the node with its estimates, and `residual/ID`, the certificates' residuals over
    time in millimetres.
    """

    def __init__(self, save: Path | None, port: int) -> None:
        """Open the recording.

        Args:
            save: file to write (.rrd); None to serve browsers.
            port: of the web page; the next port serves the data.

        Raises:
            ViewerError: Rerun is not installed, or the file or the port cannot be used.
        """
        self._rerun = rerun = _rerun()
        self._recording = rerun.RecordingStream("crisp_ros")
        self._shown: set[str] = set()
        layout = _layout(rerun)
        try:
            if save is not None:
                self._recording.save(save, default_blueprint=layout)
                self.where = f"writing {save}; open it with: rerun {save}"
            else:
                url = self._recording.serve_grpc(
                    grpc_port=port + 1, default_blueprint=layout, server_memory_limit=_MEMORY
                )
                rerun.serve_web_viewer(web_port=port, open_browser=False, connect_to=url)
                self.where = f"open http://localhost:{port}/?url={url} in a browser"
        except (OSError, RuntimeError, ValueError) as error:
            raise ViewerError(f"cannot open the recording: {error}") from error
        axes = rerun.ViewCoordinates.RDF  # x right, y down, z forward: REP-103's optical frame
        self._recording.log(_CAMERA, axes, static=True)

    def camera(self, message: CameraInfo) -> None:
        """Write the calibration of a rectified image."""
        try:
            found = camera(message, rectified=True)
        except (CameraInfoError, FrameError):
            return
        self._at(message.header.stamp)
        self._log(
            _IMAGE,
            self._rerun.Pinhole(
                image_from_camera=found.matrix,
                width=found.width,
                height=found.height,
                image_plane_distance=0.3,
            ),
        )

    def colour(self, message: Image) -> None:
        """Write a colour image; ignore unreadable ones."""
        self._picture(f"{_IMAGE}/colour", message)

    def overlay(self, message: Image) -> None:
        """Write the overlay of the node."""
        self._picture(_OVERLAY, message)

    def depth(self, message: Image) -> None:
        """Write a depth image; ignore unreadable ones."""
        try:
            metres = image_messages.depth_m(message, decoder=CV_BRIDGE)
        except image_messages.ImageError:
            return
        self._at(message.header.stamp)
        millimetres = np.nan_to_num(1e3 * metres, posinf=0.0, neginf=0.0).clip(0, 65535)
        image = self._rerun.DepthImage(millimetres.astype(np.uint16), meter=1000.0)
        self._log(f"{_IMAGE}/depth", image)

    def objects(self, message: ObjectEstimateArray) -> None:
        """Write the objects of a frame; objects of earlier frames disappear."""
        self._at(message.header.stamp)
        present = {estimate.id: estimate for estimate in message.estimates}
        for id in self._shown - set(present):
            self._log(f"{_OBJECTS}/{id}", self._rerun.Clear(recursive=True))
        for id, estimate in present.items():
            self._object(id, estimate)
        self._shown = set(present)

    def mesh(self, message: ObjectMesh) -> None:
        """Write an object's surface, which stays until the next version."""
        vertices = np.array([(p.x, p.y, p.z) for p in message.mesh.vertices], np.float32)
        faces = np.array([t.vertex_indices for t in message.mesh.triangles], np.uint32)
        tint = [round(255 * c) for c in colour(message.id)]
        surface = self._rerun.Mesh3D(
            vertex_positions=vertices.reshape(-1, 3),
            triangle_indices=faces.reshape(-1, 3),
            vertex_normals=_normals(vertices.reshape(-1, 3), faces.reshape(-1, 3)),
            albedo_factor=[*tint, 255],
        )
        self._log(f"{_OBJECTS}/{message.id}/surface", surface)

    def close(self) -> None:
        """Flush and close the recording."""
        self._recording.flush()
        self._recording.disconnect()

    def _picture(self, path: str, message: Image) -> None:
        try:
            pixels = image_messages.colour(message, CV_BRIDGE)
        except image_messages.ImageError:
            return
        self._at(message.header.stamp)
        self._log(path, self._rerun.Image(pixels).compress(jpeg_quality=_QUALITY))

    def _object(self, id: str, estimate: ObjectEstimate) -> None:
        q, p = estimate.pose.pose.orientation, estimate.pose.pose.position
        pose = self._rerun.Transform3D(
            translation=(p.x, p.y, p.z),
            quaternion=self._rerun.Quaternion(xyzw=(q.x, q.y, q.z, q.w)),
        )
        self._log(f"{_OBJECTS}/{id}", pose)
        verdict = "certified" if estimate.certified else estimate.reason
        tint = [round(255 * c) for c in colour(id)] if estimate.certified else _UNCERTIFIED
        origin = self._rerun.Points3D(
            [(0.0, 0.0, 0.0)],
            radii=0.003,
            colors=[tint],
            labels=[f"{id}: {verdict}"],
            show_labels=True,
        )
        self._log(f"{_OBJECTS}/{id}/name", origin)
        if np.isfinite(estimate.certificate_residual):
            scalar = self._rerun.Scalars(1e3 * estimate.certificate_residual)
            self._log(f"residual/{id}", scalar)

    def _at(self, stamp: TimeMessage) -> None:
        self._recording.set_time("stamp", timestamp=stamp.sec + 1e-9 * stamp.nanosec)

    def _log(self, path: str, what: object) -> None:
        self._recording.log(path, what)


def _rerun() -> ModuleType:
    try:
        import rerun
    except ImportError as error:
        raise ViewerError(f"{error}: pip install 'crisp_ros[view]'") from error
    return rerun


def _layout(rerun: ModuleType) -> object:
    """Arrange the scene next to the overlay, with the residuals below."""
    blueprint = rerun.blueprint
    return blueprint.Blueprint(
        blueprint.Vertical(
            blueprint.Horizontal(
                blueprint.Spatial3DView(
                    origin=_CAMERA,
                    name="scene",
                    # To the right, above and behind the camera, with its viewing direction.
                    eye_controls=blueprint.EyeControls3D(
                        position=(0.35, -0.45, -0.1),
                        look_target=(0.0, 0.05, 0.8),
                        eye_up=(0, -1, 0),
                    ),
                ),
                blueprint.Spatial2DView(origin=_OVERLAY, name="overlay"),
            ),
            blueprint.TimeSeriesView(origin="residual", name="residual, mm"),
            row_shares=[3, 1],
        ),
        collapse_panels=True,
    )


def _normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Compute unit normals (V, 3) of a mesh: means of the faces' normals, weighted by area."""
    corners = vertices[faces]
    across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.zeros_like(vertices)
    for i in range(3):
        np.add.at(normals, faces[:, i], across)
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
