"""Diagnostic status of the searches in the background."""

from __future__ import annotations

from diagnostic_msgs.msg import DiagnosticStatus
from diagnostic_updater import DiagnosticStatusWrapper

from crisp_ros.pipeline.prior_searches import SearchStatus


def report_searches(
    status: SearchStatus | None, stat: DiagnosticStatusWrapper
) -> DiagnosticStatusWrapper:
    """Fill in the diagnostic status.

    Args:
        status: of the estimator; None where its searches are part of the frames.
        stat: to fill in.
    """
    if status is None:
        stat.summary(DiagnosticStatus.OK, "no searches in the background")
        return stat
    if status.error:
        text = f"{status.failed} failed, the last one for {status.error}"
        stat.summary(DiagnosticStatus.WARN, text)
    else:
        going = f"{status.running} running, {status.waiting} waiting"
        stat.summary(DiagnosticStatus.OK, f"{status.ended} shapes searched, {going}")
    stat.add("waiting", str(status.waiting))
    stat.add("running", str(status.running))
    stat.add("ended", str(status.ended))
    stat.add("failed", str(status.failed))
    stat.add("duration of the last one (s)", f"{status.last_s:.2f}")
    return stat
