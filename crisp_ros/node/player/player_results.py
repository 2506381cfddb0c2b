"""Files that `crisp_player` writes to a folder, each as soon as its content arrives.

    results.jsonl         one JSON object per line: state, mesh, frame, left_out, end or error
    meshes/ID_V.npz       version V of an object's surface: vertices (V, 3), faces (F, 3)
    overlays/IIII.jpg     overlay of frame I

`crisp_ros.evaluation.recording_score.frame_score` reads an entry of kind frame.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from cv_bridge import CvBridge
from sensor_msgs.msg import Image

from crisp_ros.data.recorded_frame import RecordedFrame
from crisp_ros.msg import ObjectEstimate, ObjectEstimateArray, ObjectMesh
from crisp_ros.node.outputs.message_conversion import NOT_SEEN
from crisp_ros.node.pose_conversion import pose_matrix

_BRIDGE = CvBridge()
_JPEG_QUALITY = 88


class Results:
    """Writer of the folder; a line of results.jsonl follows the files that it names."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        for name in ("meshes", "overlays"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        self._file = (folder / "results.jsonl").open("a", buffering=1)

    def state(self, text: str) -> None:
        """Record what the player does or waits for."""
        self._note({"kind": "state", "text": text})

    def left_out(self, count: int, text: str) -> None:
        """Record what could not be played."""
        self._note({"kind": "left_out", "count": count, "text": text})

    def end(self, answered: int) -> None:
        """Record the end, with the number of frames that have an estimate."""
        self._note({"kind": "end", "answered": answered})

    def error(self, text: str) -> None:
        """Record the error that ends the results."""
        self._note({"kind": "error", "text": text})

    def mesh(self, message: ObjectMesh) -> None:
        """Write a version of an object's surface."""
        vertices = np.array([(p.x, p.y, p.z) for p in message.mesh.vertices], np.float32)
        faces = np.array([t.vertex_indices for t in message.mesh.triangles], np.int32)
        name = f"meshes/{message.id}_{message.mesh_version}.npz"
        np.savez(self._folder / name, vertices=vertices.reshape(-1, 3), faces=faces.reshape(-1, 3))
        version = int(message.mesh_version)
        self._note({"kind": "mesh", "id": message.id, "mesh_version": version, "file": name})

    def frame(
        self,
        index: int,
        frame: RecordedFrame,
        answer: ObjectEstimateArray | None,
        round_trip_ms: float,
        overlay: Image | None,
    ) -> None:
        """Write the estimates of the objects that a frame shows, and the ground truth.

        Args:
            index: of the frame.
            frame: as it was sent.
            answer: its estimates, None if they did not arrive in time.
            round_trip_ms: from sending the images to receiving the estimates, NaN for none.
            overlay: the image with the estimates drawn into it, or None.
        """
        entry: dict[str, Any] = {
            "kind": "frame",
            "index": index,
            "stamp_ns": frame.stamp_ns,
            "round_trip_ms": _number(round_trip_ms),
            "model_version": "" if answer is None else answer.model_version,
            "stage_ms": {},
            "estimates": [],
            "truth": [
                {
                    "label": true.label,
                    "name": true.name,
                    "visible_share": _number(true.visible_share),
                    "T_camera_object": true.T_camera_object.tolist(),
                }
                for true in frame.truth
            ],
            "T_world_camera": (
                None if frame.T_world_camera is None else frame.T_world_camera.tolist()
            ),
            "overlay": None,
        }
        if answer is not None:
            milliseconds = map(float, answer.stage_ms)
            entry["stage_ms"] = dict(zip(answer.stage_names, milliseconds, strict=True))
            entry["estimates"] = [_estimate(e) for e in answer.estimates if e.label != NOT_SEEN]
        if overlay is not None:
            entry["overlay"] = f"overlays/{index:04d}.jpg"
            bgr = _BRIDGE.imgmsg_to_cv2(overlay, "bgr8")
            path = str(self._folder / entry["overlay"])
            cv2.imwrite(path, bgr, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
        self._note(entry)

    def _note(self, entry: dict[str, Any]) -> None:
        self._file.write(json.dumps(entry, allow_nan=False) + "\n")


def _estimate(message: ObjectEstimate) -> dict[str, Any]:
    pose = message.pose.pose
    return {
        "id": message.id,
        "label": int(message.label),
        "class_name": message.class_name,
        "T_camera_object": pose_matrix(pose.position, pose.orientation).tolist(),
        "score": _number(message.score),
        "certified": bool(message.certified),
        "residual": _number(message.certificate_residual),
        "reason": message.reason,
        "shape_source": message.shape_source,
        "mesh_version": int(message.mesh_version),
    }


def _number(value: float) -> float | None:
    """Convert to JSON, which has no NaN."""
    return float(value) if math.isfinite(value) else None
