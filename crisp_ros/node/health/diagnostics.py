"""Diagnostics of the node: inputs, synchronisation, clock, estimates, timing and model."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import torch
from diagnostic_msgs.msg import DiagnosticStatus
from diagnostic_updater import DiagnosticStatusWrapper, Updater
from rclpy.clock import Clock, ClockType
from rclpy.node import Node

from crisp_ros.data.depth_units import explain_scale, scale_by_widths, unit_by_sizes, unit_in_use
from crisp_ros.node.health.input_diagnosis import (
    Summary,
    clock_summary,
    input_summary,
    synchronisation_summary,
)
from crisp_ros.node.monitor import DropReason, Fit, Monitor, WorkRecord
from crisp_ros.node.node_state import NodeState
from crisp_ros.node.parameters.node_parameters import Parameters
from crisp_ros.node.parameters.parameter_values import find_device

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR

Report = Callable[[DiagnosticStatusWrapper], DiagnosticStatusWrapper]

_LISTED = 50  # labels without estimate that are listed
_FRAMES = 10  # fewest frames with several objects, to search for common causes
_SHARED = 0.8  # share of failing objects that suggests a common cause
_SIZE_TOLERANCE = 0.2  # relative error of the sizes that the network estimates
_STANDSTILL_S = 2.0
_REMINDER_S = 60.0


class Diagnostics:
    """Publisher of the node's state, once a second, in all lifecycle states."""

    def __init__(
        self,
        node: Node,
        monitor: Monitor,
        parameters: Callable[[], Parameters],
        state: NodeState,
    ) -> None:
        """Start to publish.

        Args:
            node: provides the clock, the graph and the name.
            monitor: records to report.
            parameters: returns the current values.
            state: of the node.
        """
        self._node = node
        self._monitor = monitor
        self._parameters = parameters
        self._state = state
        updater = Updater(node)
        updater.setHardwareID("none")
        for name in monitor.inputs:
            updater.add(f"input {name}", partial(self._input, name))
        updater.add("synchronisation", self._synchronisation)
        updater.add("frames", self._frames)
        updater.add("stream", self._stream)
        updater.add("clock", self._clock)
        # Silence is a fault of the two statuses on what is published, information in the others.
        updater.add("estimates", self._of_frames(self._estimates))
        updater.add("tracks", self._of_frames(self._tracks))
        updater.add("depth scale and registration", self._of_frames(self._agreement, OK))
        updater.add("timing", self._of_frames(self._timing, OK))
        updater.add("device", self._device)
        updater.add("model", self._model)
        self._updater = updater
        # The updater's timer follows the node's clock. Without /clock it never fires, and the
        # missing /clock would not be reported.
        self._ros_time = (0, 0.0)  # nanoseconds, and monotonic time of its change, seconds
        node.create_timer(1.0, self._watch_time, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def add(self, name: str, report: Report) -> None:
        """Add a status."""
        self._updater.add(name, report)

    def update(self) -> None:
        """Publish now."""
        self._updater.update()

    def _watch_time(self) -> None:
        now = self._node.get_clock().now().nanoseconds
        if now != self._ros_time[0]:
            self._ros_time = (now, time.monotonic())
        elif time.monotonic() - self._ros_time[1] > _STANDSTILL_S:
            self.update()

    def _input(self, name: str, stat: DiagnosticStatusWrapper) -> DiagnosticStatusWrapper:
        with self._monitor.lock:
            record = self._monitor.inputs[name]
            now = time.monotonic()
            timeout_s = self._parameters().input_timeout
            level, text = input_summary(self._node, name, record, timeout_s, now)
            if record.expected_since is None:
                text = f"{text}: the node is {self._state.label}"
            stat.summary(level, text)
            _add_all(
                stat,
                {
                    "topic": record.topic,
                    "publishers": self._node.count_publishers(record.topic),
                    "messages": record.count,
                    "rate (Hz)": f"{record.rate(now):.1f}",
                    "delay (s)": f"{record.delay:.3f}",
                    "encoding": record.encoding,
                    "size": record.size,
                    "frame_id": record.frame_id,
                    "refused": record.faults,
                    "unusual": record.warnings,
                    "out of order": record.out_of_order,
                    "outlier stamps": record.outlier_stamps,
                    "lost in transport": record.lost,
                },
            )
        return stat

    def _synchronisation(self, stat: DiagnosticStatusWrapper) -> DiagnosticStatusWrapper:
        parameters = self._parameters()
        with self._monitor.lock:
            work, now = self._monitor.work, time.monotonic()
            images = {n: r for n, r in self._monitor.inputs.items() if n != "camera_info"}
            stamps = [r.stamp for r in images.values()]
            if self._state.label == "active":
                times, slop_s = list(work.set_times), parameters.sync_slop
                stat.summary(
                    *synchronisation_summary(images, times, slop_s, parameters.input_timeout, now)
                )
            else:
                stat.summary(OK, f"the node is {self._state.label}")
            _add_all(
                stat,
                {
                    "sets": work.sets,
                    "stamp spread (s)": f"{max(stamps) - min(stamps):.3f}",
                    "time jumps": work.time_jumps,
                },
            )
            for name, record in images.items():
                stat.add(f"{name} unmatched", str(record.unmatched))
                stat.add(f"{name} discarded", str(record.discarded))
                stat.add(f"{name} queued", str(record.queued(work.sets)))
        return stat

    def _frames(self, stat: DiagnosticStatusWrapper) -> DiagnosticStatusWrapper:
        with self._monitor.lock:
            work = self._monitor.work
            dropped = work.dropped
            text = f"{work.frames} frames estimated, {dropped.total()} dropped"
            if dropped:
                (reason, count), *_ = dropped.most_common(1)
                text += f", mostly {reason.value}: {count}"
            stat.summary(OK, text)
            counts = {"estimated": work.frames}
            counts |= {reason.value: dropped[reason] for reason in DropReason}
            counts |= {
                "redelivered with a new calibration": work.redelivered,
                "in progress": work.in_progress,
            }
        _add_all(stat, counts)
        return stat

    def _stream(self, stat: DiagnosticStatusWrapper) -> DiagnosticStatusWrapper:
        notes = [] if self._state.label == "active" else [f"the node is {self._state.label}"]
        if not self._state.is_enabled:
            notes.append("disabled by ~/enable; ~/estimate works")
        stat.summary(OK, "; ".join(notes) or "frames are estimated as they arrive")
        return stat

    def _of_frames(self, report: Report, level: bytes | None = None) -> Report:
        """Wrap a report on frames: without a recent frame it reports the silence instead.

        Args:
            report: on the latest frames.
            level: overrides the level of the silence.
        """

        def report_or_silence(stat: DiagnosticStatusWrapper) -> DiagnosticStatusWrapper:
            with self._monitor.lock:
                found = self._silence()
            if found is None:
                return report(stat)
            stat.summary(found[0] if level is None else level, found[1])
            return stat

        return report_or_silence

    def _silence(self) -> Summary | None:
        if self._state.label != "active":
            return OK, f"the node is {self._state.label}"
        timeout_s = self._parameters().input_timeout
        return silence(self._monitor.work, self._state.is_enabled, timeout_s, time.monotonic())

    def _clock(self, stat: DiagnosticStatusWrapper) -> DiagnosticStatusWrapper:
        with self._monitor.lock:
            rgb = self._monitor.inputs["rgb"]
            stat.summary(*clock_summary(self._node, rgb.delay if rgb.delays else None))
        stat.add("use_sim_time", str(self._node.get_clock().ros_time_is_active))
        return stat

    def _estimates(self, stat: DiagnosticStatusWrapper) -> DiagnosticStatusWrapper:
        with self._monitor.lock:
            work = self._monitor.work
            objects = work.estimate.objects if work.estimate else ()
            rejected = work.estimate.rejected if work.estimate else ()
            uncertified = {
                id: e.reason for id, e in zip(work.ids, objects, strict=True) if not e.certified
            }
            if work.last_error:
                stat.summary(ERROR, work.last_error)
            elif uncertified or rejected:
                rejections = (f"label {r.label}: {r.reason}" for r in rejected[:3])
                reasons = [*uncertified.values(), *rejections]
                stat.summary(
                    WARN,
                    f"{len(uncertified)} of {len(objects)} without certificate, "
                    f"{len(rejected)} labels without estimate: {'; '.join(reasons[:3])}",
                )
            else:
                stat.summary(OK, f"{len(objects)} objects, all certified")
            for id, estimate in zip(work.ids, objects, strict=True):
                if estimate.certified and not estimate.orientation_certified:
                    stat.add(f"orientation of {id}", estimate.orientation_reason)
            for id, reason in uncertified.items():
                stat.add(f"uncertified {id}", reason)
            for label, reason in rejected[:_LISTED]:
                stat.add(f"rejected label {label}", reason)
        return stat

    def _tracks(self, stat: DiagnosticStatusWrapper) -> DiagnosticStatusWrapper:
        with self._monitor.lock:
            tracks = self._monitor.work.tracks
        seen = sum(track.seen for track in tracks)
        certified = sum(track.estimate.certified for track in tracks)
        stat.summary(OK, f"{len(tracks)} tracks, {seen} seen, {certified} certified now")
        for track in tracks:
            stat.add(
                track.id,
                f"{track.state.value}, {track.detections} detections, shape {track.mesh_version} "
                f"from {track.views_used} views",
            )
        return stat

    def _agreement(self, stat: DiagnosticStatusWrapper) -> DiagnosticStatusWrapper:
        with self._monitor.lock:
            fits = list(self._monitor.work.fits)
            encoding = self._monitor.inputs["depth"].encoding
        unit_m = unit_in_use(encoding, self._parameters().depth_unit)
        level, text, values = agreement(fits, unit_m)
        if "suggested depth_unit" in values:
            self._node.get_logger().warning(text, throttle_duration_sec=_REMINDER_S)
        stat.summary(level, text)
        _add_all(stat, values)
        return stat

    def _timing(self, stat: DiagnosticStatusWrapper) -> DiagnosticStatusWrapper:
        with self._monitor.lock:
            work = self._monitor.work
            stages, latencies = work.stage_times(), list(work.latencies)
        if not latencies:
            stat.summary(OK, "no frame yet")
            return stat
        median, p95 = np.percentile(latencies, (50, 95))
        stat.summary(OK, f"{median:.3f} s from stamp to publication")
        stat.add("median latency (s)", f"{median:.3f}")
        stat.add("p95 latency (s)", f"{p95:.3f}")
        for name, stage in stages.items():
            stat.add(f"median {name} (ms)", f"{stage.median_ms:.1f}")
            stat.add(f"p95 {name} (ms)", f"{stage.p95_ms:.1f}")
        return stat

    def _device(self, stat: DiagnosticStatusWrapper) -> DiagnosticStatusWrapper:
        values = device_values(find_device(self._parameters().device))
        stat.summary(OK, values["device"])
        _add_all(stat, {"CPU threads": self._monitor.cpu_threads or "none yet", **values})
        return stat

    def _model(self, stat: DiagnosticStatusWrapper) -> DiagnosticStatusWrapper:
        if self._monitor.model.problem:
            stat.summary(ERROR, self._monitor.model.problem)
        elif self._monitor.model.values:
            stat.summary(
                OK, f"{self._state.label}: {self._monitor.model.values.get('version', '')}"
            )
        else:
            stat.summary(OK, f"no model: the node is {self._state.label}")
        _add_all(stat, self._monitor.model.values)
        return stat


def silence(work: WorkRecord, enabled: bool, timeout_s: float, now: float) -> Summary | None:
    """Explain why there is no recent frame; None if there is one.

    The duration of a frame in progress does not count as silence of the inputs.

    Args:
        work: record of the frames.
        enabled: whether the stream of frames is estimated.
        timeout_s: longest silence that is no fault.
        now: monotonic, seconds.
    """
    started = now if work.started is None else work.started
    if started - work.last_end > timeout_s:
        text = f"no frame for {now - work.last_end:.0f} s"
        if not enabled:
            return OK, f"{text}: disabled by ~/enable"
        return ERROR, f"{text}: see the statuses of inputs, synchronisation and frames"
    if now - started > timeout_s:
        return WARN, f"a frame has been in progress for {now - started:.0f} s"
    if work.estimate is None and not work.last_error:
        return OK, "no frame yet"
    return None


def agreement(
    fits: list[tuple[Fit, ...]], unit_m: float = 1e-3
) -> tuple[bytes, str, dict[str, str]]:
    """Search for a common cause where most objects fail: level, text and values.

    Args:
        fits: of the objects of the latest frames.
        unit_m: length of one step of depth, metres.
    """
    frames = [frame for frame in fits if len(frame) > 1]
    objects = [fit for frame in frames for fit in frame]
    better_m = unit_by_sizes(unit_m, [[fit.size_ratio for fit in frame] for frame in fits])
    if better_m is not None:
        ratio = float(np.nanmedian([fit.size_ratio for frame in fits for fit in frame]))
        return (
            WARN,
            f"objects are {ratio:.2g} times as large by depth as by their appearance: the depth "
            f"scale is wrong; a step is taken for {unit_m:g} m, set depth_unit to {better_m:g}",
            {"size by depth": f"{ratio:.2f}", "suggested depth_unit": f"{better_m:g}"},
        )
    scale = scale_by_widths([[fit.depth_scale for fit in frame] for frame in fits])
    if scale is not None:
        return WARN, explain_scale(scale), {"depth scale": f"{scale:.2f}"}
    if len(frames) < _FRAMES:
        return OK, "too few frames with several objects to judge", {}
    failing = float(np.mean([fit.fails for fit in objects]))
    ratios = [fit.size_ratio for fit in objects if np.isfinite(fit.size_ratio)]
    low, ratio, high = np.percentile(ratios, (10, 50, 90)) if ratios else (np.nan,) * 3
    values = {"share of failing objects": f"{failing:.2f}", "size by depth": f"{ratio:.2f}"}
    if failing < _SHARED:
        return OK, f"{failing:.0%} of the objects miss the certificate's threshold", values
    text = "all objects miss the certificate's threshold: depth scale or registration is wrong"
    if low > 1 + _SIZE_TOLERANCE or high < 1 - _SIZE_TOLERANCE:
        text = (
            f"{text}; objects are {ratio:.2g} times as large by depth as by their appearance: "
            "the depth scale is wrong"
        )
    else:
        text = f"{text}, or the model does not know these objects"
    return WARN, text, values


def device_values(device: torch.device) -> dict[str, str]:
    """Describe a device, and the memory in use on it and by this process."""
    # Resident pages, the second number; Linux alone has this file.
    statm = Path("/proc/self/statm")
    values = {"device": str(device)}
    if statm.exists():
        resident = int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        values["process memory (MB)"] = f"{resident / 1e6:.0f}"
    if device.type == "cuda" and torch.cuda.is_initialized():  # the query would initialise it
        free, total = torch.cuda.mem_get_info(device)
        values["device"] = f"{device} {torch.cuda.get_device_name(device)}"
        values["device memory of tensors (MB)"] = f"{torch.cuda.memory_allocated(device) / 1e6:.0f}"
        values["device memory reserved (MB)"] = f"{torch.cuda.memory_reserved(device) / 1e6:.0f}"
        values["device memory free (MB)"] = f"{free / 1e6:.0f} of {total / 1e6:.0f}"
    return values


def _add_all(stat: DiagnosticStatusWrapper, values: Mapping[str, object]) -> None:
    for key, value in values.items():
        stat.add(key, str(value))
