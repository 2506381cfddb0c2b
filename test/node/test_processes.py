"""Nodes that share a graph, are killed and restarted, or repeat their lifecycle."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import GetState
from node.peer import FAKE_NODE, Peer, Scene, graph, node_process
from ros_graph import isolated_node, spin_until

from crisp_ros.network.checkpoint import Model, save_model
from crisp_ros.network.model import build_network

START_S = 180.0
CYCLES = 10
GROWTH_MB = 15.0


def test_two_nodes_in_two_namespaces_have_their_own_cameras() -> None:
    with isolated_node("peer") as node:
        domain = node.context.get_domain_id()
        left_arguments = ["--ros-args", "-r", "__ns:=/left", "-p", "tf_prefix:=left_"]
        right_arguments = ["--ros-args", "-r", "__ns:=/right", "-p", "tf_prefix:=right_"]
        with (
            node_process(domain, FAKE_NODE, left_arguments),
            node_process(domain, FAKE_NODE, right_arguments),
        ):
            left, right = Peer(node, "/left"), Peer(node, "/right")
            left.wait(lambda: left.is_up() and right.is_up(), START_S)
            left.activate()
            right.activate()
            near, far = Scene({1: (20, 30, 60, 70, 0.5)}), Scene({1: (90, 40, 130, 100, 0.9)})
            headers = left.send(near), right.send(far)
            for peer, scene, header in ((left, near, headers[0]), (right, far, headers[1])):
                (found,) = peer.answer_to(header).estimates
                p = found.pose.pose.position
                np.testing.assert_allclose((p.x, p.y, p.z), scene.centre(1), atol=1e-5)
            assert len(left.received["objects"]) == len(right.received["objects"]) == 1

            def children() -> set[str]:
                sent = left.received["tf"]
                return {t.child_frame_id.split("_")[0] for m in sent for t in m.transforms}

            left.wait(lambda: children() == {"left", "right"})


def answers(peer: Peer) -> bool:
    """Whether a node responds, which a killed one does not."""
    future = peer._state.call_async(GetState.Request())
    return peer.is_up() and spin_until(peer.node, future.done, 1.0)


@pytest.mark.slow  # DDS takes its time to see that the first one is dead
def test_a_killed_node_recovers_while_the_camera_continues() -> None:
    with isolated_node("peer") as node:
        domain = node.context.get_domain_id()
        peer, scene = Peer(node), Scene()
        camera = node.create_timer(0.05, lambda: peer.send(scene, step_ns=50_000_000))
        for _ in range(2):
            with node_process(domain, FAKE_NODE) as process:
                # The services of the one that was killed seem to be there for a while.
                peer.wait(lambda: answers(peer) or process.poll() is not None, START_S)
                peer.start()
                peer.received["objects"].clear()
                peer.wait(lambda: len(peer.received["objects"]) > 5)
                answer = peer.received["objects"][-1]
                assert [o.label for o in answer.estimates] == [1, 2]
                os.kill(process.pid, signal.SIGKILL)
                process.wait()
        node.destroy_timer(camera)


def memory_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
def test_ten_lifecycles_with_a_real_model_do_not_grow(tmp_path: Path) -> None:
    torch.manual_seed(0)
    path = tmp_path / "model.safetensors"
    save_model(path, Model(build_network("compact"), None, {"version": "untrained"}))
    arguments = ["--ros-args", "-p", f"checkpoint:={path}", "-p", "threads:=1"]
    empty, working = [], []
    with graph(None, arguments) as (peer, process):
        for _ in range(CYCLES):
            peer.activate()
            assert len(peer.answer(Scene()).estimates) == 2
            working.append(memory_mb(process.pid))
            assert peer.transition(Transition.TRANSITION_DEACTIVATE)
            assert peer.transition(Transition.TRANSITION_CLEANUP)
            empty.append(memory_mb(process.pid))
        assert peer.state() == "unconfigured" and process.poll() is None
    print(f"MB while working {np.round(working)}, after cleanup {np.round(empty)}")
    # The first rounds fill the caches of the libraries.
    assert np.median(working[-3:]) - np.median(working[2:5]) < GROWTH_MB
    assert np.median(empty[-3:]) - np.median(empty[2:5]) < GROWTH_MB
