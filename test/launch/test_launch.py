"""The launch files, run by the launch system if it is installed."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from crisp_ros.msg import ObjectEstimateArray
from node.peer import START_S, Scene, graph
from node.player.test_player import frame as recorded_frame
from node.test_real_node import untrained_model
from ros_graph import isolated_node, spin_until
from sensor_msgs.msg import Image

from crisp_ros.data.recording_writer import write_recording
from crisp_ros.node.inputs.input_topics import DETECTIONS_TOPIC, LABEL_INFO_TOPIC, TOPICS
from crisp_ros.node.parameters.node_parameters import Parameters
from crisp_ros.node.player.player_parameters import PlayerParameters
from crisp_ros.share import share_directory

FILES = sorted((share_directory() / "launch").glob("*.launch.py"))
SERVICE = Path(__file__).parent / "launch_service.py"


def declared_arguments(file: Path) -> dict[str, dict[str, ast.expr]]:
    """Keywords of each DeclareLaunchArgument of a file, by the argument's name."""
    calls = (n for n in ast.walk(ast.parse(file.read_text())) if isinstance(n, ast.Call))
    return {
        ast.literal_eval(call.args[0]): {k.arg: k.value for k in call.keywords}
        for call in calls
        if getattr(call.func, "id", "") == "DeclareLaunchArgument"
        and isinstance(call.args[0], ast.Constant)
    }


def test_launch_arguments_have_descriptions_and_defaults() -> None:
    names = {file.name: declared_arguments(file) for file in FILES}
    assert set(names) == {"crisp.launch.py", "demo.launch.py", "realsense.launch.py"}
    for arguments in names.values():
        for keywords in arguments.values():
            assert {"default_value", "description"} <= set(keywords)
    assert set(names["crisp.launch.py"]) >= {
        "params_file", "device", "checkpoint", "use_sim_time", "rviz", "autostart", "namespace",
        "log_level",
    }  # fmt: skip


def constants(file: Path) -> dict[str, object]:
    """Literals that a file assigns to names, read without running it."""
    found = {}
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.Assign):
            try:
                found[node.targets[0].id] = ast.literal_eval(node.value)
            except (AttributeError, ValueError):
                continue
    return found


def test_launch_arguments_remap_inputs_of_the_node() -> None:
    renamed = constants(share_directory() / "launch" / "crisp.launch.py")["TOPICS"]
    assert set(renamed.values()) == {*TOPICS.values(), DETECTIONS_TOPIC, LABEL_INFO_TOPIC}


def test_launch_arguments_override_parameters_of_the_node() -> None:
    overridden = constants(share_directory() / "launch" / "crisp.launch.py")["OVERRIDES"]
    assert set(overridden) <= {field.name for field in fields(Parameters)}


def test_the_executables_and_files_of_the_launch_file_exist() -> None:
    file = share_directory() / "launch" / "crisp.launch.py"
    text = {n.value for n in ast.walk(ast.parse(file.read_text())) if type(n) is ast.Constant}
    scripts = (share_directory() / "pyproject.toml").read_text()
    for executable in ("crisp_node", "crisp_with_segmenter", "crisp_viewer"):
        assert executable in text and f'\n{executable} = "' in scripts
    defaults = {
        name: ast.unparse(keywords["default_value"])
        for name, keywords in declared_arguments(file).items()
        if name.endswith("params_file")
    }
    assert len(defaults) == 2
    for text in defaults.values():
        assert (share_directory() / "config" / text.split("'")[1]).is_file()


@pytest.mark.parametrize("name", ["crisp", "demo", "realsense"])
def test_the_segmentation_can_be_built_in(name: str) -> None:
    arguments = declared_arguments(share_directory() / "launch" / f"{name}.launch.py")
    choices = ast.literal_eval(arguments["segmentation"]["choices"])
    assert {"topic", "builtin"} <= set(choices)
    default = ast.literal_eval(arguments["segmentation"]["default_value"])
    assert default == ("auto" if name == "realsense" else "topic")


@pytest.mark.parametrize("name", ["demo", "realsense"])
def test_forwarded_launch_arguments_are_declared(name: str) -> None:
    launch = share_directory() / "launch"
    passed_on = set(constants(launch / f"{name}.launch.py")["PASSED_ON"])
    known = set(constants(launch / "crisp.launch.py")["TOPICS"])
    known |= set(declared_arguments(launch / "crisp.launch.py"))
    assert passed_on <= known
    assert passed_on <= set(declared_arguments(launch / f"{name}.launch.py"))


def test_the_demo_sets_only_parameters_of_the_player() -> None:
    tree = ast.parse((share_directory() / "launch" / "demo.launch.py").read_text())
    (node,) = (n for n in ast.walk(tree) if getattr(getattr(n, "func", None), "id", "") == "Node")
    keywords = {k.arg: k.value for k in node.keywords}
    assert ast.literal_eval(keywords["executable"]) == "crisp_player"
    (parameters,) = keywords["parameters"].elts
    known = {field.name for field in fields(PlayerParameters)}
    assert {ast.literal_eval(key) for key in parameters.keys} <= known


@pytest.mark.parametrize("file", FILES, ids=[f.name for f in FILES])
def test_the_launch_system_loads_the_file(file: Path) -> None:
    pytest.importorskip("launch_ros", reason="launch and launch_ros are not on PyPI")
    from launch.launch_description_sources import get_launch_description_from_python_launch_file

    description = get_launch_description_from_python_launch_file(str(file))
    found = {argument.name for argument in description.get_launch_arguments()}
    assert set(declared_arguments(file)) <= found


@pytest.fixture
def executables() -> None:
    """Skip where `ros2 launch` would not find what it is to start."""
    pytest.importorskip("launch_ros", reason="launch and launch_ros are not on PyPI")
    from ament_index_python.packages import PackageNotFoundError, get_package_prefix

    try:
        get_package_prefix("crisp_ros")
    except PackageNotFoundError:
        pytest.skip("the package is not installed where ROS looks for executables")


def test_demo_launch_ends_with_its_recording(executables: None, tmp_path: Path) -> None:
    untrained_model(tmp_path / "good.safetensors")
    write_recording(tmp_path / "bag", (recorded_frame(i) for i in range(8)))
    arguments = {
        "recording": tmp_path / "bag", "checkpoint": tmp_path / "good.safetensors",
        "loop": "false", "rviz": "false", "device": "cpu", "rate": "1.0",
    }  # fmt: skip
    with isolated_node("listener") as node:
        answers: list[ObjectEstimateArray] = []
        node.create_subscription(ObjectEstimateArray, "/crisp/objects", answers.append, 10)
        environment = {**os.environ, "ROS_DOMAIN_ID": str(node.context.get_domain_id())}
        command = [sys.executable, SERVICE, share_directory() / "launch" / "demo.launch.py"]
        given = [f"{name}:={value}" for name, value in arguments.items()]
        process = subprocess.Popen([*command, *given], env=environment)
        assert spin_until(node, lambda: process.poll() is not None, START_S)
    assert process.returncode == 0 and answers


def test_crisp_launch_activates_a_node_in_a_namespace(executables: None, tmp_path: Path) -> None:
    untrained_model(tmp_path / "good.safetensors")
    arguments = [
        str(share_directory() / "launch" / "crisp.launch.py"),
        f"checkpoint:={tmp_path / 'good.safetensors'}",
        *("namespace:=robot", "device:=cpu", "log_level:=warn"),
    ]
    with graph(SERVICE, arguments, ns="/robot") as (peer, _):
        peer.wait(lambda: peer.state() == "active")
        peer.wait(peer.is_heard)
        assert len(peer.answer(Scene()).estimates) == 2


def test_crisp_launch_with_the_built_in_segmenter(executables: None, tmp_path: Path) -> None:
    """Both nodes in one process: a frame without labels has estimates."""
    untrained_model(tmp_path / "good.safetensors")
    arguments = [
        str(share_directory() / "launch" / "crisp.launch.py"),
        f"checkpoint:={tmp_path / 'good.safetensors'}",
        *("segmentation:=builtin", "device:=cpu"),
    ]
    with graph(SERVICE, arguments) as (peer, _):
        peer.wait(lambda: peer.state() == "active")
        peer.listen(Image, "/segmentation", "segmentation", 10)
        peer.wait(lambda: peer.node.count_publishers("/segmentation") > 1)  # one is the peer's
        peer.wait(lambda: peer.node.count_subscribers("/rgb/image_rect_color"))
        header = peer.send(Scene())
        peer.wait(lambda: sum(m.header == header for m in peer.received["segmentation"]) > 1)
        peer.answer_to(header)
