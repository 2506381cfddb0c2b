"""An object that no library has, over real DDS: the prior next to the shipped library."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

import numpy as np
from crisp_ros.srv import DumpFrame
from node.peer import CAMERA_FRAME, Peer, Scene, graph, image
from sensor_msgs.msg import CameraInfo

from crisp_ros.cli.main import main
from crisp_ros.data.recording import Recording
from crisp_ros.observation.frame import Camera, Frame
from crisp_ros.pipeline.frame_dump import read_frame_dump
from crisp_ros.share import share_directory

LABEL = 4  # of the canister
FRAME = 4  # of the recording: nothing is in front of the canister
ARGUMENTS = [
    *("--ros-args", "-p", "threads:=1", "-p", "shape_tables:=false"),
    *("-p", "precision:=float32"),
]


STEP = 3  # every third pixel: large images are lost on a loaded machine


class RecordedScene(Scene):
    """One object of a recorded frame, at a lower resolution."""

    def __init__(self, frame: Frame, label: int) -> None:
        self.frame_id = CAMERA_FRAME
        rgb, depth, labels = (x[::STEP, ::STEP] for x in (frame.rgb, frame.depth, frame.labels))
        self.rgb = image(np.ascontiguousarray(rgb), "rgb8")
        self.depth = image(np.ascontiguousarray(depth), "32FC1")
        self.labels = image(np.where(labels == label, label, 0).astype(np.int32), "32SC1")
        c, (height, width) = frame.camera, depth.shape
        focal, centre = (c.fx / STEP, c.fy / STEP), (c.cx / STEP, c.cy / STEP)
        self._camera = Camera(*focal, *centre, width, height)

    def camera_info(self) -> CameraInfo:
        """The calibration."""
        c = self._camera
        k = [c.fx, 0.0, c.cx, 0.0, c.fy, c.cy, 0.0, 0.0, 1.0]
        p = [c.fx, 0.0, c.cx, 0.0, 0.0, c.fy, c.cy, 0.0, 0.0, 0.0, 1.0, 0.0]
        return CameraInfo(width=c.width, height=c.height, k=k, p=p)


def test_an_unknown_object_has_pose_mesh_and_dump(tmp_path: Path, capsys) -> None:
    frames = Recording(share_directory() / "recordings" / "unseen").frames()
    recorded = next(islice(frames, FRAME, None))
    scene = RecordedScene(Frame.from_recorded(recorded), LABEL)
    with graph(None, ARGUMENTS) as (peer, _):
        peer.activate()
        peer.listen_to_shapes()
        (waiting,) = peer.answer(scene).estimates
        assert waiting.label == LABEL and waiting.shape_source == "observed"
        assert not waiting.certified
        header, found = _first_certified(peer, scene)
        assert found.id == waiting.id and found.shape_source == "prior"
        values = {v.key: v.value for v in peer.diagnosis("searches", "1 shapes searched").values}
        assert values["waiting"] == "0" and float(values["duration of the last one (s)"]) > 0.0
        client = peer.node.create_client(DumpFrame, "/crisp/dump_frame")
        dumped = peer.call(client, DumpFrame.Request(path=str(tmp_path / "frame")))
        assert dumped.success, dumped.message
        position = found.pose.pose.position
        peer.wait(lambda: _transform(peer, header, found.child_frame_id) is not None)
        moved = _transform(peer, header, found.child_frame_id).translation
        assert (moved.x, moved.y, moved.z) == (position.x, position.y, position.z)
        peer.wait(lambda: _meshes(peer, found))
        (mesh,) = _meshes(peer, found)
        vertices = np.array([[p.x, p.y, p.z] for p in mesh.mesh.vertices])
        size = found.size
        assert np.allclose(np.ptp(vertices, axis=0), (size.x, size.y, size.z), atol=0.01)
        # The object is known from now on: shape and mesh stay.
        (again,) = peer.answer(scene).estimates
        assert again.id == found.id and again.mesh_version == found.mesh_version
        assert again.certified and again.shape_source == "prior"
    # The last frame has followed a shape that an earlier one has shown: the file has that shape.
    (kept,) = read_frame_dump(Path(dumped.path)).estimate.objects
    assert kept.of_prior_model and kept.certified
    report = tmp_path / "replay.json"
    assert main(["replay", dumped.path, "--json", str(report)]) == 0
    (repeated,) = json.loads(report.read_text())["objects"]
    assert repeated["metres"] == 0.0 and repeated["radians"] == 0.0
    assert main(["replay", dumped.path, "--prior-checkpoint", "none"]) == 1
    assert "the prior for unknown objects is none" in capsys.readouterr().err


def _first_certified(peer: Peer, scene: Scene):
    """The header and the object of the first frame that the search's answer reaches."""
    found = []

    def is_certified() -> bool:
        header = peer.send(scene)
        found[:] = [header, *peer.answer_to(header).estimates]
        return found[1].certified

    peer.wait(is_certified)
    return found


def _transform(peer: Peer, header, frame_id: str):
    """The transform of an object in a frame, once it was received."""
    for message in list(peer.received["tf"]):
        for t in message.transforms:
            if t.child_frame_id == frame_id and t.header == header:
                return t.transform
    return None


def _meshes(peer: Peer, estimate) -> list:
    """The meshes of an object's shape that were received; before it, that of its hull was."""
    version = estimate.mesh_version
    return [m for m in peer.received["meshes"] if m.id == estimate.id and m.mesh_version == version]
