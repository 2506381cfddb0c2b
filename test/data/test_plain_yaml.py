"""YAML of plain values, with either parser."""

from __future__ import annotations

import sys

import pytest

from crisp_ros.data.plain_yaml import parse_yaml


@pytest.fixture(params=["yaml", "ruamel"])
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The parser in use; without PyYAML that of rosbags."""
    pytest.importorskip("ruamel.yaml" if request.param == "ruamel" else "yaml")
    if request.param == "ruamel":
        monkeypatch.setitem(sys.modules, "yaml", None)
    return request.param


def test_plain_values_are_parsed(parser: str) -> None:
    text = "/robot:\n  crisp: {rate: 2.5, on: [1, true, name]}\nempty:\n"
    expected = {"/robot": {"crisp": {"rate": 2.5, "on": [1, True, "name"]}}, "empty": None}
    found = parse_yaml(text.replace("on:", "'on':"))
    assert found == expected


@pytest.mark.parametrize(
    "text",
    ["a: [1, 2", "a: b: c", "!!python/object/apply:os.getcwd []", "[" * 5000],
    ids=["open", "two colons", "object", "deep"],
)
def test_everything_else_is_refused(parser: str, text: str) -> None:
    with pytest.raises(ValueError):
        parse_yaml(text)
