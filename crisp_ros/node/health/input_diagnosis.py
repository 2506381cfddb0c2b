"""Causes of faults of inputs and clocks, from the graph and the messages."""

from __future__ import annotations

import os
from collections.abc import Mapping

from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.node import Node

from crisp_ros.node.monitor import InputRecord, rate
from crisp_ros.node.qos import has_latched_publisher

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR

Summary = tuple[bytes, str]

_CAMERA_INFO = "sensor_msgs/msg/CameraInfo"
_PROFILE = "FASTRTPS_DEFAULT_PROFILES_FILE"
_CLOCK_TOPIC = "/clock"
_EARLY_S = 0.1  # a stamp this far ahead of the clock
_LATE_S = 1.0
_OLD_S = 60.0  # no camera is that slow: the stamp is from another clock
_SPARSE = 0.5  # share of matched messages below which a warning is due
_TRANSPORTS = {
    "raw": ("", "sensor_msgs/msg/Image"),
    "compressed": ("/compressed", "sensor_msgs/msg/CompressedImage"),
    "compressedDepth": ("/compressedDepth", "sensor_msgs/msg/CompressedImage"),
}
_TRANSPORT_PARAMETERS = {
    "rgb": "image_transport",
    "depth": "depth_image_transport",
    "segmentation": "segmentation_image_transport",
}


def input_summary(
    node: Node, name: str, record: InputRecord, timeout_s: float, now: float
) -> Summary:
    """Summarise the state of an input.

    Args:
        node: the subscriber.
        name: of the input.
        record: of the input.
        timeout_s: longest silence that is no fault.
        now: monotonic, seconds.
    """
    if record.expected_since is None:
        return OK, "not subscribed"
    silent_s = record.silent_s(now)
    # A calibration stays in use until another arrives.
    stays_in_use = name == "camera_info" and bool(record.arrivals)
    is_silent = silent_s > timeout_s or (record.incompatible_qos and not record.arrivals)
    if is_silent and not stays_in_use:
        return ERROR, f"nothing for {silent_s:.0f} s: {_silence(node, name, record)}"
    if record.fault:
        return ERROR, record.fault
    if record.warning:
        return WARN, record.warning
    if is_silent:
        return OK, f"{record.encoding} {record.size}, in use since it arrived {silent_s:.0f} s ago"
    if record.arrivals:
        return OK, f"{record.encoding} {record.size} at {record.rate(now):.1f} Hz"
    return OK, "waiting for the first message"


def _silence(node: Node, name: str, record: InputRecord) -> str:
    """Explain why no message arrives."""
    topic = record.topic
    types = [p.topic_type for p in node.get_publishers_info_by_topic(topic)]
    if record.incompatible_qos:
        return (
            f"a publisher offers an incompatible {record.incompatible_qos} "
            f"(see qos_overrides.{topic}.subscription)"
        )
    if types and record.type_name not in types:
        return f"publishers on {topic} send {', '.join(sorted(set(types)))}, not {record.type_name}"
    if not types:
        return f"no publisher on {topic}{_elsewhere(node, name, record)}"
    is_latched = has_latched_publisher(node, topic)
    return f"{len(types)} publisher(s) on {topic}, but {_without_message(record, is_latched)}"


def _without_message(record: InputRecord, is_latched: bool) -> str:
    """Describe what is known of a topic that has publishers and no messages.

    Args:
        record: of the input.
        is_latched: whether a publisher offers transient_local durability.
    """
    if record.lost:
        return f"{record.lost} messages were lost between the processes: {_profile_advice()}"
    if record.count:
        return "no message arrives any more"
    if is_latched and record.type_name != _CAMERA_INFO:  # which is subscribed to as latched, too
        return (
            "no message arrives; what was sent before this node subscribed is only received with "
            f"qos_overrides.{record.topic}.subscription.durability set to transient_local"
        )
    if record.type_name == _CAMERA_INFO:
        return "no message has arrived since this node subscribed"
    return (
        "no message has arrived: none was sent since this node subscribed, or large images are "
        f"lost between the processes: {_profile_advice()}"
    )


def _profile_advice() -> str:
    """Advise on the shared-memory profile, which this process and the publisher both need."""
    here = "" if os.environ.get(_PROFILE) else " (this node runs without it)"
    return f"start the publisher with {_PROFILE}=config/fastdds_shm.xml of this package{here}"


def _elsewhere(node: Node, name: str, record: InputRecord) -> str:
    """Find where the images may be instead: another transport, or another topic of this type."""
    parameter = _TRANSPORT_PARAMETERS.get(name)
    published = {
        topic: types
        for topic, types in node.get_topic_names_and_types()
        if node.count_publishers(topic) > 0
    }
    base = record.topic
    for suffix, _ in _TRANSPORTS.values():
        base = base.removesuffix(suffix)
    for transport, (suffix, kind) in _TRANSPORTS.items():
        if parameter and kind in published.get(base + suffix, ()):
            return f", but on {base}{suffix}: set {parameter} to {transport}"
    same_type = sorted(t for t, types in published.items() if record.type_name in types)
    if same_type:
        return f": wrong name or remapping? {record.type_name} comes on {', '.join(same_type[:5])}"
    return ": wrong name, remapping, domain or host?"


def synchronisation_summary(
    images: Mapping[str, InputRecord],
    set_times: list[float],
    slop_s: float,
    timeout_s: float,
    now: float,
) -> Summary:
    """Summarise whether the images of the inputs match.

    Args:
        images: records of all inputs that are matched.
        set_times: monotonic times of the matched sets, seconds.
        slop_s: upper bound of the stamp differences within a set.
        timeout_s: longest silence that is no fault.
        now: monotonic, seconds.
    """
    flowing = all(r.arrivals and r.silent_s(now) <= timeout_s for r in images.values())
    if not flowing:
        return OK, "not all inputs arrive"
    unusable = [name for name, record in images.items() if record.fault and record.unreadable]
    since = max(r.expected_since for r in images.values())
    if now - max([since, *set_times[-1:]]) > timeout_s:
        if unusable:
            return ERROR, (
                f"all inputs arrive, but {' and '.join(unusable)} cannot be used: see the status "
                f"of input {unusable[0]}"
            )
        return ERROR, f"all inputs arrive, but none match: {_stamps_apart(images, slop_s)}"
    matched = rate(set_times, now)
    slowest = min(images, key=lambda name: images[name].rate(now))
    possible = images[slowest].rate(now)
    if len(set_times) > 5 and matched < _SPARSE * possible:
        return WARN, (
            f"only {matched:.1f} of {possible:.1f} {slowest} images a second are matched: "
            f"{_stamps_apart(images, slop_s)}; sync_queue_size may be too small for the slowest "
            "input"
        )
    return OK, f"{matched:.1f} sets of images a second"


def _stamps_apart(images: Mapping[str, InputRecord], slop_s: float) -> str:
    """Describe how far the latest stamps are apart."""
    stamps = {name: record.stamp for name, record in images.items()}
    oldest, newest = min(stamps, key=stamps.get), max(stamps, key=stamps.get)
    if stamps[oldest] == stamps[newest]:
        return f"the latest stamps of all inputs are equal, sync_slop is {slop_s:g} s"
    return (
        f"the stamps of {oldest} and {newest} are {stamps[newest] - stamps[oldest]:.3f} s apart, "
        f"sync_slop is {slop_s:g} s"
    )


def clock_summary(node: Node, delay_s: float | None) -> Summary:
    """Summarise whether the node's clock agrees with the stamps.

    Args:
        node: provides the clock.
        delay_s: from the stamps of colour images to their arrival; None without any.
    """
    clock = node.get_clock()
    simulated = clock.ros_time_is_active
    if simulated and clock.now().nanoseconds == 0:
        publishers = node.count_publishers(_CLOCK_TOPIC)
        return (
            ERROR,
            f"use_sim_time is set, but nothing arrives on /clock ({publishers} publishers)",
        )
    if delay_s is None:
        return OK, "simulated time" if simulated else "system time"
    if abs(delay_s) > _OLD_S:
        side = "old" if delay_s > 0 else "ahead"
        cause = (
            "use_sim_time is set, but the stamps are not from /clock: set it for their publisher"
            if simulated
            else "a recording or simulation is running: set use_sim_time"
            if node.count_publishers(_CLOCK_TOPIC) > 0
            else "the publisher's clock is not this machine's, or it plays a recording"
        )
        return WARN, f"stamps are {abs(delay_s):.0f} s {side}: {cause}"
    if delay_s < -_EARLY_S:
        return WARN, (
            f"stamps are {-delay_s:.2f} s ahead of this machine's clock: "
            "synchronise the machines' clocks (chrony)"
        )
    if delay_s > _LATE_S:
        return WARN, f"colour images arrive {delay_s:.1f} s after their stamp"
    return OK, f"colour images arrive {delay_s:.3f} s after their stamp"
