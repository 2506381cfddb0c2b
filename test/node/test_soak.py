"""A camera with many faults, for a long time: the node survives, recovers and counts them all."""

from __future__ import annotations

import json
import os
import platform
import re
import time
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from crisp_ros.msg import ObjectEstimateArray
from diagnostic_msgs.msg import DiagnosticArray
from node.faulty_camera import QUIET_S, RATE_HZ, TOPICS
from node.peer import Peer, node_process
from ros_graph import isolated_node, spin_until

from crisp_ros import __version__
from crisp_ros.node.monitor import DropReason
from crisp_ros.share import share_directory

HERE = Path(__file__).parent
FULL_S = float(os.environ.get("CRISP_SOAK_S", "600"))
RECOVERY_S = 1.0  # in addition to one inference
GROWTH_MB = 20.0
QUEUES_MB = 60.0  # of unmatched images, which grows until the queues are full
UNREADABLE = (
    *("truncated", "empty", "corrupt_encoding", "corrupt_step", "too_much_data"),
    "negative_stamp",
)
ONE_ASTRAY = ("one_from_the_past", "one_from_the_future")
OF_DEPTH = ("oversized", "nan_depth")
PROCESSED = {DropReason.REFUSED.value, DropReason.FAILED.value}
UNMATCHED = ("unmatched", "discarded", "queued")
INPUTS = [f"input {name}" for name in (*TOPICS, "camera_info")]

NODE_ARGUMENTS = [
    *("--log-level", "crisp:=debug"),  # each dropped frame and image, with its stamp
    *("-p", "diagnostic_updater.period:=0.5"),
]
RELIABLE = [
    argument
    for topic in (*TOPICS.values(), "rgb/camera_info")
    for argument in (
        *("-p", f"qos_overrides./{topic}.subscription.reliability:=reliable"),
        *("-p", f"qos_overrides./{topic}.subscription.depth:=30"),
    )
]


def memory_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


class Watch:
    """Records the node's estimates and diagnostics, and its memory once a second."""

    def __init__(self, peer: Peer, pid: int) -> None:
        self.answers: dict[int, float] = {}
        self.inference_s: list[float] = []
        self.memory: list[tuple[float, float]] = []
        self.status: dict[str, dict[str, str]] = {}
        node = peer.node
        node.create_subscription(ObjectEstimateArray, "crisp/objects", self._answer, 100)
        node.create_subscription(DiagnosticArray, "/diagnostics", self._diagnosis, 100)
        node.create_timer(1.0, lambda: self.memory.append((time.time(), memory_mb(pid))))

    def _answer(self, message: ObjectEstimateArray) -> None:
        stamp = message.header.stamp
        self.answers[stamp.sec * 10**9 + stamp.nanosec] = time.time()
        self.inference_s.append(sum(message.stage_ms) / 1e3)

    def _diagnosis(self, message: DiagnosticArray) -> None:
        for status in message.status:
            name = status.name.removeprefix("crisp: ")
            self.status[name] = {v.key: v.value for v in status.values}

    def count(self, status: str, key: str) -> int:
        return int(self.status[status][key])


def drops(log: str) -> dict[tuple[str, int], list[str]]:
    """Reasons of all drops, by "frame" or the input, and the stamp in nanoseconds.

    A frame that is delivered again, as its calibration came late, may be dropped twice.
    """
    causes: dict[tuple[str, int], list[str]] = defaultdict(list)
    entries = re.findall(r"(\w+) (\d+)\.(\d{9}) dropped: ([^\n\x1b]+)", log)
    for what, seconds, nanoseconds, cause in entries:
        causes[what, int(seconds + nanoseconds)].append(cause)
    return causes


def processed(frames: list[dict], log: str) -> Counter[str]:
    """Count the frames of each fault that were processed: matched, and not dropped."""
    gone = drops(log)
    mixed = re.findall(r"frame (\d+)\.(\d{9}) with (\d+)\.(\d{9}) and", log)
    frame_of_depth = {int(s + ns): int(rgb_s + rgb_ns) for rgb_s, rgb_ns, s, ns in mixed}
    found: Counter[str] = Counter()
    for frame in frames:
        name, stamp = "rgb", frame["stamp_ns"]
        if frame["fault"] in OF_DEPTH:
            name, stamp = "depth", frame_of_depth.get(stamp, stamp)
        matched = (name, frame["stamp_ns"]) not in gone
        found[frame["fault"]] += matched and set(gone.get(("frame", stamp), ())) <= PROCESSED
    return found


def recoveries(frames: list[dict], answers: dict[int, float]) -> list[float]:
    """Seconds from the first valid frame after each faulty one to the next estimate."""
    stamps = np.array(sorted(answers))
    found = []
    for before, frame in zip(frames, frames[1:], strict=False):
        if before["fault"] and not frame["fault"]:
            later = stamps[stamps >= frame["stamp_ns"]]
            arrival = min((answers[s] for s in later.tolist()), default=np.inf)
            found.append(arrival - frame["sent"])
    return found


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
@pytest.mark.parametrize(
    "seconds",
    [pytest.param(25.0, marks=pytest.mark.slow), pytest.param(FULL_S, marks=pytest.mark.soak)],
    ids=["short", "full"],
)
def test_faulty_input(seconds: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    profile = share_directory() / "config" / "fastdds_shm.xml"
    monkeypatch.setenv("FASTRTPS_DEFAULT_PROFILES_FILE", str(profile))  # as the launch files do
    monkeypatch.setenv("MALLOC_ARENA_MAX", "2")
    frames_log, node_log = tmp_path / "frames.jsonl", tmp_path / "node.log"
    arguments = ["--ros-args", *NODE_ARGUMENTS, *RELIABLE]
    with isolated_node("peer") as node:
        domain = node.context.get_domain_id()
        with node_process(domain, HERE / "fake_node.py", arguments, node_log) as process:
            peer = Peer(node)
            peer.wait(lambda: peer.is_up() or process.poll() is not None, 180.0)
            peer.start()
            watch = Watch(peer, process.pid)
            sent = [str(seconds), str(frames_log)]
            with node_process(domain, HERE / "faulty_camera.py", sent) as camera:
                ended = spin_until(node, lambda: camera.poll() is not None, seconds + 120.0)
                assert ended and camera.returncode == 0
            assert process.poll() is None, node_log.read_text()[-3000:]
            watch.status.clear()
            peer.wait(lambda: {"synchronisation", "frames", *INPUTS} <= set(watch.status))
        assert process.returncode == 0

    frames = [json.loads(line) for line in frames_log.read_text().splitlines()]
    faults = Counter(frame["fault"] for frame in frames if frame["fault"])
    sent_messages = sum((Counter(frame["messages"]) for frame in frames), Counter())
    images = {name: watch.status[f"input {name}"] for name in TOPICS}
    counts = {name: int(count) for name, count in watch.status["frames"].items()}
    unmatched = {
        name: {key: watch.count("synchronisation", f"{name} {key}") for key in UNMATCHED}
        for name in TOPICS
    }
    gone = drops(node_log.read_text())
    in_transit = sum(sent_messages[name] - int(images[name]["messages"]) for name in TOPICS)
    jumps = watch.count("synchronisation", "time jumps")
    refused = sum(int(values["refused"]) for values in images.values())
    disordered = sum(int(values["out of order"]) for values in images.values())
    outliers = sum(int(values["outlier stamps"]) for values in images.values())
    recovery = recoveries(frames, watch.answers)
    inference_s = float(np.median(watch.inference_s))
    start, end = frames[0]["sent"], frames[-1]["sent"]
    early = [mb for t, mb in watch.memory if start + 0.2 * seconds < t < start + 0.4 * seconds]
    final = [mb for t, mb in watch.memory if end - 0.2 * seconds < t < end]
    growth_mb = float(np.median(final) - np.median(early))
    report = {
        "command": f"CRISP_SOAK_S={seconds:g} make soak",
        "version": __version__,
        "seconds": round(end - start, 1),
        "frames": len(frames),
        "rate_hz": round(len(frames) / (end - start), 1),
        "answered": len(watch.answers),
        "faults": dict(sorted(faults.items())),
        "refused": refused,
        "odd": watch.count("input depth", "unusual"),
        "refused_camera_info": watch.count("input camera_info", "refused"),
        "out_of_order": disordered,
        "set_aside": outliers,
        "frames_by_fate": counts,
        "images_without_partners": unmatched,
        "lost_in_transport": in_transit,
        "time_jumps": jumps,
        "inference_median_s": round(inference_s, 4),
        "recovery_median_s": round(float(np.median(recovery)), 4),
        "recovery_max_s": round(max(recovery), 4),
        "memory_settled_mb": round(float(np.median(early)), 1),
        "memory_end_mb": round(float(np.median(final)), 1),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }
    print(json.dumps(report, indent=1))
    if "CRISP_SOAK_JSON" in os.environ:
        Path(os.environ["CRISP_SOAK_JSON"]).write_text(json.dumps(report, indent=1) + "\n")

    # Nothing crashed, not even a callback.
    assert "Traceback" not in node_log.read_text()
    assert len(frames) > 0.8 * RATE_HZ * seconds and sum(faults.values()) > 0.1 * len(frames)
    assert max(recovery) < inference_s + RECOVERY_S
    last_good = [frame for frame in frames if frame["sent"] > end - QUIET_S / 2]
    assert any(frame["stamp_ns"] in watch.answers for frame in last_good)
    assert growth_mb < (GROWTH_MB if seconds > 100 else QUEUES_MB)
    # Every frame and every image has one result.
    assert in_transit == 0
    assert counts["in progress"] == 0
    assert counts["estimated"] == len(watch.answers)
    causes = [cause for (what, _), all in gone.items() if what == "frame" for cause in all]
    assert Counter(causes) == {c.value: counts[c.value] for c in DropReason if counts[c.value]}
    for name in TOPICS:
        logged = sum(len(g) for (what, _), g in gone.items() if what == name)
        found = logged + unmatched[name]["queued"]
        assert found == int(images[name]["outlier stamps"]) + sum(unmatched[name].values())
    # Every fault is counted; faults of whole frames only where the frame is processed.
    seen = processed(frames, node_log.read_text())
    unreadable = sum(faults[name] for name in UNREADABLE)
    assert refused == unreadable + seen["oversized"]
    assert report["odd"] == seen["nan_depth"]
    assert counts["failed"] == seen["failing_estimator"]
    assert counts["refused"] == seen["oversized"] + report["refused_camera_info"]
    # A calibration that comes later than its images is used for theirs and for the next ones.
    late = counts["redelivered with a new calibration"]
    assert 0 <= report["refused_camera_info"] - seen["uncalibrated"] <= late
    astray = sum(faults[name] for name in ONE_ASTRAY)
    assert disordered <= 3 * faults["out_of_order"]
    assert outliers <= astray
    # Of frames from the past in a row, the first jumps; two single messages may seem to.
    before = ["", *(frame["fault"] for frame in frames)]
    back = sum(
        frame["fault"] == "jump_back" != last for frame, last in zip(frames, before, strict=False)
    )
    assert back <= jumps <= back + astray
