"""Parameters that have no effect are named, with the one that was probably meant."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import rclpy
from rclpy.context import Context
from rclpy.node import Node

from crisp_ros.node.parameters.node_parameters import Parameters
from crisp_ros.node.parameters.parameter_server import ParameterServer
from crisp_ros.node.parameters.undeclared import undeclared
from crisp_ros.node.segmenter.segmenter_parameters import SegmenterParameters

Find = Callable[[str], list[str]]


@pytest.fixture
def find(tmp_path: Path) -> Iterator[Find]:
    """Return the warnings of a node /robot/crisp that is started with a parameter file."""
    context = Context()
    rclpy.init(context=context)
    nodes: list[Node] = []

    def warnings(content: str) -> list[str]:
        path = tmp_path / "parameters.yaml"
        path.write_text(content)
        arguments = ["crisp_node", "--ros-args", "--params-file", str(path)]
        node = Node("crisp", context=context, cli_args=arguments[1:], namespace="robot")
        nodes.append(node)
        ParameterServer(node, lambda: "unconfigured")
        return undeclared(node, arguments)

    yield warnings
    for node in nodes:
        node.destroy_node()
    rclpy.shutdown(context=context)


def of_node(parameters: str, name: str = "/robot/crisp") -> str:
    lines = "".join(f"    {line}\n" for line in parameters.splitlines())
    return f"{name}:\n  ros__parameters:\n{lines}"


@pytest.mark.parametrize(
    "parameters",
    [
        "sync_slop: 0.1\ncheckpoint: /a.safetensors\nuse_sim_time: true",
        "qos_overrides:\n  /rgb:\n    subscription: {reliability: reliable}",
        "diagnostic_updater: {period: 2.0}",
        "label_names: '1=mug'",
    ],
)
def test_known_parameters_are_no_reason_to_warn(find: Find, parameters: str) -> None:
    assert find(of_node(parameters)) == []


def test_a_misspelled_parameter_is_named_with_the_nearest(find: Find) -> None:
    slop, checkpoint, far = find(
        of_node("sync_slopp: 0.1\ncheckpont: /a.safetensors\nzzzzzzzz: 3")
    )[1::-1] + find(of_node("zzzzzzzz: 3"))
    assert "no parameter sync_slopp" in slop and "did you mean sync_slop?" in slop
    assert "no parameter checkpont" in checkpoint and "did you mean checkpoint?" in checkpoint
    assert "zzzzzzzz" in far and "ros2 param list /robot/crisp" in far


def test_a_mapping_for_a_single_value_says_how_to_write_it(find: Find) -> None:
    (text,) = find(of_node("label_names: {1: mug, 2: bowl}"))
    assert 'write label_names: "1=mug, 2=bowl"' in text


@pytest.mark.parametrize("name", ["/robot/crisp", "/robot/*", "/**", "/**/crisp"])
def test_a_file_for_this_node_may_name_others_too(find: Find, name: str) -> None:
    content = of_node("sync_slop: 0.2", name) + of_node("exposure: 3", "/camera")
    assert find(content) == []


@pytest.mark.parametrize("name", ["crisp", "crisp_node", "/other/crisp", "/*"])
def test_a_file_for_another_node_is_named(find: Find, name: str) -> None:
    (text,) = find(of_node("sync_slop: 0.2", name))
    assert "parameters.yaml has no parameters for /robot/crisp" in text
    assert name.strip("/") in text and "/** for all nodes" in text


def test_a_namespace_of_the_file_counts(find: Find) -> None:
    nested = "robot:\n  crisp:\n    ros__parameters: {sync_slop: 0.2}\n"
    assert find(nested) == []


def test_files_of_another_node_of_the_process_are_known(tmp_path: Path) -> None:
    files = {
        "crisp.yaml": of_node("max_objects: 3\nsync_slop: 0.1", "/**"),
        "segmenter.yaml": of_node("near: 0.2\nnaer: 0.3", "/**/crisp_segmenter"),
    }
    arguments = ["crisp_with_segmenter", "--ros-args"]
    for name, content in files.items():
        (tmp_path / name).write_text(content)
        arguments += ["--params-file", str(tmp_path / name)]
    context = Context()
    rclpy.init(context=context)
    kinds = {"crisp": Parameters, "crisp_segmenter": SegmenterParameters}
    nodes = [Node(name, context=context, cli_args=arguments[1:]) for name in kinds]
    for node, kind in zip(nodes, kinds.values(), strict=True):
        ParameterServer(node, lambda: "unconfigured", kind)
    crisp, segmenter = nodes
    assert undeclared(crisp, arguments, [segmenter]) == []
    (misspelled,) = undeclared(segmenter, arguments, [crisp])
    assert "naer" in misspelled and "near" in misspelled
    assert any("segmenter.yaml" in text for text in undeclared(crisp, arguments))
    for node in nodes:
        node.destroy_node()
    rclpy.shutdown(context=context)
