"""Records of the inputs and of the processed frames, for diagnostics."""

from __future__ import annotations

import math
import statistics
import threading
import time
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

import numpy as np

from crisp_ros.pipeline import FrameEstimate
from crisp_ros.tracking.track import TrackedObject

_WINDOW_S = 5.0  # over which rates are measured
_FRAMES = 100  # over which medians are taken
_DELAYS = 30  # of which the median is taken
_FITS = 30  # frames over which common causes of failing objects are searched


class DropReason(Enum):
    """Why a complete frame was not estimated."""

    OUT_OF_ORDER = "older than the last"
    UNCALIBRATED = "without camera_info"
    DISABLED = "disabled by ~/enable"
    SUPERSEDED = "superseded by a newer one"
    TIME_JUMP = "from before a time jump"
    REFUSED = "refused"
    FAILED = "failed"
    NO_TRANSFORM = "without camera transform"
    DEACTIVATED = "deactivated"


# Reasons for which a frame is dropped whose estimation may have started.
_ENDS_WORK = {
    DropReason.TIME_JUMP,
    DropReason.DEACTIVATED,
    DropReason.FAILED,
    DropReason.NO_TRANSFORM,
}


class ExpectedInput(NamedTuple):
    """An input that is subscribed to.

    Attributes:
        topic: resolved name.
        type_name: of its messages, such as sensor_msgs/msg/Image.
    """

    topic: str
    type_name: str


@dataclass
class InputRecord:
    """Record of one input.

    Attributes:
        topic: resolved name.
        type_name: of its messages, such as sensor_msgs/msg/Image.
        count: messages so far.
        arrivals: monotonic times of the latest messages, seconds.
        delays: of the latest messages, from stamp to arrival, seconds.
        expected_since: monotonic time of the subscription, None without one.
        stamp: of the latest message, seconds.
        encoding: of the latest message.
        size: of the latest message.
        frame_id: of the latest message.
        incompatible_qos: QoS policy that rules out a publisher, or "".
        fault: why the latest message could not be used, or "".
        faults: number of messages that could not be used, or made a frame unusable.
        unreadable: number of these that could not be read at all.
        warning: what is unusual about the latest message, or "".
        warnings: number of messages with a warning.
        out_of_order: number of messages slightly older than an earlier one.
        outlier_stamps: number of messages dropped because no other stamp agreed with theirs.
        lost: number of messages that the middleware lost.
        unmatched: number of messages dropped without a match.
        discarded: number of queued messages dropped at a time jump or deactivation.
    """

    topic: str
    type_name: str = ""
    count: int = 0
    arrivals: deque[float] = field(default_factory=lambda: deque(maxlen=500))
    delays: deque[float] = field(default_factory=lambda: deque(maxlen=_DELAYS))
    expected_since: float | None = None
    stamp: float = 0.0
    encoding: str = ""
    size: str = ""
    frame_id: str = ""
    incompatible_qos: str = ""
    fault: str = ""
    faults: int = 0
    unreadable: int = 0
    warning: str = ""
    warnings: int = 0
    out_of_order: int = 0
    outlier_stamps: int = 0
    lost: int = 0
    unmatched: int = 0
    discarded: int = 0

    def queued(self, sets: int) -> int:
        """Count the messages that have no match so far, given the number of matched sets."""
        dropped = self.unreadable + self.outlier_stamps + self.unmatched + self.discarded
        return self.count - dropped - sets

    def rate(self, now: float) -> float:
        """Message rate over the last seconds, Hz."""
        return rate(self.arrivals, now)

    @property
    def delay(self) -> float:
        """Median delay of the latest messages, seconds."""
        return statistics.median(self.delays) if self.delays else 0.0

    def silent_s(self, now: float) -> float:
        """Seconds since the latest message, or since the subscription."""
        if self.expected_since is None:
            return 0.0
        since = max(self.expected_since, self.arrivals[-1] if self.arrivals else 0.0)
        return now - since


class StageTime(NamedTuple):
    """Duration of a stage over the latest frames, milliseconds."""

    median_ms: float
    p95_ms: float


class ModelStatus(NamedTuple):
    """The model in use.

    Attributes:
        values: to show, by name.
        problem: why there is no model, or "".
    """

    values: dict[str, str]
    problem: str


class Fit(NamedTuple):
    """Agreement of an object's depth with its estimate.

    Attributes:
        fails: whether the residual exceeds the certificate's threshold.
        size_ratio: size by depth over size by the network, NaN if unknown.
        depth_scale: see `ObjectEstimate`.
    """

    fails: bool
    size_ratio: float
    depth_scale: float = math.nan


@dataclass
class WorkRecord:
    """Record of the processed frames.

    Attributes:
        sets: number of matched sets of images.
        set_times: monotonic times of the latest sets, seconds.
        redelivered: number of frames delivered again, as their calibration arrived later.
        frames: number of estimated frames.
        dropped: number of frames that were not estimated, by reason.
        time_jumps: number of backward jumps of the stamps.
        last_end: monotonic time at which the latest frame was estimated or failed, or of the
            subscription, seconds.
        started: monotonic time at which the estimation of the current frame started, or None.
        last_error: why the latest frame failed, "" if it did not.
        estimate: the latest since the subscription, or None.
        ids: of its objects.
        tracks: all current tracks, seen in the latest frame or not.
        fits: of the objects of the latest frames.
        latencies: from the stamps of the latest frames to their publication, seconds.
        stages: durations by stage of the latest frames, milliseconds.
    """

    sets: int = 0
    set_times: deque[float] = field(default_factory=lambda: deque(maxlen=500))
    redelivered: int = 0
    frames: int = 0
    dropped: Counter[DropReason] = field(default_factory=Counter)
    time_jumps: int = 0
    last_end: float = 0.0
    started: float | None = None
    last_error: str = ""
    estimate: FrameEstimate | None = None
    ids: tuple[str, ...] = ()
    tracks: tuple[TrackedObject, ...] = ()
    fits: deque[tuple[Fit, ...]] = field(default_factory=lambda: deque(maxlen=_FITS))
    latencies: deque[float] = field(default_factory=lambda: deque(maxlen=_FRAMES))
    stages: dict[str, deque[float]] = field(default_factory=dict)

    @property
    def in_progress(self) -> int:
        """Number of frames that are neither estimated nor dropped yet."""
        return self.sets + self.redelivered - self.frames - self.dropped.total()

    def stage_times(self) -> dict[str, StageTime]:
        """Durations by stage, in order."""
        return {
            name: StageTime(*np.percentile(values, (50, 95)).tolist())
            for name, values in self.stages.items()
        }


class Monitor:
    """All records, under one lock: the executor's thread and the worker's write them.

    Attributes:
        lock: held while records are read or written.
        inputs: records by the name of the input.
        work: record of the frames.
        model: the model in use.
        cpu_threads: of the worker's thread; 0 before its start.
    """

    def __init__(self, topics: dict[str, str]) -> None:
        """Create empty records.

        Args:
            topics: resolved topics by the name of the input.
        """
        self.lock = threading.RLock()
        self.inputs = {name: InputRecord(topic) for name, topic in topics.items()}
        self.work = WorkRecord()
        self.model = ModelStatus({}, "")
        self.cpu_threads = 0

    @property
    def input_problem(self) -> str:
        """Why the latest images could not be used, "" if they could."""
        with self.lock:
            faults = {name: r.fault for name, r in self.inputs.items() if r.fault}
        return "; ".join(f"{name}: {fault}" for name, fault in faults.items())

    def record_message(
        self, name: str, stamp: float, delay: float, frame_id: str, encoding: str, size: str
    ) -> None:
        """Record a message of an input; see `InputRecord`."""
        with self.lock:
            record = self.inputs[name]
            record.count += 1
            record.arrivals.append(time.monotonic())
            record.delays.append(delay)
            record.stamp, record.frame_id = stamp, frame_id
            record.encoding, record.size = encoding, size
            record.incompatible_qos = ""

    def record_lost(self, name: str, total: int) -> None:
        """Record the number of messages of an input that the middleware has lost."""
        with self.lock:
            self.inputs[name].lost = total

    def record_unreadable(self, name: str, reason: str) -> None:
        """Record an unreadable message."""
        with self.lock:
            self.inputs[name].unreadable += 1
            self.record_refused(name, reason)

    def record_refused(self, name: str, reason: str) -> None:
        """Record that a message, or a frame because of it, cannot be used."""
        with self.lock:
            self.inputs[name].fault = reason
            self.inputs[name].faults += 1

    def record_outlier_stamp(self, name: str) -> None:
        """Record a message whose stamp is far from all others."""
        with self.lock:
            self.inputs[name].outlier_stamps += 1

    def record_unmatched(self, name: str) -> None:
        """Record a message that is dropped without a match."""
        with self.lock:
            self.inputs[name].unmatched += 1

    def record_discarded(self, name: str) -> None:
        """Record a queued message that is dropped with its queue."""
        with self.lock:
            self.inputs[name].discarded += 1

    def record_set(self) -> None:
        """Record a matched set of images."""
        with self.lock:
            self.work.sets += 1
            self.work.set_times.append(time.monotonic())

    def record_redelivery(self) -> None:
        """Record that a frame is delivered again."""
        with self.lock:
            self.work.redelivered += 1

    def record_drop(self, reason: DropReason) -> None:
        """Record a frame that is not estimated."""
        with self.lock:
            self.work.dropped[reason] += 1
            if reason in _ENDS_WORK:
                self.work.started = None

    def record_accepted(self, warnings: Mapping[str, str]) -> None:
        """Record a usable frame, with warnings by the name of the input."""
        with self.lock:
            for name, record in self.inputs.items():
                record.fault = ""
                record.warning = warnings.get(name, "")
                record.warnings += bool(record.warning)
            self.work.started = time.monotonic()

    def record_estimate(
        self,
        estimate: FrameEstimate,
        ids: tuple[str, ...],
        stage_ms: dict[str, float],
        latency_s: float,
    ) -> None:
        """Record the result of a frame; see `WorkRecord`."""
        with self.lock:
            work = self.work
            work.last_end, work.started = time.monotonic(), None
            work.frames += 1
            work.estimate, work.ids = estimate, ids
            work.latencies.append(latency_s)
            work.fits.append(
                tuple(
                    Fit(o.residual_m > o.threshold_m, o.size_ratio, o.depth_scale)
                    for o in estimate.objects
                )
            )
            work.last_error = ""
            for name, milliseconds in stage_ms.items():
                work.stages.setdefault(name, deque(maxlen=_FRAMES)).append(milliseconds)

    def record_tracks(self, tracks: tuple[TrackedObject, ...]) -> None:
        """Record the current tracks."""
        with self.lock:
            self.work.tracks = tracks

    def record_failure(self, reason: str) -> None:
        """Record an error of the node itself."""
        with self.lock:
            self.work.last_end, self.work.started = time.monotonic(), None
            self.work.last_error = reason

    def expect_inputs(self, expected: Mapping[str, ExpectedInput] | None) -> None:
        """Start to report silence of the inputs, by their names; with None, stop.

        The records of the latest frames are cleared.
        """
        with self.lock:
            now = time.monotonic() if expected is not None else None
            for name, record in self.inputs.items():
                if expected is not None:
                    record.topic, record.type_name = expected[name]
                record.expected_since = now
                record.arrivals.clear()
                record.delays.clear()
                record.fault = record.warning = record.incompatible_qos = ""
            work = self.work
            work.last_end, work.started = time.monotonic(), None
            work.estimate, work.ids, work.tracks, work.last_error = None, (), (), ""
            for records in (work.set_times, work.fits, work.latencies, work.stages):
                records.clear()


def rate(times: Iterable[float], now: float) -> float:
    """Rate of events over the last seconds, Hz."""
    recent = [t for t in times if now - t <= _WINDOW_S]
    if len(recent) < 2:
        return 0.0
    return (len(recent) - 1) / max(recent[-1] - recent[0], 1e-6)
