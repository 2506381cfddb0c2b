"""The real executable with a real model file: bad files are refused with the reason."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from crisp_ros.srv import DumpFrame
from diagnostic_msgs.msg import DiagnosticStatus
from lifecycle_msgs.msg import Transition
from node.peer import Scene, graph

from crisp_ros.cli.main import main
from crisp_ros.network.checkpoint import Model, save_model
from crisp_ros.network.model import build_network
from crisp_ros.pipeline.frame_dump import read_frame_dump


def untrained_model(path: Path) -> None:
    torch.manual_seed(0)
    save_model(path, Model(build_network("compact"), None, {"version": "untrained"}))


def test_bad_model_files_are_refused_and_a_good_one_works(tmp_path: Path, capsys) -> None:
    missing, corrupt, good = (tmp_path / f"{n}.safetensors" for n in ("missing", "bad", "good"))
    untrained_model(good)
    damaged = bytearray(good.read_bytes())
    damaged[-1000] ^= 0xFF
    corrupt.write_bytes(damaged)
    arguments = ["--ros-args", "-p", f"checkpoint:={missing}", "-p", "threads:=1"]
    with graph(None, arguments) as (peer, process):
        for path, words in ((missing, "missing: there is no such file"), (corrupt, "checksum")):
            assert peer.set_parameters(checkpoint=str(path)) == []
            assert not peer.transition(Transition.TRANSITION_CONFIGURE)
            status = peer.diagnosis("model", words)
            assert status.level == DiagnosticStatus.ERROR and path.name in status.message
            assert peer.state() == "unconfigured" and process.poll() is None
        assert peer.set_parameters(checkpoint=str(good)) == []
        peer.activate()
        assert peer.diagnosis("model", "untrained").level == DiagnosticStatus.OK
        assert peer.set_parameters(checkpoint=str(missing)) != []

        answer = peer.answer(Scene())
        assert answer.model_version.startswith("untrained")
        assert answer.stage_names[:3] == ["convert", "observe", "network"]
        # What an untrained network says fits no depth.
        assert [o.label for o in answer.estimates] == [1, 2]
        assert not any(o.certified for o in answer.estimates)
        assert all(o.reason for o in answer.estimates)
        assert not peer.received["tf"]
        assert all(np.diagonal(o.pose.covariance.reshape(6, 6)).min() > 0 for o in answer.estimates)

        client = peer.node.create_client(DumpFrame, "/crisp/dump_frame")
        dumped = peer.call(client, DumpFrame.Request(path=str(tmp_path / "frame")))
        assert dumped.success, dumped.message
        published = {o.label: o.pose.pose.position for o in answer.estimates}
        for found in read_frame_dump(Path(dumped.path)).estimate.objects:
            p = published[found.label]
            np.testing.assert_array_equal(found.T_camera_object[:3, 3], (p.x, p.y, p.z))
    report = tmp_path / "replay.json"
    assert main(["replay", dumped.path, "--json", str(report)]) == 0
    repeated = json.loads(report.read_text())
    assert repeated["identical"] and [o["label"] for o in repeated["objects"]] == [1, 2]
    assert "identical to the last bit" in capsys.readouterr().out
