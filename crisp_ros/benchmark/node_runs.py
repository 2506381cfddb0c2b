"""Runs of a version's node: recorded frames are sent to it, and the answers timed."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from crisp_ros.benchmark.compared_version import Version, VersionError, version_environment
from crisp_ros.pipeline import STAGES
from crisp_ros.share import share_directory

_LIMIT_S = 300.0  # to start, beyond the time of the frames
_LEAST_ANSWERED = 0.8  # share of the frames; others were dropped, as the node was too slow


class NodeFrames(NamedTuple):
    """Frames that are sent to a node.

    Attributes:
        recording: that the frames are from.
        count: of the frames that are timed; a few more come before them.
        rate_hz: at which they are sent, slower than the node works.
    """

    recording: Path
    count: int
    rate_hz: float


class NodeAnswer(NamedTuple):
    """A frame's times in a node, milliseconds.

    Attributes:
        transforms: from the stamp of the images to the arrival of the transforms.
        estimator: of the estimator.
    """

    transforms: float
    estimator: float


def run_node(version: Version, cache: Path, frames: NodeFrames) -> list[NodeAnswer]:
    """Run a version's node with default parameters, and send frames to it.

    Camera and node are processes of that version in a ROS domain of their own, see
    `crisp_ros.node.player.latency_probe`.

    Args:
        version: with built messages.
        cache: folder that is kept for further runs of the version.
        frames: to send.

    Raises:
        VersionError: the node cannot be run, or does not keep up with the frames.
    """
    environment = {
        **version_environment(version, cache),
        "FASTRTPS_DEFAULT_PROFILES_FILE": str(share_directory() / "config" / "fastdds_shm.xml"),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "ROS_DOMAIN_ID": str(os.getpid() % 60 + 40),
    }
    with tempfile.TemporaryDirectory(prefix="crisp_bench_") as folder:
        output = Path(folder) / "probe.json"
        words = ("--recording", frames.recording.resolve(), "--frames", frames.count)
        words += ("--rate", frames.rate_hz, "--output", output)
        module = "crisp_ros.node.player.latency_probe"
        try:
            done = subprocess.run(
                [version.python, "-m", module, *map(str, words)],
                env=environment,
                cwd=cache,
                capture_output=True,
                text=True,
                timeout=_LIMIT_S + 2 * frames.count / frames.rate_hz,
            )
        except subprocess.TimeoutExpired:
            raise VersionError(f"the node of {version.name} does not answer in time") from None
        if done.returncode != 0:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise VersionError(
                f"the node of {version.name} cannot be run: {last}; it needs ROS and the built "
                "messages (python setup.py build_ext --inplace)"
            )
        return _answers(version, json.loads(output.read_text()))


def _answers(version: Version, probed: dict[str, Any]) -> list[NodeAnswer]:
    answered, sent = probed["answered"], probed["sent"]
    if len(answered) < _LEAST_ANSWERED * sent:
        raise VersionError(f"the node of {version.name} answered {len(answered)} of {sent} frames")
    return [
        NodeAnswer(
            frame["transform_ms"], sum(frame["stage_ms"].get(stage, 0.0) for stage in STAGES)
        )
        for frame in answered
    ]
