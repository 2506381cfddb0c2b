"""What the node remembers of its inputs and its work, to report it."""

from __future__ import annotations

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
_FITS = 30  # frames that tell whether objects fail together


class LeftOut(Enum):
    """Why a frame, all of whose images came, was not estimated."""

    LATE = "older than the last"
    UNCALIBRATED = "without camera_info"
    SWITCHED_OFF = "switched off"
    DROPPED = "dropped for newer"
    JUMPED = "from before a time jump"
    REFUSED = "refused"
    FAILED = "failed"
    PLACELESS = "without the camera's place"
    STOPPED = "deactivated"


# Causes for which a frame ends whose estimation may have begun.
_ENDS_WORK = {LeftOut.JUMPED, LeftOut.STOPPED, LeftOut.FAILED, LeftOut.PLACELESS}


class Awaited(NamedTuple):
    """The resolved topic on which an input is awaited, and the type of its messages."""

    topic: str
    type_name: str


@dataclass
class InputRecord:
    """One input.

    Attributes:
        topic: resolved name.
        type_name: of its messages, such as sensor_msgs/msg/Image.
        count: messages so far.
        arrivals: monotonic times of the latest, seconds.
        delays: of the latest, from their stamp to their arrival, seconds.
        first_wanted: monotonic time since which messages are waited for, or None when they are not.
        stamp: of the latest, seconds.
        encoding, size: of the latest.
        frame_id: of the latest.
        incompatible_qos: policy because of which a publisher could not be joined, or "".
        fault: why the latest could not be used, or "".
        faults: how many could not, or made a frame unusable.
        unreadable: how many of these could not be read at all.
        warning: what is odd about the latest, or "".
        oddities: how many were odd.
        out_of_order: how many were a little older than one that came before.
        set_aside: how many had a stamp so far off that they were set aside.
        lost: how many the middleware lost.
        lonely: how many were given up without having found partners.
        forgotten: how many waited for partners when time jumped back or the node stopped.
    """

    topic: str
    type_name: str = ""
    count: int = 0
    arrivals: deque[float] = field(default_factory=lambda: deque(maxlen=500))
    delays: deque[float] = field(default_factory=lambda: deque(maxlen=_DELAYS))
    first_wanted: float | None = None
    stamp: float = 0.0
    encoding: str = ""
    size: str = ""
    frame_id: str = ""
    incompatible_qos: str = ""
    fault: str = ""
    faults: int = 0
    unreadable: int = 0
    warning: str = ""
    oddities: int = 0
    out_of_order: int = 0
    set_aside: int = 0
    lost: int = 0
    lonely: int = 0
    forgotten: int = 0

    def waiting(self, sets: int) -> int:
        """How many wait for partners, of which so many sets were found."""
        gone = self.unreadable + self.set_aside + self.lonely + self.forgotten
        return self.count - gone - sets

    def rate(self, now: float) -> float:
        """Messages a second over the last seconds."""
        return rate(self.arrivals, now)

    @property
    def delay(self) -> float:
        """The median delay of the latest messages, seconds."""
        return statistics.median(self.delays) if self.delays else 0.0

    def silent_s(self, now: float) -> float:
        """Seconds without a message since the latest, or since they are waited for."""
        if self.first_wanted is None:
            return 0.0
        since = max(self.first_wanted, self.arrivals[-1] if self.arrivals else 0.0)
        return now - since


class StageTime(NamedTuple):
    """Median and 95th percentile of a stage's time over the latest frames, milliseconds."""

    median_ms: float
    p95_ms: float


class Fit(NamedTuple):
    """How an object's depth fits its estimate: beyond the certificate's threshold or not, and how
    large the object is by its depth over how large the network takes it to be, NaN if unknown."""

    fails: bool
    size_ratio: float


@dataclass
class WorkRecord:
    """What became of the frames.

    Attributes:
        sets: times that messages of all inputs came together.
        set_times: monotonic times of the latest, seconds.
        repeated: frames that were handed on again, as their calibration came later.
        frames: estimated so far.
        left_out: frames that were not, by the cause.
        time_jumps: times that the stamps jumped back.
        ended: monotonic time at which the latest frame was estimated or failed, or since which
            frames are waited for, seconds.
        begun: at which the estimation of the frame in work began, or None.
        last_error: why the latest failed, "" if it did not.
        estimate: the latest since frames are waited for, or None.
        ids: of its objects.
        tracks: all that the tracker follows, seen in the latest frame or not.
        fits: of the objects of the latest frames.
        latencies: from the stamps of the latest frames to their publication, seconds.
        stages: milliseconds a stage of the latest frames.
    """

    sets: int = 0
    set_times: deque[float] = field(default_factory=lambda: deque(maxlen=500))
    repeated: int = 0
    frames: int = 0
    left_out: Counter[LeftOut] = field(default_factory=Counter)
    time_jumps: int = 0
    ended: float = 0.0
    begun: float | None = None
    last_error: str = ""
    estimate: FrameEstimate | None = None
    ids: tuple[str, ...] = ()
    tracks: tuple[TrackedObject, ...] = ()
    fits: deque[tuple[Fit, ...]] = field(default_factory=lambda: deque(maxlen=_FITS))
    latencies: deque[float] = field(default_factory=lambda: deque(maxlen=_FRAMES))
    stages: dict[str, deque[float]] = field(default_factory=dict)

    @property
    def in_work(self) -> int:
        """Frames whose fate is open."""
        return self.sets + self.repeated - self.frames - self.left_out.total()

    def stage_times(self) -> dict[str, StageTime]:
        """Of every stage, in order."""
        return {
            name: StageTime(*np.percentile(values, (50, 95)).tolist())
            for name, values in self.stages.items()
        }


class Monitor:
    """All records; written by the executor's thread and by the worker's, so under one lock."""

    def __init__(self, topics: dict[str, str]) -> None:
        """`topics`: resolved topic of each input's name."""
        self.lock = threading.RLock()
        self.inputs = {name: InputRecord(topic) for name, topic in topics.items()}
        self.work = WorkRecord()

    def received(
        self, name: str, stamp: float, delay: float, frame_id: str, encoding: str, size: str
    ) -> None:
        """Notes a message of an input; see `InputRecord`."""
        with self.lock:
            record = self.inputs[name]
            record.count += 1
            record.arrivals.append(time.monotonic())
            record.delays.append(delay)
            record.stamp, record.frame_id = stamp, frame_id
            record.encoding, record.size = encoding, size
            record.incompatible_qos = ""

    def lost(self, name: str, total: int) -> None:
        """Notes how many messages of an input the middleware has lost."""
        with self.lock:
            self.inputs[name].lost = total

    def unreadable(self, name: str, reason: str) -> None:
        """Notes that a message cannot be read."""
        with self.lock:
            self.inputs[name].unreadable += 1
            self.refused(name, reason)

    def refused(self, name: str, reason: str) -> None:
        """Notes that a message, or a frame because of it, cannot be used."""
        with self.lock:
            self.inputs[name].fault = reason
            self.inputs[name].faults += 1

    def set_aside(self, name: str) -> None:
        """Notes a message whose stamp is far from those of all others."""
        with self.lock:
            self.inputs[name].set_aside += 1

    def lonely(self, name: str) -> None:
        """Notes a message that goes without having found partners."""
        with self.lock:
            self.inputs[name].lonely += 1

    def forgotten(self, name: str) -> None:
        """Notes a message that still waited for partners when all were forgotten."""
        with self.lock:
            self.inputs[name].forgotten += 1

    def put_together(self) -> None:
        """Notes that messages of all inputs came together."""
        with self.lock:
            self.work.sets += 1
            self.work.set_times.append(time.monotonic())

    def repeated(self) -> None:
        """Notes that a frame is handed on once more."""
        with self.lock:
            self.work.repeated += 1

    def left_out(self, cause: LeftOut) -> None:
        """Notes a frame that is not estimated."""
        with self.lock:
            self.work.left_out[cause] += 1
            if cause in _ENDS_WORK:
                self.work.begun = None

    def accepted(self, warnings: Mapping[str, str]) -> None:
        """Notes that a frame can be used, and what is odd about it by the input's name."""
        with self.lock:
            for name, record in self.inputs.items():
                record.fault = ""
                record.warning = warnings.get(name, "")
                record.oddities += bool(record.warning)
            self.work.begun = time.monotonic()

    def estimated(
        self,
        estimate: FrameEstimate,
        ids: tuple[str, ...],
        stage_ms: dict[str, float],
        latency_s: float,
    ) -> None:
        """Notes a frame's result; see `WorkRecord`."""
        with self.lock:
            work = self.work
            work.ended, work.begun = time.monotonic(), None
            work.frames += 1
            work.estimate, work.ids = estimate, ids
            work.latencies.append(latency_s)
            fits = (Fit(o.residual_m > o.threshold_m, o.size_ratio) for o in estimate.objects)
            work.fits.append(tuple(fits))
            work.last_error = ""
            for name, milliseconds in stage_ms.items():
                work.stages.setdefault(name, deque(maxlen=_FRAMES)).append(milliseconds)

    def tracked(self, tracks: tuple[TrackedObject, ...]) -> None:
        """Notes what the tracker follows."""
        with self.lock:
            self.work.tracks = tracks

    def failed(self, reason: str) -> None:
        """Notes why work failed within the node."""
        with self.lock:
            self.work.ended, self.work.begun = time.monotonic(), None
            self.work.last_error = reason

    def await_inputs(self, awaited: Mapping[str, Awaited] | None) -> None:
        """Starts to count silence against the inputs, by their names; or, with None, stops.

        What the latest frames told is forgotten.
        """
        with self.lock:
            now = time.monotonic() if awaited is not None else None
            for name, record in self.inputs.items():
                if awaited is not None:
                    record.topic, record.type_name = awaited[name]
                record.first_wanted = now
                record.arrivals.clear()
                record.delays.clear()
                record.fault = record.warning = record.incompatible_qos = ""
            work = self.work
            work.ended, work.begun = time.monotonic(), None
            work.estimate, work.ids, work.tracks, work.last_error = None, (), (), ""
            for of_frames in (work.set_times, work.fits, work.latencies, work.stages):
                of_frames.clear()


def rate(times: Iterable[float], now: float) -> float:
    """Events a second over the last seconds."""
    recent = [t for t in times if now - t <= _WINDOW_S]
    if len(recent) < 2:
        return 0.0
    return (len(recent) - 1) / max(recent[-1] - recent[0], 1e-6)
