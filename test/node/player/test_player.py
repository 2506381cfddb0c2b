"""The player and the node, two processes over real DDS: frames are sent, estimated and recorded."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import rclpy
from crisp_ros.msg import ObjectEstimateArray
from geometry_msgs.msg import TransformStamped
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from node.fakes import HALF_EDGES
from node.peer import FAKE_NODE, PATIENCE_S, image, node_process
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.executors import MultiThreadedExecutor
from rclpy.node import Node
from ros_graph import free_domain, isolated_node, spin_until
from std_srvs.srv import SetBool
from tf2_msgs.msg import TFMessage

from crisp_ros.data.recorded_frame import RecordedFrame, TrueObject
from crisp_ros.data.recording_writer import write_recording
from crisp_ros.node.player import player_node
from crisp_ros.node.player.player_node import Player

HEIGHT, WIDTH = 120, 160
K = np.array([[150.0, 0, 80.5], [0, 150.0, 60.25], [0, 0, 1]])
INTERVAL_NS = 200_000_000
SOON_NS = 5_000_000_000  # after which a message has come, on a loaded machine
STAGES = {"convert", "network", "fits", "tracking"}


def pose(z: float) -> np.ndarray:
    T = np.eye(4)
    T[2, 3] = z
    return T


def frame(index: int) -> RecordedFrame:
    """A rectangle that moves to the right, 0.5 m away, in front of a wall."""
    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    labels[40:80, 20 + 5 * index : 60 + 5 * index] = 7
    return RecordedFrame(
        stamp_ns=1_000_000_000 + index * INTERVAL_NS,
        frame_id="camera_optical",
        rgb=np.full((HEIGHT, WIDTH, 3), 90, np.uint8),
        depth=np.where(labels > 0, 500, 1500).astype(np.uint16),
        labels=labels,
        intrinsics=K,
        label_names={7: "mug"},
        truth=(TrueObject(7, "mug", pose(0.5 + index), 0.8),),
        T_world_camera=pose(-1.0 - index),
    )


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("player") / "bag"
    write_recording(folder, (frame(i) for i in range(4)))
    return folder


def player(domain: int, *parameters: str, **options: Any) -> subprocess.Popen:
    environment = {
        **os.environ, "ROS_DOMAIN_ID": str(domain), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    arguments = [part for parameter in parameters for part in ("-p", parameter)]
    command = [sys.executable, "-m", "crisp_ros.node.player.player_node", "--ros-args", *arguments]
    return subprocess.Popen(command, env=environment, **options)


@pytest.fixture(scope="module")
def listener() -> Iterator[Node]:
    """A node of this process in a domain where the node under test runs."""
    with isolated_node("listener") as node:
        with node_process(node.context.get_domain_id(), FAKE_NODE):
            yield node


@pytest.fixture(scope="module")
def results(listener: Node, recording: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the results of a whole recording."""
    folder = tmp_path_factory.mktemp("results")
    process = player(
        listener.context.get_domain_id(), f"recording:={recording}", f"results:={folder}",
        "bring_up:=true",
    )  # fmt: skip
    assert process.wait(3 * PATIENCE_S) == 0
    return folder


def notes(results: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (results / "results.jsonl").read_text().splitlines()]


def states(results: Path) -> list[str]:
    """States that the player reports."""
    if not (results / "results.jsonl").exists():
        return []
    return [note["text"] for note in notes(results) if note["kind"] == "state"]


@pytest.mark.parametrize("recorded", [False, True])
def test_masks_are_kept_only_for_results(recorded: bool, tmp_path: Path) -> None:
    """A loop without results would otherwise collect a label image in each frame."""
    folder = f"results:='{tmp_path if recorded else ''}'"
    arguments = ["--ros-args", "-p", "segmented:=true", "-p", folder]
    rclpy.init(args=arguments, domain_id=free_domain())
    try:
        node = Player()
        topics = [subscription.topic_name for subscription in node.subscriptions]
        node.destroy_node()
    finally:
        rclpy.shutdown()
    assert ("/crisp/objects" in topics, topics.count("/segmentation") == 1) == (True, recorded)


def test_late_masks_are_waited_for_and_lost_ones_name_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without masks, the labels of a segmenter would be taken for those of true objects."""
    monkeypatch.setattr(player_node, "_IMAGE_TIMEOUT_S", 0.3)
    arguments = ["--ros-args", "-p", "segmented:=true", "-p", f"results:='{tmp_path}'"]
    rclpy.init(args=arguments, domain_id=free_domain())
    try:
        node = Player()
        frame = SimpleNamespace(stamp_ns=7 * 10**9, labels=np.full((2, 3), 5, np.int32))
        message = image(np.full((2, 3), 9, np.uint8), "mono8")
        message.header.stamp.sec = 7
        assert node._masks_of(0, frame).tolist() == [[0, 0, 0], [0, 0, 0]]
        node.create_timer(0.05, lambda: node._mask_received(message))
        assert node._masks_of(0, frame).tolist() == [[9, 9, 9], [9, 9, 9]]
        node.destroy_node()
    finally:
        rclpy.shutdown()


def test_every_frame_is_estimated_in_order(results: Path) -> None:
    found = notes(results)
    frames = [note for note in found if note["kind"] == "frame"]
    assert [note["index"] for note in frames] == [0, 1, 2, 3]
    assert np.diff([note["stamp_ns"] for note in frames]).tolist() == [INTERVAL_NS] * 3
    assert found[-1] == {"kind": "end", "answered": 4}
    assert states(results)[-1] == "playing"
    for note in frames:
        (estimate,) = note["estimates"]
        assert (estimate["id"], estimate["class_name"]) == ("mug_1", "mug")
        # The fake puts objects at the mean of their points.
        u, v = 39.5 + 5 * note["index"], 59.5
        expected = [(u - K[0, 2]) / 150 * 0.5, (v - K[1, 2]) / 150 * 0.5, 0.5]
        np.testing.assert_allclose(
            np.array(estimate["T_camera_object"])[:3, 3], expected, atol=1e-6
        )
        assert note["model_version"] == "fake-1" and set(note["stage_ms"]) == STAGES
        assert note["round_trip_ms"] >= sum(note["stage_ms"].values())


def test_ground_truth_is_recorded_with_the_estimates(results: Path) -> None:
    for note in notes(results):
        if note["kind"] == "frame":
            (true,) = note["truth"]
            assert (true["label"], true["name"], true["visible_share"]) == (7, "mug", 0.8)
            np.testing.assert_allclose(true["T_camera_object"], pose(0.5 + note["index"]))
            np.testing.assert_allclose(note["T_world_camera"], pose(-1.0 - note["index"]))


def test_surfaces_and_overlays_are_written(results: Path) -> None:
    found = notes(results)
    meshes = {(n["id"], n["mesh_version"]): n["file"] for n in found if n["kind"] == "mesh"}
    frames = [note for note in found if note["kind"] == "frame"]
    used = {(e["id"], e["mesh_version"]) for note in frames for e in note["estimates"]}
    assert used <= set(meshes)
    with np.load(results / meshes.popitem()[1]) as arrays:
        np.testing.assert_allclose(arrays["vertices"].max(0), HALF_EDGES, atol=1e-6)
        assert arrays["faces"].shape == (12, 3)
    for note in frames:
        image = cv2.imread(str(results / note["overlay"]))
        assert image.shape == (HEIGHT, WIDTH, 3)
        green = (image[..., 1] > 150) & (image[..., 0] < 120)
        assert green.any()  # the outline of a certified object


def test_a_loop_repeats_the_motion_at_later_times(
    listener: Node, results: Path, recording: Path
) -> None:
    cameras: list[TransformStamped] = []
    arrivals: list[int] = []

    def heard(message: TFMessage) -> None:
        found = [t for t in message.transforms if t.child_frame_id == "camera_optical"]
        cameras.extend(found)
        arrivals.extend([time.time_ns()] * len(found))

    subscription = listener.create_subscription(TFMessage, "/tf", heard, 100)
    domain = listener.context.get_domain_id()
    process = player(domain, f"recording:={recording}", "loop:=true", "rate:=20.0")
    assert spin_until(listener, lambda: len(cameras) > 8, 3 * PATIENCE_S)
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE_S) == 0
    listener.destroy_subscription(subscription)
    places = [round(-1 - t.transform.translation.z) for t in cameras]
    assert {(later - place) % 4 for place, later in itertools.pairwise(places)} == {1}
    stamps = [t.header.stamp.sec * 10**9 + t.header.stamp.nanosec for t in cameras]
    assert min(np.diff(stamps)) >= INTERVAL_NS  # later where the node is slow
    assert all(0 <= now - stamp < SOON_NS for now, stamp in zip(arrivals, stamps, strict=True))
    assert {t.header.frame_id for t in cameras} == {"table"}


def test_a_loop_continues_after_frames_that_the_node_drops(
    listener: Node, results: Path, recording: Path
) -> None:
    answers: list[ObjectEstimateArray] = []
    subscription = listener.create_subscription(
        ObjectEstimateArray, "/crisp/objects", answers.append, 10
    )
    enable = listener.create_client(SetBool, "/crisp/enable")
    domain = listener.context.get_domain_id()
    process = player(domain, f"recording:={recording}", "loop:=true")

    def switch(on: bool) -> None:
        switched = enable.call_async(SetBool.Request(data=on))
        assert spin_until(listener, switched.done, PATIENCE_S)

    assert spin_until(listener, lambda: len(answers) > 2, 3 * PATIENCE_S)
    switch(False)
    spin_until(listener, lambda: False, 1.0)  # what was under way is answered
    answers.clear()
    switch(True)
    assert spin_until(listener, lambda: answers, PATIENCE_S)
    process.kill()
    process.wait()
    listener.destroy_subscription(subscription)


def test_errors_are_reported_in_one_line(recording: Path, tmp_path: Path) -> None:
    domain = free_domain()
    running = {
        "waited 0.5 s for the node /crisp": player(
            domain, f"recording:={recording}", "bring_up:=true", "timeout:=0.5",
            f"results:={tmp_path}", stderr=subprocess.PIPE, text=True,
        ),
        "name what to play": player(domain, stderr=subprocess.PIPE, text=True),
    }  # fmt: skip
    for complaint, process in running.items():
        error = process.communicate(timeout=3 * PATIENCE_S)[1]
        lines = [line for line in error.splitlines() if not line.startswith("[")]
        assert process.returncode == 1 and len(lines) == 1 and complaint in lines[0]
    last = notes(tmp_path)[-1]
    assert last["kind"] == "error" and "the node /crisp" in last["text"]


def test_a_lost_response_to_a_transition_is_no_error(recording: Path, tmp_path: Path) -> None:
    """The node changes its state, but its responses never arrive."""
    state, over = [State.PRIMARY_STATE_UNCONFIGURED], threading.Event()

    def change(request: ChangeState.Request, response: Any) -> Any:
        state[0] = {
            Transition.TRANSITION_CONFIGURE: State.PRIMARY_STATE_INACTIVE,
            Transition.TRANSITION_ACTIVATE: State.PRIMARY_STATE_ACTIVE,
        }[request.transition.id]
        over.wait(3 * PATIENCE_S)
        return response

    def tell(_: GetState.Request, response: Any) -> Any:
        response.current_state.id = state[0]
        return response

    with isolated_node("crisp") as node:
        group = ReentrantCallbackGroup()
        node.create_service(ChangeState, "crisp/change_state", change, callback_group=group)
        node.create_service(GetState, "crisp/get_state", tell, callback_group=group)
        executor = MultiThreadedExecutor(4, context=node.context)
        executor.add_node(node)
        process = player(
            node.context.get_domain_id(), f"recording:={recording}", f"results:={tmp_path}",
            "bring_up:=true",
        )  # fmt: skip
        end = time.monotonic() + 3 * PATIENCE_S
        try:
            while "waiting for the node to listen" not in states(tmp_path):
                assert process.poll() is None and time.monotonic() < end, states(tmp_path)
                executor.spin_once(0.1)
        finally:
            process.kill()
            process.wait()
            over.set()
            executor.shutdown()
    assert state[0] == State.PRIMARY_STATE_ACTIVE


def test_a_shutdown_ends_the_player_quietly(recording: Path) -> None:
    process = player(
        free_domain(), f"recording:={recording}", stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    said = process.stdout.readline()  # it waits for a node that never comes
    assert "waiting for the node" in said
    process.send_signal(signal.SIGINT)
    rest = process.communicate(timeout=PATIENCE_S)[0]
    assert process.returncode == 0 and "Traceback" not in rest
