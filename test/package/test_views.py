"""The views that come along show topics that the node has."""

import json
import re
from pathlib import Path

import pytest

from crisp_ros.share import share_directory

ROOT = share_directory()


def node_topics() -> set[str]:
    """Absolute names of inputs and outputs of a node called crisp, as its sources spell them."""
    sources = [path.read_text() for path in (ROOT / "crisp_ros" / "node").rglob("*.py")]
    outputs = {f"/crisp/{name}" for text in sources for name in re.findall(r'"~/(\w+)"', text)}
    inputs = set(re.findall(r'"([a-z_]+/image_rect\w*)"', "\n".join(sources)))
    return outputs | {f"/{name}" for name in inputs} | {"/diagnostics"}


def shown(path: Path) -> set[str]:
    """Every topic that a view names."""
    topics = re.findall(
        r"(?<![\w/])(/(?:crisp|depth_registered|rgb|diagnostics)[\w/]*)", path.read_text()
    )
    return set(topics)


@pytest.mark.parametrize("name", ["crisp.rviz", "foxglove.json"])
def test_views_show_topics_that_the_node_has(name: str) -> None:
    topics = shown(ROOT / "config" / name)
    assert {"/crisp/markers", "/crisp/overlay"} <= topics
    assert topics <= node_topics()


def test_every_panel_of_the_foxglove_layout_is_configured() -> None:
    layout = json.loads((ROOT / "config" / "foxglove.json").read_text())

    def panels(tree: dict | str) -> list[str]:
        if isinstance(tree, str):
            return [tree]
        return panels(tree["first"]) + panels(tree["second"])

    assert sorted(panels(layout["layout"])) == sorted(layout["configById"])
