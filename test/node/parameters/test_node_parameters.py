"""Parameters: descriptions, checks and changes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rclpy.exceptions import InvalidParameterValueException
from rclpy.node import Node
from rclpy.parameter import Parameter
from ros_graph import isolated_node

from crisp_ros.correction.symmetry_search import SymmetrySearchSettings
from crisp_ros.node.estimator_factory import estimator_settings
from crisp_ros.node.parameters.node_parameters import SECTIONS, Parameters, rules
from crisp_ros.node.parameters.parameter_docs import parameter_file, parameter_page
from crisp_ros.node.parameters.parameter_server import ParameterServer
from crisp_ros.node.parameters.parameter_values import parse_label_names
from crisp_ros.share import share_directory


class Bench:
    def __init__(self, node: Node) -> None:
        self.node = node
        self.state = "unconfigured"
        self.server = ParameterServer(node, lambda: self.state)

    def refusal(self, **values: object) -> str:
        """Set parameters; return why they were refused, or ""."""
        pairs = [Parameter(name, value=value) for name, value in values.items()]
        result = self.node.set_parameters_atomically(pairs)
        return "" if result.successful else result.reason or "refused"


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    with isolated_node() as node:
        yield node


@pytest.fixture
def bench(node: Node) -> Iterator[Bench]:
    bench = Bench(node)
    yield bench
    node.remove_on_set_parameters_callback(bench.server._check)
    node.remove_post_set_parameters_callback(bench.server._apply)
    for field in dataclasses.fields(Parameters):
        node.undeclare_parameter(field.name)


def test_parameters_have_descriptions_and_numbers_have_ranges(bench: Bench) -> None:
    for field in dataclasses.fields(Parameters):
        shown = bench.node.describe_parameter(field.name)
        assert len(shown.description) > 10 and shown.additional_constraints
        if type(field.default) in (int, float):
            (limits,) = [*shown.integer_range, *shown.floating_point_range]
            assert limits.from_value <= field.default <= limits.to_value
            assert bench.refusal(**{field.name: type(field.default)(limits.to_value + 1)})
            assert bench.refusal(**{field.name: type(field.default)(limits.from_value - 1)})
        assert getattr(bench.server.values, field.name) == field.default


def test_a_change_applies(bench: Bench) -> None:
    assert bench.refusal(certificate_threshold=0.02, mesh_faces=500) == ""
    assert bench.server.values == Parameters(certificate_threshold=0.02, mesh_faces=500)


def test_of_several_changes_none_applies_if_one_is_refused(bench: Bench) -> None:
    assert "tf_prefix" in bench.refusal(mesh_faces=600, tf_prefix="/robot/")
    assert bench.server.values == Parameters()


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("device", "gpu", "'gpu' is not a device: expected auto, cpu, cuda or cuda:N"),
        ("device", "cuda:99", "no device cuda:99"),
        ("device", "cuda:1000", "no device cuda:1000"),
        ("device", "cuda:" + "9" * 20, "is not a device"),
        ("output_directory", "~nobody_of_this_name/out", "home directory"),
        ("output_directory", "out", "not an absolute path"),
        ("label_names", "1=mug, two=bowl", "'two=bowl' is not LABEL=NAME"),
        ("label_names", "1=mug, 1=bowl", "label 1 is named twice"),
        ("image_transport", "theora", "'theora' is not one of raw, compressed"),
        ("segmentation_format", "", "'' is not one of labels, category_instance"),
        ("tf_prefix", "a b", "cannot begin a TF frame"),
        ("sync_slop", float("nan"), ""),
        ("certificate_threshold", float("nan"), ""),
        ("mesh_faces", 2000.0, "type"),
    ],
)
def test_invalid_values_are_refused(bench: Bench, name: str, value: object, reason: str) -> None:
    refusal = bench.refusal(**{name: value})
    assert refusal and reason in refusal
    assert bench.server.values == Parameters()


TEXTS = [f.name for f in dataclasses.fields(Parameters) if type(f.default) is str]


@given(st.sampled_from(TEXTS), st.text() | st.from_regex(r"(~|cuda:|/)[\w/=,.]*"))
def test_no_text_raises_in_a_check(name: str, value: str) -> None:
    problem = rules(name).problem(value)
    assert problem is None or isinstance(problem, str)


def test_changes_are_refused_in_the_wrong_state(bench: Bench) -> None:
    bench.state = "active"
    assert "deactivate it first" in bench.refusal(sync_slop=0.1)
    assert "clean it up first" in bench.refusal(checkpoint="other.safetensors")
    assert bench.refusal(object_timeout=7.0) == ""
    bench.state = "inactive"
    assert bench.refusal(sync_slop=0.1) == ""
    assert "clean it up first" in bench.refusal(device="cpu")
    bench.state = "unconfigured"
    assert bench.refusal(device="cpu") == ""
    assert bench.server.values == Parameters(object_timeout=7.0, sync_slop=0.1, device="cpu")


def test_an_invalid_override_stops_the_start() -> None:
    override = Parameter("device", value="gpu")
    with isolated_node() as helper:
        node = Node("other", context=helper.context, parameter_overrides=[override])
        with pytest.raises(InvalidParameterValueException, match="'gpu' is not a device"):
            ParameterServer(node, lambda: "unconfigured")
        node.destroy_node()


def test_the_parameter_file_lists_all_parameters_and_defaults(node: Node) -> None:
    path = share_directory() / "config" / "crisp.yaml"
    arguments = ["--ros-args", "--params-file", str(path)]
    other = Node("crisp", context=node.context, cli_args=arguments)
    try:
        overrides = {name: p.value for name, p in other._parameter_overrides.items()}
        fields = {field.name: field.default for field in dataclasses.fields(Parameters)}
        overrides.pop("diagnostic_updater.period")
        assert overrides == fields
    finally:
        other.destroy_node()


def test_generated_page_and_file_are_current() -> None:
    root, command = Path(__file__).parents[3], "python -m crisp_ros.node.parameters.parameter_docs"
    assert (root / "config" / "crisp.yaml").read_text() == parameter_file(), command
    written = (root / "docs" / "parameters.md").read_text()
    assert written == parameter_page(), command
    for field in dataclasses.fields(Parameters):
        assert f"| `{field.name}` | `" in written
    assert all(f"\n## {title}\n" in written for title in SECTIONS.values())


def test_max_objects_is_a_setting_of_the_estimator() -> None:
    assert estimator_settings(Parameters(max_objects=5)).observation.max_objects == 5


def test_correct_turns_is_a_setting_of_the_estimator() -> None:
    without = estimator_settings(Parameters(correct_turns=False))
    assert without.symmetry_search is None
    assert estimator_settings(Parameters(), without).symmetry_search == SymmetrySearchSettings()


def test_label_names() -> None:
    assert parse_label_names("") == {}
    assert parse_label_names(" 1=mug ,12 = cracker box,") == {1: "mug", 12: "cracker box"}
    for bad in ("0=mug", "-1=mug", "mug", "1=", "=mug", "²=mug", "9" * 5000 + "=mug"):
        with pytest.raises(ValueError, match="LABEL=NAME"):
            parse_label_names(bad)
