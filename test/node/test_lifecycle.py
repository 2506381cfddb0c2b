"""Lifecycle transitions, their diagnostics, and frames at transitions."""

from __future__ import annotations

from pathlib import Path

from diagnostic_msgs.msg import DiagnosticStatus
from lifecycle_msgs.msg import Transition
from node.peer import FAKE_NODE, LATCHED, Scene, graph
from std_srvs.srv import SetBool
from vision_msgs.msg import LabelInfo, VisionClass

OVERRIDE = "qos_overrides./depth_registered/image_rect.subscription"


def test_a_failed_activation_is_reported_with_its_reason() -> None:
    with graph(FAKE_NODE, ["--ros-args", "-p", f"{OVERRIDE}.reliability:=sometimes"]) as (peer, _):
        assert peer.diagnosis("lifecycle", "unconfigured").level == DiagnosticStatus.OK
        assert peer.transition(Transition.TRANSITION_CONFIGURE)
        for _ in range(2):  # the second attempt fails alike: the first left nothing behind
            assert not peer.transition(Transition.TRANSITION_ACTIVATE)
            status = peer.diagnosis("lifecycle", "cannot activate")
            assert status.level == DiagnosticStatus.ERROR
            assert status.message.startswith("inactive: cannot activate")
            assert "sometimes" in status.message
            assert peer.state() == "inactive"
        assert peer.transition(Transition.TRANSITION_CLEANUP)
        assert peer.diagnosis("lifecycle", "unconfigured").level == DiagnosticStatus.OK


def test_a_failed_configuration_is_reported_with_its_reason(tmp_path: Path) -> None:
    missing = tmp_path / "missing.safetensors"
    with graph(None, ["--ros-args", "-p", f"checkpoint:={missing}", "-p", "threads:=1"]) as (
        peer,
        _,
    ):
        assert not peer.transition(Transition.TRANSITION_CONFIGURE)
        status = peer.diagnosis("lifecycle", "cannot configure")
        assert status.level == DiagnosticStatus.ERROR and missing.name in status.message
        assert status.message.startswith("unconfigured")
        assert peer.set_parameters(checkpoint="") == []
        peer.activate()
        assert peer.diagnosis("lifecycle", "active").level == DiagnosticStatus.OK


def test_autostart_activates_the_node_once() -> None:
    with graph(FAKE_NODE, ["--ros-args", "-p", "autostart:=true"]) as (peer, _):
        peer.wait(peer.is_heard)
        assert peer.state() == "active" and peer.answer(Scene()).estimates
        for transition in (Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP):
            assert peer.transition(transition)
        assert peer.transition(Transition.TRANSITION_CONFIGURE)
        assert peer.state() == "inactive"


def test_a_failed_autostart_leaves_the_node_unconfigured(tmp_path: Path) -> None:
    missing = tmp_path / "missing.safetensors"
    arguments = ["-p", f"checkpoint:={missing}", "-p", "threads:=1", "-p", "autostart:=true"]
    with graph(None, ["--ros-args", *arguments]) as (peer, _):
        status = peer.diagnosis("lifecycle", "cannot configure")
        assert status.level == DiagnosticStatus.ERROR and missing.name in status.message
        assert peer.set_parameters(checkpoint="") == []
        peer.start()
        assert peer.state() == "active"


def test_an_unconfigured_node_can_be_shut_down() -> None:
    with graph(FAKE_NODE) as (peer, _):
        assert peer.state() == "unconfigured"
        assert peer.transition(Transition.TRANSITION_UNCONFIGURED_SHUTDOWN)
        assert peer.state() == "finalized"
        assert peer.diagnosis("lifecycle", "finalized").level == DiagnosticStatus.OK


def test_a_frame_in_progress_is_dropped_on_deactivation() -> None:
    with graph(FAKE_NODE) as (peer, _):
        peer.activate()
        endless = Scene()
        endless.rgb.data[2] = 2
        peer.send(endless)

        def counts(message: str) -> dict[str, str]:
            return {v.key: v.value for v in peer.diagnosis("frames", message).values}

        while counts("")["in progress"] != "1":
            pass
        assert peer.transition(Transition.TRANSITION_DEACTIVATE)
        found = counts("0 frames estimated, 1 dropped")
        assert (found["deactivated"], found["from before a time jump"]) == ("1", "0")


def test_cleanup_resets_enable_and_label_names() -> None:
    with graph(FAKE_NODE) as (peer, _):
        named = peer.node.create_publisher(LabelInfo, "/label_info", LATCHED)
        named.publish(LabelInfo(class_map=[VisionClass(class_id=1, class_name="mug")]))
        enable = peer.node.create_client(SetBool, "/crisp/enable")
        assert peer.transition(Transition.TRANSITION_CONFIGURE)
        answer = peer.call(enable, SetBool.Request(data=False))
        assert answer.success and answer.message.startswith("the node is inactive: activate")
        assert peer.transition(Transition.TRANSITION_ACTIVATE)
        peer.wait(peer.is_heard)
        peer.send(Scene())
        peer.diagnosis("frames", "0 frames estimated, 1 dropped, mostly disabled by ~/enable")
        answer = peer.call(enable, SetBool.Request(data=True))
        assert answer.success and answer.message == "frames are estimated"

        def is_named() -> bool:
            return [o.class_name for o in peer.answer(Scene()).estimates if o.label] == ["mug", ""]

        peer.wait(is_named)
        peer.node.destroy_publisher(named)
        assert peer.call(enable, SetBool.Request(data=False)).success
        for transition in (Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_ACTIVATE):
            assert peer.transition(transition)
        peer.diagnosis("stream", "disabled by ~/enable")
        assert peer.call(enable, SetBool.Request(data=True)).success
        peer.wait(peer.is_heard)
        assert is_named()  # deactivation keeps the names
        assert peer.call(enable, SetBool.Request(data=False)).success
        for transition in (Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP):
            assert peer.transition(transition)
        peer.activate()
        found = [o for o in peer.answer(Scene()).estimates if o.label]
        assert [o.class_name for o in found] == ["", ""]


def test_every_frame_is_counted_as_estimated_or_dropped() -> None:
    with graph(FAKE_NODE) as (peer, _):
        peer.activate()
        scene = Scene()
        for _ in range(3):
            peer.answer(scene)
        unreadable, uncalibrated = Scene(), Scene()
        unreadable.depth.data = unreadable.depth.data[:-4]
        uncalibrated.focal = 0.0
        peer.send(unreadable)
        peer.diagnosis("input depth", "truncated")
        peer.send(uncalibrated)
        peer.diagnosis("frames", "3 frames estimated, 1 dropped, mostly refused: 1")
        peer.send(scene, step_ns=-50_000_000)
        status = peer.diagnosis("frames", "3 frames estimated, 2 dropped")
        counts = {v.key: int(v.value) for v in status.values}
        assert (counts["refused"], counts["older than the last"]) == (1, 1)
        assert counts["estimated"] == 3 and counts["in progress"] == 0
        inputs = peer.diagnosis("synchronisation", "").values
        queued = {v.key: v.value for v in inputs if v.key.endswith("queued")}
        assert queued == {"rgb queued": "1", "depth queued": "0", "segmentation queued": "1"}
