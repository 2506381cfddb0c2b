"""The node's tests need ROS 2."""

import pytest

pytest.importorskip("rclpy")
