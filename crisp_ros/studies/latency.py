"""The node's latency from an image's stamp to its transforms, without the inference.

    python -m crisp_ros.studies.latency [--frames N] [--rate HZ] [--json FILE]

A camera (`crisp_ros.node.player.latency_probe`) sends frames of the bundled recording, stamped when
they are sent, to the real node in another process, slower than it works. The inference is the time
that the node reports for its estimator (the stages from observe to answer) and for the tracker's
refinement of poses to the shapes of tracks (the stage fits: the estimator's own solver and
certificate). The rest counts: transport, synchronisation, conversion, tracking and the transport of
the transforms. It is reported without and with the fits.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from crisp_ros.data.atomic_file import write_json
from crisp_ros.evaluation.provenance import provenance
from crisp_ros.pipeline import STAGES
from crisp_ros.share import bundled_recording, share_directory


class LatencyError(RuntimeError):
    """The node could not be measured."""


def probe(recording: Path, frames: int, rate_hz: float) -> dict[str, Any]:
    """Run camera and node in a ROS domain of their own; see `crisp_ros.node.player.latency_probe`.

    Raises:
        LatencyError: the probe ended with an error, which it has printed.
    """
    environment = {
        **os.environ,
        "FASTRTPS_DEFAULT_PROFILES_FILE": str(share_directory() / "config" / "fastdds_shm.xml"),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "ROS_DOMAIN_ID": str(os.getpid() % 100 + 1),
    }
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "probe.json"
        words = ("--recording", recording, "--frames", frames, "--rate", rate_hz, "--output")
        command = [sys.executable, "-m", "crisp_ros.node.player.latency_probe", *words, output]
        if subprocess.run([str(word) for word in command], env=environment).returncode != 0:
            raise LatencyError("the latency probe failed; its error is above")
        return json.loads(output.read_text())


def latency(probed: dict[str, Any], rate_hz: float) -> dict[str, Any]:
    """The latency's percentiles, JSON values.

    Args:
        probed: see `crisp_ros.node.player.latency_probe.measured`.
        rate_hz: of the frames.

    Raises:
        LatencyError: less than half of the frames were answered.
    """
    answered = probed["answered"]
    if len(answered) < 0.5 * probed["sent"]:
        raise LatencyError(f"transforms of only {len(answered)} of {probed['sent']} frames")
    total = [frame["transform_ms"] for frame in answered]
    inference = [sum(frame["stage_ms"][name] for name in STAGES) for frame in answered]
    with_fits = [t - i for t, i in zip(total, inference, strict=True)]
    rest = [t - frame["stage_ms"]["fits"] for t, frame in zip(with_fits, answered, strict=True)]
    stages: dict[str, list[float]] = {}
    for frame in answered:
        for name, milliseconds in frame["stage_ms"].items():
            stages.setdefault(name, []).append(milliseconds)
    return {
        "image": probed["image"],
        "rate_hz": rate_hz,
        "frames": probed["sent"],
        "answered": len(answered),
        "objects_median": float(np.median([frame["objects"] for frame in answered])),
        "stamp_to_transform": _percentiles(total),
        "without_inference": _percentiles(rest),
        "without_inference_with_fits": _percentiles(with_fits),
        "stages": {name: _percentiles(values) for name, values in stages.items()},
    }


def _percentiles(values: Sequence[float]) -> dict[str, float]:
    median, p95 = np.percentile(values, (50, 95)).tolist()
    return {"median_ms": round(median, 2), "p95_ms": round(p95, 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--frames", type=int, default=40, help="that are counted (default: 40)")
    parser.add_argument("--rate", type=float, default=1.0, help="frames a second (default: 1)")
    parser.add_argument("--recording", type=Path, help="to send (default: the bundled one)")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    args = parser.parse_args()
    if args.frames < 1 or args.rate <= 0:
        parser.error("--frames and --rate have to be positive")
    recording = bundled_recording(args.recording)
    figures = latency(probe(recording, args.frames, args.rate), args.rate)
    console = Console(highlight=False)
    for name in ("stamp_to_transform", "without_inference", "without_inference_with_fits"):
        median, p95 = figures[name].values()
        console.print(f"{name}: {median} ms median, {p95} ms p95")
    if args.json:
        command = f"python -m crisp_ros.studies.latency --frames {args.frames} --rate {args.rate:g}"
        write_json(args.json, {**provenance(command), **figures})


if __name__ == "__main__":
    main()
