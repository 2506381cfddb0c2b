"""Self-training in the node: enabled by a parameter, reported in diagnostics, or refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from adaptation_samples import CHECKPOINT, shipped_model
from crisp_ros.srv import DumpFrame, SaveCheckpoint
from diagnostic_msgs.msg import DiagnosticStatus
from diagnostic_updater import DiagnosticStatusWrapper
from lifecycle_msgs.msg import Transition
from node.peer import LATCHED, START_S, Peer, Scene, graph
from std_srvs.srv import Trigger
from vision_msgs.msg import VisionInfo

from crisp_ros.adaptation.reference_set import ReferenceSetError
from crisp_ros.cli.main import main
from crisp_ros.network.checkpoint import Model, load_model, save_model
from crisp_ros.node.parameters.node_parameters import Parameters
from crisp_ros.node.self_training import SelfTraining, SelfTrainingError
from crisp_ros.pipeline import Estimator, EstimatorSettings
from crisp_ros.pipeline.frame_dump import read_frame_dump

ON = Parameters(self_training=True)


@pytest.fixture(scope="module")
def estimator() -> Estimator:
    return Estimator(load_model(CHECKPOINT), EstimatorSettings(corrector=None, visibility=None))


def report(training: SelfTraining) -> tuple[bytes, str, dict[str, str]]:
    status = training.report(DiagnosticStatusWrapper())
    return status.level, status.message, {v.key: v.value for v in status.values}


def test_self_training_is_off_by_default(estimator: Estimator) -> None:
    training = SelfTraining()
    training.configure(estimator, Parameters(), CHECKPOINT)
    training.start()
    with training.estimating():
        pass
    training.stop()
    assert report(training)[:2] == (DiagnosticStatus.OK, "off")
    for request in (training.rollback, lambda: training.save_checkpoint(Path)):
        with pytest.raises(SelfTrainingError, match="set the parameter self_training"):
            request()


def test_without_a_reference_set_it_is_refused(estimator: Estimator, tmp_path: Path) -> None:
    with pytest.raises(ReferenceSetError, match="crisp render reference"):
        SelfTraining().configure(estimator, ON, tmp_path / "other.safetensors")


def test_enabled_self_training_reports_and_saves(estimator: Estimator, tmp_path: Path) -> None:
    training = SelfTraining()
    training.configure(estimator, ON, CHECKPOINT)
    try:
        level, message, values = report(training)
        assert level == DiagnosticStatus.OK and message == "0 certified samples, no swap yet"
        assert values["model version"] == estimator.model_version and values["steps"] == "0"
        assert values["pseudo-labels"] == "none: the network's own answers"
        saved = tmp_path / "model.safetensors"
        version = estimator.model_version
        assert training.save_checkpoint(lambda _: saved) == (saved, version)
        learned = load_model(saved)
        for name, value in shipped_model().network.state_dict().items():
            assert torch.equal(learned.network.state_dict()[name], value)
        with pytest.raises(SelfTrainingError, match="no swap to roll back"):
            training.rollback()
        # The saved model continues with the samples next to it and the given reference set.
        again = SelfTraining()
        reference = str(CHECKPOINT.with_name("crisp_ycbv_compact.reference.safetensors"))
        parameters = Parameters(self_training=True, self_training_reference=reference)
        again.configure(Estimator(learned), parameters, saved)
        assert report(again)[0] == DiagnosticStatus.OK
        damaged = tmp_path / "model.samples.safetensors"
        damaged.write_bytes(os.urandom(100))
        again.configure(Estimator(learned), parameters, saved)
        assert report(again)[0] == DiagnosticStatus.WARN and "samples" in report(again)[1]
    finally:
        training.release()
    assert report(training)[1] == "off"


def test_the_node_trains_while_it_estimates(tmp_path: Path) -> None:
    bare = tmp_path / "bare.safetensors"
    save_model(bare, Model(shipped_model().network, None, {"version": "bare"}))
    arguments = ["--ros-args", "-p", f"checkpoint:={bare}", "-p", "self_training:=true"]
    arguments += ["-p", "threads:=2", "-p", "self_training_max_duty:=1.0"]
    arguments += ["-p", f"output_directory:={tmp_path}"]
    with graph(None, arguments) as (peer, _):
        assert not peer.transition(Transition.TRANSITION_CONFIGURE)
        status = peer.diagnosis("model", "reference set")
        assert status.level == DiagnosticStatus.ERROR
        assert peer.set_parameters(checkpoint="") == []
        peer.activate()
        assert "no swap yet" in peer.diagnosis("self-training", "no swap yet").message
        for _ in range(6):
            answer = peer.answer(Scene())
        assert len(answer.estimates) == 2
        # Every fifth sample of an object is held back, certified or not.
        status = peer.diagnosis("self-training", answer.model_version)
        values = {v.key: v.value for v in status.values}
        assert int(values["held-back samples"]) + int(values["certified samples"]) >= 1
        assert peer.set_parameters(self_training=False) != []

        # Its one thread leaves the estimation those that it was given, however often both start.
        dump = peer.node.create_client(DumpFrame, "/crisp/dump_frame")
        for start in ("first", "second"):
            peer.answer(Scene())
            dumped = peer.call(dump, DumpFrame.Request(path=start))
            assert dumped.success, dumped.message
            assert read_frame_dump(Path(dumped.path)).threads == 2
            device = peer.diagnosis("device", "cpu")
            assert {v.key: v.value for v in device.values}["CPU threads"] == "2"
            assert peer.transition(Transition.TRANSITION_DEACTIVATE)
            peer.wait(lambda: not peer.is_heard())
            assert peer.transition(Transition.TRANSITION_ACTIVATE)
            peer.wait(peer.is_heard)


def values_of(peer: Peer, text: str) -> dict[str, str]:
    status = peer.diagnosis("self-training", text)
    return {v.key: v.value for v in status.values}


def test_weights_are_saved_and_rolled_back_by_services(tmp_path: Path, capsys) -> None:
    arguments = ["--ros-args", "-p", "threads:=1", "-p", f"output_directory:={tmp_path}"]
    arguments += ["-p", "self_training:=true", "-p", "self_training_max_duty:=1.0"]
    arguments += ["-p", "self_training_steps:=1"]
    # An object that is followed under the prior is searched again by a replay, and may differ.
    arguments += ["-p", "prior_checkpoint:=none"]
    with graph(Path(__file__).with_name("learning_node.py"), arguments) as (peer, _):
        infos = peer.received["vision_info"]
        peer.listen(VisionInfo, "/crisp/vision_info", "vision_info", LATCHED)
        save = peer.node.create_client(SaveCheckpoint, "/crisp/save_checkpoint")
        dump = peer.node.create_client(DumpFrame, "/crisp/dump_frame")
        roll_back = peer.node.create_client(Trigger, "/crisp/rollback")
        peer.activate()
        peer.wait(lambda: infos)
        original = infos[-1].method.removeprefix("CRISP, model ")
        assert infos[-1].database_version == 1

        def learned() -> bool:
            return peer.answer(Scene()).model_version != original

        peer.wait(learned, START_S)  # parts of a step are done between frames alone
        version = peer.received["objects"][-1].model_version
        assert version.startswith(f"{original}+1-")
        peer.wait(lambda: infos[-1].method == f"CRISP, model {version}")
        assert infos[-1].database_version == 2
        values = values_of(peer, version)
        assert (values["swaps"], values["rollbacks"]) == ("1", "0")
        assert version in peer.diagnosis("model", version).message

        saved = peer.call(save, SaveCheckpoint.Request(path="learned.safetensors"))
        assert saved.success, saved.message
        assert saved.model_version == version
        assert saved.path == str(tmp_path / "learned.safetensors")

        dumped = peer.call(dump, DumpFrame.Request(path="frame.safetensors"))
        assert dumped.success, dumped.message

        back = peer.call(roll_back, Trigger.Request())
        assert back.success and f"{original}+2-" in back.message
        earlier = peer.answer(Scene()).model_version
        assert earlier.startswith(f"{original}+2-") and earlier in back.message
        peer.wait(lambda: infos[-1].database_version == 3)
        assert infos[-1].method == f"CRISP, model {earlier}"
        assert values_of(peer, earlier)["rollbacks"] == "1"
        restored = peer.call(save, SaveCheckpoint.Request())
        assert restored.path == str(tmp_path / f"checkpoint_{earlier}.safetensors")
        assert peer.call(save, SaveCheckpoint.Request()).path != restored.path
        again = peer.call(roll_back, Trigger.Request())
        assert not again.success and "no swap to roll back" in again.message
    # The frame is estimated again by the model that was saved, and by no other.
    assert main(["replay", dumped.path, "--checkpoint", saved.path]) == 0
    assert "not identical" not in capsys.readouterr().out
    assert main(["replay", dumped.path, "--checkpoint", restored.path]) == 1
    assert version in capsys.readouterr().err

    first = shipped_model().network.state_dict()
    learned_, restored_ = (load_model(Path(f.path)).network.state_dict() for f in (saved, restored))
    assert any(not torch.equal(learned_[name], value) for name, value in first.items())
    assert all(torch.equal(restored_[name], value) for name, value in first.items())
