"""Scenes of studies: who stands where, and what bad masks look like."""

from __future__ import annotations

import numpy as np

from crisp_ros.studies.study_scenes import MaskErrors, disturbed_labels, study_scenes

NAMES = [f"object {i}" for i in range(10)]


def test_objects_take_turns_and_halves_have_as_many_scenes() -> None:
    scenes = study_scenes(NAMES, each=4, objects=5, seed=3)
    assert [s.disturbed for s in scenes] == [False] * 4 + [True] * 4
    assert len({s.name for s in scenes}) == len({s.seed for s in scenes}) == 8
    for half in (scenes[:4], scenes[4:]):
        counts = {name: sum(name in s.names for s in half) for name in NAMES}
        assert set(counts.values()) == {2}
        assert all(len(set(s.names)) == 5 for s in half)
    assert scenes == study_scenes(NAMES, each=4, objects=5, seed=3)
    assert scenes != study_scenes(NAMES, each=4, objects=5, seed=4)


def test_no_more_objects_than_there_are() -> None:
    assert {s.names for s in study_scenes(["a"], each=2, objects=3, seed=0)} == {("a",)}


def image() -> np.ndarray:
    labels = np.zeros((120, 160), np.uint8)
    labels[20:80, 10:60] = 1
    labels[30:90, 70:150] = 4
    return labels


def test_tables_with_other_objects_have_keys_of_their_own() -> None:
    names = [f"object {i}" for i in range(10)]
    studies = [study_scenes(names, 2, objects, 5) for objects in (2, 5)]
    assert len({scene.key for study in studies for scene in study}) == 8
    assert [s.key for s in study_scenes(names, 2, 5, 5)] == [s.key for s in studies[1]]


def test_masks_move_grow_and_shrink_but_stay_near() -> None:
    before = image()
    errors = MaskErrors(bitten=0.0)
    reach = errors.shift_px + errors.border_px + 1
    seen = set()
    for seed in range(12):
        after = disturbed_labels(before, errors, np.random.default_rng(seed))
        assert after.dtype == before.dtype and set(np.unique(after)) <= {0, 1, 4}
        for label in (1, 4):
            v, u = np.nonzero(after == label)
            old_v, old_u = np.nonzero(before == label)
            assert abs(v.min() - old_v.min()) <= reach and abs(u.max() - old_u.max()) <= reach
            seen.add(len(v) > len(old_v))
    assert seen == {True, False}


def test_bites_take_a_part_and_nothing_is_taken_without_errors() -> None:
    before = image()
    none = MaskErrors(shift_px=0, border_px=0, bitten=0.0)
    assert (disturbed_labels(before, none, np.random.default_rng(0)) == before).all()
    bites = MaskErrors(shift_px=0, border_px=0, bitten=1.0)
    after = disturbed_labels(before, bites, np.random.default_rng(0))
    for label in (1, 4):
        left = np.count_nonzero(after == label) / np.count_nonzero(before == label)
        assert 0.5 < left < 1.0
    assert (after[before == 0] == 0).all()
