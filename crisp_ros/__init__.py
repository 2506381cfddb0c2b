"""CRISP: object pose and shape from RGB-D, as a library and as a ROS 2 node."""

from __future__ import annotations

from pathlib import Path

__version__ = "0.1.0"

# pip puts the generated messages into this folder (colcon: next to this file), so that
# crisp_ros.msg is found. A bare source tree has none; only the node needs them.
_messages = Path(__file__).parent / "_messages"
if _messages.is_dir():
    __path__.append(str(_messages))
