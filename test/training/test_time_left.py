import pytest

from crisp_ros.training.time_left import TimeLeft, duration


def test_the_rest_follows_from_the_speed_so_far():
    now = [0.0]
    left = TimeLeft({"crops": 10.0, "network": 90.0}, clock=lambda: now[0])
    assert left.update("crops", 0, 4) is None
    now[0] = 10.0  # half of the crops in twice the time that all should take
    assert left.update("crops", 2, 4) == pytest.approx(95.0 * 2.0)
    now[0] = 20.0
    assert left.update("crops", 4, 4) == pytest.approx(180.0)
    left.update("network", 0, 100)
    now[0] = 65.0
    assert left.update("network", 50, 100) == pytest.approx(45.0 * 65.0 / 55.0)


def test_what_an_earlier_run_did_counts_as_done_but_not_as_speed():
    now = [0.0]
    left = TimeLeft({"crops": 10.0, "network": 90.0}, clock=lambda: now[0])
    left.update("crops", 4, 4)
    assert left.update("network", 90, 100) is None
    now[0] = 9.0
    assert left.update("network", 95, 100) == pytest.approx(9.0)


def test_durations_are_told_in_the_unit_that_fits():
    assert [duration(s) for s in (5.2, 89, 600, 5999, 12_000)] == [
        "5 s",
        "89 s",
        "10 min",
        "1 h 40 min",
        "3 h 20 min",
    ]
