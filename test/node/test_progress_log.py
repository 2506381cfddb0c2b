"""Progress in the log: once a period, and not at all of short work."""

from crisp_ros.node.progress_log import progress_log


def test_a_line_each_period(monkeypatch) -> None:
    now, lines = [100.0], []
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    progress = progress_log(lines.append, every_s=1.0)
    for done in range(1, 13):
        now[0] += 0.25
        progress("tables of shapes", done, 12)
    assert lines == [f"tables of shapes: {done} of 12" for done in (4, 8, 12)]


def test_short_work_is_silent() -> None:
    lines = []
    progress = progress_log(lines.append, every_s=60.0)
    for done in range(3):
        progress("tables of shapes", done, 3)
    assert lines == []
