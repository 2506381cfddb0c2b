"""The services of the node over real DDS, with valid and invalid requests."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import trimesh
from crisp_ros.srv import DumpFrame, EstimateObjects, ExportMeshes, HoldObjects, SaveCheckpoint
from lifecycle_msgs.msg import Transition
from node.fakes import HALF_EDGES
from node.peer import CAMERA_FRAME, FAKE_NODE, Peer, Scene, graph
from rclpy.node import Node
from rclpy.parameter import Parameter
from ros_graph import isolated_node, spin_until
from std_srvs.srv import SetBool, Trigger

from crisp_ros.node.node_state import NodeState
from crisp_ros.node.parameters.node_parameters import Parameters
from crisp_ros.node.self_training import SelfTraining
from crisp_ros.node.services.estimate_requests import EstimateRequests
from crisp_ros.node.services.node_services import NodeServices, ServiceBackend
from crisp_ros.node.services.service_futures import ServiceFutures
from crisp_ros.pipeline.frame_dump import read_frame_dump


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("outputs")


@pytest.fixture(scope="module")
def running(folder: Path) -> Iterator[tuple[Peer, subprocess.Popen[bytes]]]:
    arguments = ["--ros-args", "-p", "label_names:=1=mug", "-p", f"output_directory:={folder}"]
    with graph(FAKE_NODE, arguments) as (peer, process):
        yield peer, process
        assert process.poll() is None, "the node did not survive"


@pytest.fixture
def peer(running: tuple[Peer, subprocess.Popen[bytes]]) -> Peer:
    peer, process = running
    assert process.poll() is None, "the node did not survive"
    if peer.state() != "active":
        peer.activate()
    return peer


def call(peer: Peer, kind: type, name: str, **fields):
    """Call a service of the node."""
    client = peer.node.create_client(kind, f"/crisp/{name}")
    try:
        return peer.call(client, kind.Request(**fields))
    finally:
        peer.node.destroy_client(client)


def call_later(peer: Peer, kind: type, name: str, **fields):
    """Call a service whose response needs a frame."""
    client = peer.node.create_client(kind, f"/crisp/{name}")
    peer.wait(client.service_is_ready)
    return client.call_async(kind.Request(**fields))


BY_WORKER = [
    (Trigger, "reset", {}),
    (EstimateObjects, "estimate", {}),
    (ExportMeshes, "export_meshes", {}),
    (DumpFrame, "dump_frame", {}),
    (SaveCheckpoint, "save_checkpoint", {}),
    (Trigger, "rollback", {}),
]


def test_services_of_an_inactive_node_are_refused(running) -> None:
    peer, _ = running
    for kind, name, fields in BY_WORKER:
        answer = call(peer, kind, name, **fields)
        assert not answer.success and answer.message.endswith("activate it first"), name
    for kind, name, fields in (
        (HoldObjects, "hold", {"ids": ["mug_1"], "hold": True}),
        (SetBool, "enable", {"data": False}),
    ):
        answer = call(peer, kind, name, **fields)
        assert not answer.success and "unconfigured" in answer.message, name


def test_before_the_first_frame_there_is_nothing_to_write(peer: Peer) -> None:
    for kind, name in ((DumpFrame, "dump_frame"), (ExportMeshes, "export_meshes")):
        answer = call(peer, kind, name)
        assert not answer.success and "no frame was estimated yet" in answer.message


def test_estimate_answers_while_the_stream_is_disabled(peer: Peer) -> None:
    assert call(peer, SetBool, "enable", data=False).success
    header = peer.send(Scene())
    assert not spin_until(
        peer.node, lambda: any(m.header == header for m in peer.received["objects"]), 0.5
    )
    future = call_later(peer, EstimateObjects, "estimate", timeout=20.0, with_meshes=True)
    scene = Scene({1: (20, 30, 60, 70, 0.5)})
    sent = []

    def answered() -> bool:
        # The request and the images are on their way at the same time.
        sent.append(peer.send(scene))
        spin_until(peer.node, future.done, 0.3)
        return future.done()

    peer.wait(answered)
    answer = future.result()
    assert answer.success and answer.message == "1 objects", answer.message
    assert answer.objects.header in sent and answer.objects.header.frame_id == CAMERA_FRAME
    (found,) = (o for o in answer.objects.estimates if o.label == 1)
    p = found.pose.pose.position
    np.testing.assert_allclose((p.x, p.y, p.z), scene.centre(1), atol=1e-5)
    mesh = {m.id: m.mesh for m in answer.meshes}[found.id]
    vertices = np.array([(v.x, v.y, v.z) for v in mesh.vertices])
    np.testing.assert_allclose(vertices.max(0), HALF_EDGES, atol=1e-6)
    assert call(peer, SetBool, "enable", data=True).success
    peer.answer(Scene())


def test_estimate_reports_why_there_is_none(peer: Peer) -> None:
    start = time.monotonic()
    answer = call(peer, EstimateObjects, "estimate", timeout=0.3)
    assert not answer.success and "no frame was estimated within 0.3 s" in answer.message
    assert 0.2 < time.monotonic() - start < 10
    for timeout in (-1.0, float("nan"), float("inf"), 1e6):
        answer = call(peer, EstimateObjects, "estimate", timeout=timeout)
        assert not answer.success and "timeout" in answer.message
    for spoil, seconds, words in (
        (lambda scene: setattr(scene.rgb, "encoding", "yuv444"), 1.5, "rgb: colour encoding 'yuv"),
        (lambda scene: scene.rgb.data.__setitem__(2, 1), 30.0, "the fake fails when asked to"),
    ):
        future = call_later(peer, EstimateObjects, "estimate", timeout=seconds)
        bad = Scene()
        spoil(bad)

        def answered(future=future, bad=bad) -> bool:
            peer.send(bad)
            spin_until(peer.node, future.done, 0.3)
            return future.done()

        peer.wait(answered)
        assert not future.result().success and words in future.result().message
    assert len(peer.answer(Scene()).estimates) >= 2


def backend() -> ServiceBackend:
    """Backend of an active node without frames."""
    return ServiceBackend(
        state=NodeState(label="active"),
        parameters=Parameters,
        input_problem=lambda: "",
        run_in_worker=lambda task: task(),
        latest_frame=lambda: None,
        surfaces=lambda frame: [],
        reset=lambda: None,
        hold=lambda ids, hold: [],
        self_training=SelfTraining(),
    )


def test_estimate_times_out_while_simulated_time_is_paused() -> None:
    with isolated_node() as helper:
        override = Parameter("use_sim_time", value=True)
        node = Node("crisp", context=helper.context, parameter_overrides=[override])
        futures = ServiceFutures(node)
        NodeServices(node, futures, EstimateRequests(futures), backend())
        client = node.create_client(EstimateObjects, "/crisp/estimate")
        assert spin_until(node, client.service_is_ready)
        future = client.call_async(EstimateObjects.Request(timeout=0.1))
        assert spin_until(node, future.done)
        assert future.result().message.startswith("no frame was estimated within 0.1 s")
        node.destroy_node()


def test_pending_calls_end_with_the_deactivation(peer: Peer) -> None:
    future = call_later(peer, EstimateObjects, "estimate", timeout=100.0)
    spin_until(peer.node, lambda: False, 0.5)
    assert peer.transition(Transition.TRANSITION_DEACTIVATE)
    peer.wait(future.done)
    assert not future.result().success and "deactivated" in future.result().message
    assert peer.transition(Transition.TRANSITION_ACTIVATE)
    peer.wait(peer.is_heard)


def test_reset_removes_the_objects(peer: Peer) -> None:
    before = {o.id for o in peer.answer(Scene()).estimates}
    assert call(peer, Trigger, "reset").success
    for kind, name in ((DumpFrame, "dump_frame"), (ExportMeshes, "export_meshes")):
        answer = call(peer, kind, name)
        assert not answer.success and "no frame was estimated yet" in answer.message
    after = {o.id for o in peer.answer(Scene()).estimates}
    assert after and not before & after


@pytest.mark.parametrize("format", ["ply", "obj", "stl"])
def test_export_meshes(peer: Peer, folder: Path, format: str) -> None:
    scene = Scene({1: (20, 30, 60, 70, 0.5), 101: (90, 40, 130, 100, 0.8)})
    call(peer, Trigger, "reset")
    estimates = {o.label: o for o in peer.answer(scene).estimates}
    answer = call(peer, ExportMeshes, "export_meshes", directory=f"all/{format}", format=format)
    assert answer.success, answer.message
    files = [Path(f) for f in answer.files]
    assert len(files) == 4 and {f.parent for f in files} == {folder / "all" / format}
    for o in estimates.values():
        path = folder / "all" / format / f"{o.id}.{format}"
        mesh = trimesh.load(path, force="mesh")
        assert mesh.is_watertight and mesh.volume > 0
        np.testing.assert_allclose(mesh.extents, 2 * HALF_EDGES, atol=1e-6)
        description = json.loads(path.with_suffix(".json").read_text())
        assert description["mesh"] == path.name and description["frame_id"] == CAMERA_FRAME
        position = np.array(description["T_frame_object"])[:3, 3]
        np.testing.assert_allclose(position, scene.centre(o.label), atol=1e-5)
        np.testing.assert_allclose(description["size_m"], 2 * HALF_EDGES, atol=1e-6)
        assert description["scale"] == 1.0 and description["certified"] == (o.label == 1)
    assert not [p for p in (folder / "all" / format).iterdir() if p not in files]


def test_export_of_named_objects_and_of_none(peer: Peer, folder: Path) -> None:
    first = peer.answer(Scene()).estimates[0].id
    answer = call(peer, ExportMeshes, "export_meshes", ids=[first])
    assert answer.success and len(answer.files) == 2
    assert Path(answer.files[0]).name == f"{first}.ply"
    assert Path(answer.files[0]).parent.name.startswith("meshes_")
    answer = call(peer, ExportMeshes, "export_meshes", ids=["nobody"])
    assert not answer.success and "no object nobody; in view: " in answer.message
    answer = call(peer, ExportMeshes, "export_meshes", format="fbx")
    assert not answer.success and "ply, obj, stl" in answer.message


BAD_PATHS = [
    ("../above", "leads out of"),
    ("a/../../above", "leads out of"),
    (".", "leads out of"),
    ("/proc/nowhere/frame", "No such file"),
    ("a\nb", "control characters"),
    ("~nobody-of-this-name/a", "home"),
    ("frame.npz", "ends in .safetensors"),
    ("taken.safetensors", "is a folder"),
]


@pytest.mark.parametrize(("path", "words"), BAD_PATHS, ids=[p for p, _ in BAD_PATHS])
def test_bad_paths_are_refused_with_the_reason(peer, folder: Path, path: str, words: str) -> None:
    (folder / "taken.safetensors").mkdir(exist_ok=True)
    peer.answer(Scene())
    answer = call(peer, DumpFrame, "dump_frame", path=path)
    assert not answer.success and words in answer.message, answer.message
    assert answer.path == ""


def test_errors_of_the_file_system_are_reported(peer: Peer, folder: Path) -> None:
    peer.answer(Scene())
    (folder / "file").write_text("not a folder")
    for request in (
        (DumpFrame, "dump_frame", {"path": str(folder / "file" / "frame")}),
        (ExportMeshes, "export_meshes", {"directory": str(folder / "file")}),
        (ExportMeshes, "export_meshes", {"directory": str(folder / "file" / "below")}),
    ):
        answer = call(peer, request[0], request[1], **request[2])
        assert not answer.success and "file" in answer.message
    assert call(peer, DumpFrame, "dump_frame").success


def test_dump_frame_holds_what_was_estimated(peer: Peer, folder: Path) -> None:
    scene = Scene()
    answered = peer.answer(scene)
    answer = call(peer, DumpFrame, "dump_frame", path="kept/frame")
    assert answer.success and answer.path == str(folder / "kept" / "frame.safetensors")
    dump = read_frame_dump(Path(answer.path))
    np.testing.assert_array_equal(dump.frame.depth, scene.depth_m)
    assert [o.label for o in dump.estimate.objects] == [1, 2]
    assert dump.context["frame_id"] == CAMERA_FRAME
    assert dump.context["parameters"]["label_names"] == "1=mug"
    assert [o["id"] for o in dump.context["published"]] == [o.id for o in answered.estimates]
    stamp = answered.header.stamp
    assert dump.context["stamp"] == f"{stamp.sec}.{stamp.nanosec:09d}"
    named = call(peer, DumpFrame, "dump_frame")
    assert Path(named.path) == folder / f"frame_{stamp.sec}_{stamp.nanosec:09d}.safetensors"


def test_self_training_services_are_refused_while_it_is_off(peer: Peer) -> None:
    for kind, name in ((SaveCheckpoint, "save_checkpoint"), (Trigger, "rollback")):
        answer = call(peer, kind, name)
        assert not answer.success and answer.message.startswith("self-training is off")


def test_hold(peer: Peer) -> None:
    assert call(peer, HoldObjects, "hold", ids=["a", "b"], hold=True).held == ["a", "b"]
    assert call(peer, HoldObjects, "hold", ids=["a"], hold=False).held == ["b"]
    answer = call(peer, HoldObjects, "hold", hold=True)
    assert not answer.success and "no ids" in answer.message
    assert call(peer, HoldObjects, "hold", hold=False).held == []


def test_pending_calls_do_not_block_frames_or_services(peer: Peer) -> None:
    """All other services respond while calls of ~/estimate wait for a frame."""
    futures = [call_later(peer, EstimateObjects, "estimate", timeout=3.0) for _ in range(5)]
    assert call(peer, SetBool, "enable", data=True).success
    assert peer.set_parameters(publish_uncertified_tf=False) == []
    peer.wait(lambda: all(f.done() for f in futures))
    assert len(peer.answer(Scene()).estimates) >= 2
