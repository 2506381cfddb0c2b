import numpy as np
import torch

from crisp_ros.adaptation.head_versions import ShareWatch, Version, VersionHistory, WatchSettings
from crisp_ros.pipeline import learned_version


def weights(value):
    return {"w": torch.tensor(value)}


def test_names_only_grow_and_rollback_gives_earlier_weights():
    first, second, third = weights(0.0), weights(1.0), weights(2.0)
    history = VersionHistory(Version("1.0.0-abc", first))
    assert history.swap(second).name == learned_version("1.0.0-abc", 1, second)
    assert history.swap(third).name == learned_version("1.0.0-abc", 2, third)
    back = history.roll_back()
    assert back.name == learned_version("1.0.0-abc", 3, second) and back.weights is second
    assert history.roll_back().weights is first
    assert history.roll_back() is None
    assert history.current.name == learned_version("1.0.0-abc", 4, first)
    assert history.swap(third).name == learned_version("1.0.0-abc", 5, third)


def test_two_runs_from_one_model_name_their_weights_differently():
    one, other = (VersionHistory(Version("1.0.0-abc", weights(0.0))) for _ in range(2))
    assert one.swap(weights(1.0)).name != other.swap(weights(2.0)).name


def test_the_original_weights_are_never_forgotten():
    original = weights(0.0)
    history = VersionHistory(Version("m", original), kept=2)
    for value in range(1, 10):
        history.swap(weights(float(value)))
    found = []
    while (version := history.roll_back()) is not None:
        found.append(version.weights["w"].item())
    assert found == [8.0, 7.0, 0.0] and history.current.weights is original


def test_a_descendant_goes_on_counting():
    history = VersionHistory(Version("1.0.0-abc+7-0123", weights(0.0)), "1.0.0-abc", number=7)
    assert history.swap(weights(1.0)).name == learned_version("1.0.0-abc", 8, weights(1.0))


def watched(before, after, settings=None):
    watch = ShareWatch(settings)
    for flag in before:
        watch.add(flag)
    watch.start_comparison()
    for flag in after:
        watch.add(flag)
    return watch


def flags(count, share):
    return [i < round(count * share) for i in range(count)]


def test_a_fall_is_seen_and_what_chance_explains_is_not():
    assert "0.80 to 0.50" in watched(flags(200, 0.8), flags(100, 0.5)).fall()
    assert watched(flags(200, 0.8), flags(100, 0.78)).fall() == ""
    assert watched(flags(200, 0.8), flags(100, 0.95)).fall() == ""
    assert watched(flags(200, 0.8), flags(59, 0.0)).fall() == ""
    assert watched([], flags(100, 0.0)).fall() == ""


def test_few_false_alarms_where_nothing_changed():
    rng = np.random.default_rng(0)
    alarms = 0
    for _ in range(300):
        alarms += watched(rng.random(200) < 0.7, rng.random(100) < 0.7).fall() != ""
    assert alarms <= 6


def test_quick_swaps_do_not_hide_a_fall():
    """A swap before enough was seen keeps what was before the first."""
    watch = watched(flags(200, 0.9), flags(10, 0.0), WatchSettings(least=30))
    watch.start_comparison()
    for _ in range(40):
        watch.add(False)
    assert "0.90" in watch.fall()
