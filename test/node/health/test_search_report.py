"""Diagnostic status of the searches in the background."""

from __future__ import annotations

from diagnostic_msgs.msg import DiagnosticStatus
from diagnostic_updater import DiagnosticStatusWrapper

from crisp_ros.node.health.search_report import report_searches
from crisp_ros.pipeline.prior_searches import SearchStatus


def test_it_reports_what_waits_and_how_long_the_last_took() -> None:
    status = SearchStatus(waiting=3, running=1, ended=7, failed=0, last_s=1.234)
    stat = report_searches(status, DiagnosticStatusWrapper())
    assert stat.level == DiagnosticStatus.OK
    assert stat.message == "7 shapes searched, 1 running, 3 waiting"
    values = {v.key: v.value for v in stat.values}
    assert values["waiting"] == "3" and values["duration of the last one (s)"] == "1.23"


def test_a_failure_is_a_warning_with_its_object() -> None:
    status = SearchStatus(ended=7, failed=2, error="object 3 at (0.1, 0.2, 0.3) m: ValueError: x")
    stat = report_searches(status, DiagnosticStatusWrapper())
    assert stat.level == DiagnosticStatus.WARN
    assert stat.message == "2 failed, the last one for object 3 at (0.1, 0.2, 0.3) m: ValueError: x"


def test_searches_in_the_frame_are_not_reported() -> None:
    stat = report_searches(None, DiagnosticStatusWrapper())
    assert stat.level == DiagnosticStatus.OK and not stat.values
