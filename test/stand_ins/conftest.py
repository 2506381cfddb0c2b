"""These tests describe the real packages; where ROS 2 is installed they run on those."""

from collections.abc import Iterator

import pytest

pytest.importorskip("rclpy")

from rclpy.node import Node  # noqa: E402
from ros_graph import isolated_node  # noqa: E402


@pytest.fixture
def node() -> Iterator[Node]:
    """A node alone in its domain."""
    with isolated_node() as node:
        yield node
