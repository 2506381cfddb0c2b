"""`crisp doctor` on this machine: what it accepts, and what it reports as a problem."""

import json

import pytest
from ros_graph import free_domain

from crisp_ros.cli.main import main


@pytest.fixture(autouse=True)
def _own_domain(monkeypatch):
    monkeypatch.setenv("ROS_DOMAIN_ID", str(free_domain()))
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")


def examined(tmp_path, *arguments):
    """Exit status, and the verdict and the advice of every (area, name)."""
    pytest.importorskip("rclpy")
    path = tmp_path / "doctor.json"
    status = main(["doctor", "--json", str(path), *arguments])
    findings = json.loads(path.read_text())["findings"]
    return status, {
        (f["area"], f["name"]): (f["verdict"], f["found"], f["advice"]) for f in findings
    }


def test_a_sound_machine_has_nothing_to_fix(checkpoint, tmp_path, capsys):
    status, found = examined(tmp_path, "--checkpoint", str(checkpoint))
    assert status == 0
    assert "nothing to fix" in capsys.readouterr().out
    assert found["model", "file"][0] == "fine"
    assert "3 shapes" in found["model", "file"][1]
    assert found["ROS", "images"][0] in ("fine", "note")
    assert found["ROS", "messages"][0] == "fine"


def test_a_broken_model_file_is_named(tmp_path, capsys):
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"nothing")
    status, found = examined(tmp_path, "--checkpoint", str(broken))
    assert status == 1
    verdict, message, advice = found["model", "file"]
    assert verdict == "problem" and "broken.safetensors" in message and "--checkpoint" in advice
    assert "1 to fix: model: file" in capsys.readouterr().err


def test_topics_that_nobody_publishes_are_problems(checkpoint, tmp_path):
    status, found = examined(
        tmp_path, "--checkpoint", str(checkpoint), "--topics", "--seconds", "0.2",
        "--namespace", "robot", "--remap", "segmentation:=/masks",
    )  # fmt: skip
    assert status == 1
    for topic in ("/robot/rgb/image_rect_color", "/robot/rgb/camera_info", "/masks"):
        verdict, message, remedy = found["topics", topic]
        assert verdict == "problem" and message == "it has no publisher"
        assert ("crisp_segmenter" in remedy) == (topic == "/masks")


def test_a_profile_that_is_not_there_is_a_problem(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setenv("FASTRTPS_DEFAULT_PROFILES_FILE", str(tmp_path / "none.xml"))
    status, found = examined(tmp_path, "--checkpoint", str(checkpoint))
    assert status == 1
    assert found["ROS", "FastDDS profile"][0] == "problem"
