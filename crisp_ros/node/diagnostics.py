"""What /diagnostics says: each input, their synchronisation, the estimates, the model."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from diagnostic_msgs.msg import DiagnosticStatus
from diagnostic_updater import DiagnosticStatusWrapper, Updater
from rclpy.node import Node

from crisp_ros.node.monitor import InputRecord, Monitor
from crisp_ros.node.parameters import Parameters

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR


class ModelStatus(NamedTuple):
    """The model in use: values to show; or problem: why there is none."""

    values: dict[str, str]
    problem: str


class Diagnostics:
    """Publishes the node's state once a second, in every state of its lifecycle."""

    def __init__(
        self,
        node: Node,
        monitor: Monitor,
        parameters: Callable[[], Parameters],
        state: Callable[[], str],
    ) -> None:
        """Starts to publish.

        Args:
            node: whose clock, graph and name are used.
            monitor: what is reported.
            parameters: their values.
            state: label of the lifecycle state.
        """
        self._node = node
        self._monitor = monitor
        self._parameters = parameters
        self._state = state
        self.model = ModelStatus({}, "")
        updater = Updater(node)
        updater.setHardwareID("none")
        for name in monitor.inputs:
            updater.add(f"input {name}", partial(self._input, name))
        updater.add("synchronisation", self._synchronisation)
        updater.add("estimates", self._estimates)
        updater.add("model", self._model)
        self._updater = updater

    def update(self) -> None:
        """Publishes now."""
        self._updater.update()

    def _input(self, name: str, stat: DiagnosticStatusWrapper) -> DiagnosticStatusWrapper:
        with self._monitor.lock:
            record = self._monitor.inputs[name]
            now = time.monotonic()
            publishers = self._node.count_publishers(record.topic)
            stat.summary(*self._input_summary(record, publishers, now))
            stat.add("topic", record.topic)
            stat.add("publishers", str(publishers))
            stat.add("messages", str(record.count))
            stat.add("rate (Hz)", f"{record.rate(now):.1f}")
            stat.add("delay (s)", f"{record.delay:.3f}")
            stat.add("encoding", record.encoding)
            stat.add("size", record.size)
            stat.add("frame_id", record.frame_id)
            stat.add("refused", str(record.faults))
            stat.add("odd", str(record.oddities))
            stat.add("out of order", str(record.out_of_order))
            stat.add("lost in transport", str(record.lost))
        return stat

    def _input_summary(self, record: InputRecord, publishers: int, now: float) -> tuple[bytes, str]:
        if record.first_wanted is None:
            return OK, f"not subscribed: the node is {self._state()}"
        if record.silent_s(now) > self._parameters().input_timeout:
            return ERROR, self._silence(record, publishers, now)
        if record.fault:
            return ERROR, record.fault
        if record.warning:
            return WARN, record.warning
        if record.arrivals:
            return OK, f"{record.encoding} {record.size} at {record.rate(now):.1f} Hz"
        return OK, "waiting for the first message"

    def _silence(self, record: InputRecord, publishers: int, now: float) -> str:
        """Why nothing comes, as far as can be known."""
        silent = f"nothing for {record.silent_s(now):.0f} s: "
        if record.incompatible_qos:
            return (
                f"{silent}a publisher offers an incompatible {record.incompatible_qos} "
                f"(see qos_overrides.{record.topic}.subscription)"
            )
        if publishers == 0:
            return f"{silent}no publisher on {record.topic}: wrong name, remapping or domain?"
        clock = self._node.get_clock()
        if clock.ros_time_is_active and clock.now().nanoseconds == 0:
            return f"{silent}use_sim_time is set, but nothing comes on /clock"
        return f"{silent}{publishers} publisher(s) on {record.topic} send nothing"

    def _synchronisation(self, stat: DiagnosticStatusWrapper) -> DiagnosticStatusWrapper:
        parameters = self._parameters()
        with self._monitor.lock:
            work, now = self._monitor.work, time.monotonic()
            images = [r for name, r in self._monitor.inputs.items() if name != "camera_info"]
            stamps = {name: r.stamp for name, r in self._monitor.inputs.items() if r in images}
            spread = max(stamps.values()) - min(stamps.values())
            waiting = all(r.arrivals for r in images) and self._state() == "active"
            silent = any(r.silent_s(now) > parameters.input_timeout for r in images)
            if waiting and not silent and now - work.last_set > parameters.input_timeout:
                oldest, newest = min(stamps, key=stamps.get), max(stamps, key=stamps.get)
                stat.summary(
                    ERROR,
                    "all images come, but none belong together: the stamps of "
                    f"{oldest} and {newest} are {spread:.3f} s apart, "
                    f"sync_slop is {parameters.sync_slop:g} s",
                )
            else:
                stat.summary(OK, f"{work.sets} sets of images")
            stat.add("sets", str(work.sets))
            stat.add("stamp spread (s)", f"{spread:.3f}")
            stat.add("dropped for newer", str(work.dropped))
            stat.add("out of order", str(work.out_of_order))
            stat.add("time jumps", str(work.time_jumps))
        return stat

    def _estimates(self, stat: DiagnosticStatusWrapper) -> DiagnosticStatusWrapper:
        with self._monitor.lock:
            work = self._monitor.work
            objects = work.estimate.objects if work.estimate else ()
            rejected = work.estimate.rejected if work.estimate else ()
            withheld = {
                id: e.reason for id, e in zip(work.ids, objects, strict=True) if not e.certified
            }
            if work.last_error:
                stat.summary(ERROR, work.last_error)
            elif withheld or rejected:
                reasons = [*withheld.values(), *(f"label {r.label}: {r.reason}" for r in rejected)]
                stat.summary(
                    WARN,
                    f"{len(withheld)} of {len(objects)} without certificate, "
                    f"{len(rejected)} labels without estimate: {'; '.join(reasons[:3])}",
                )
            else:
                stat.summary(OK, f"{len(objects)} objects, all certified")
            stat.add("frames", str(work.frames))
            stat.add("failed frames", str(work.errors))
            stat.add("latency (s)", f"{work.latency_s:.3f}")
            for id, reason in withheld.items():
                stat.add(f"withheld {id}", reason)
            for label, reason in rejected:
                stat.add(f"rejected label {label}", reason)
            for name, milliseconds in work.medians_ms().items():
                stat.add(f"median {name} (ms)", f"{milliseconds:.1f}")
        return stat

    def _model(self, stat: DiagnosticStatusWrapper) -> DiagnosticStatusWrapper:
        if self.model.problem:
            stat.summary(ERROR, self.model.problem)
        elif self.model.values:
            stat.summary(OK, f"{self._state()}: {self.model.values.get('version', '')}")
        else:
            stat.summary(OK, f"no model: the node is {self._state()}")
        for key, value in self.model.values.items():
            stat.add(key, value)
        return stat
