from types import SimpleNamespace

import pytest

from crisp_ros.share import share_directory
from crisp_ros.training.recipe import load_recipe
from crisp_ros.training.run import TrainingRun
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
    # The network goes on at its own speed, whatever the crops took.
    assert left.update("network", 50, 100) == pytest.approx(45.0)


def test_wrong_expectations_are_made_up_for_by_measured_speed():
    """Crops five times as fast and steps twice as slow as expected, as on a loaded machine."""
    now = [0.0]
    expected, true = {"crops": 90.0, "shapes": 30.0, "network": 100.0}, (18.0, 40.0, 200.0)
    left = TimeLeft(expected, clock=lambda: now[0])
    spans = dict(zip(expected, true, strict=True))
    total = sum(true)
    for stage, seconds in spans.items():
        for step in range(101):
            if step:
                now[0] += seconds / 100
            estimate = left.update(stage, step, 100)
            if stage == "network" and step >= 2:
                rest = total - now[0]
                assert rest / 1.5 - 1 <= estimate <= rest * 1.5 + 1
    assert estimate == 0.0


def test_time_between_stages_is_no_speed():
    now = [0.0]
    left = TimeLeft({"crops": 10.0, "network": 10.0}, clock=lambda: now[0])
    left.update("crops", 0, 1)
    now[0] = 5.0
    left.update("crops", 1, 1)
    now[0] = 100.0  # symmetries are looked for, by no stage
    left.update("network", 0, 100)
    now[0] = 101.0
    assert left.update("network", 10, 100) == pytest.approx(9.0)


def test_what_an_earlier_run_did_counts_as_done_but_not_as_speed():
    now = [0.0]
    left = TimeLeft({"crops": 10.0, "network": 90.0}, clock=lambda: now[0])
    left.update("crops", 4, 4)
    assert left.update("network", 90, 100) is None
    now[0] = 9.0
    assert left.update("network", 95, 100) == pytest.approx(9.0)


def test_durations_have_the_unit_that_fits():
    assert [duration(s) for s in (5.2, 89, 600, 5999, 12_000)] == [
        "5 s",
        "89 s",
        "10 min",
        "1 h 40 min",
        "3 h 20 min",
    ]


# Seconds of one core by stage, measured: three meshes with config/training/own_objects.yaml.
MEASURED = {"crops": 64.2, "shapes": 37.9, "network": 74.2, "shape head": 21.2, "boxes": 4.5}


def test_expected_costs_of_the_stages_compare_as_measured():
    recipe = load_recipe(share_directory() / "config/training/own_objects.yaml")
    run = SimpleNamespace(recipe=recipe, objects=range(3), _fits_codes=lambda: True)
    expected = TrainingRun.expected_seconds(run)
    assert expected.keys() == MEASURED.keys()
    share = {name: cost / sum(expected.values()) for name, cost in expected.items()}
    for name, seconds in MEASURED.items():
        measured = seconds / sum(MEASURED.values())
        assert measured / 1.5 < share[name] < measured * 1.5, name
