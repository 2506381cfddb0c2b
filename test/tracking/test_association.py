import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from crisp_ros.tracking.association import (
    AssociationSettings,
    Candidates,
    assign,
    code_differences,
    costs,
)

PLAIN = AssociationSettings()


def objects(centres, labels=None, classes=None) -> Candidates:
    centres = np.asarray(centres, float).reshape(-1, 3)
    n = len(centres)
    return Candidates(
        centres,
        np.asarray(labels if labels is not None else np.arange(n)),
        tuple(classes or [""] * n),
    )


def least_total(matrix: np.ndarray, limit: float) -> float:
    """The best sum over all partial assignments, by trying every one."""
    T, E = matrix.shape
    best = np.inf
    for count in range(min(T, E) + 1):
        for rows in itertools.combinations(range(T), count):
            for columns in itertools.permutations(range(E), count):
                best = min(best, sum(matrix[r, c] - limit for r, c in zip(rows, columns)))  # noqa: B905
    return best


@settings(deadline=None, max_examples=60)
@given(
    st.tuples(st.integers(1, 4), st.integers(1, 4)).flatmap(
        lambda shape: arrays(float, shape, elements=st.one_of(st.floats(0, 2), st.just(np.inf)))
    )
)
def test_assignment_is_the_best_of_all(matrix):
    pairs = assign(matrix)
    assert len({r for r, _ in pairs}) == len({c for _, c in pairs}) == len(pairs)
    assert all(matrix[r, c] < 1.0 for r, c in pairs)
    assert np.isclose(sum(matrix[r, c] - 1.0 for r, c in pairs), least_total(matrix, 1.0))


def test_costs_match_their_formula_pair_by_pair():
    rng = np.random.default_rng(0)
    tracks = objects(rng.uniform(0, 0.3, (4, 3)), [1, 2, 3, 4], ["cup", "", "mug", "cup"])
    seen = objects(rng.uniform(0, 0.3, (3, 3)), [2, 1, 9], ["cup", "mug", ""])
    unseen_s = np.array([0.0, 0.1, 0.4, 9.0])
    shapes = rng.uniform(0, 1, (4, 3))
    found = costs(tracks, unseen_s, seen, shapes, PLAIN)
    for i, j in itertools.product(range(4), range(3)):
        gate = min(0.15 + 0.3 * unseen_s[i], 0.4)
        d = np.linalg.norm(tracks.centres[i] - seen.centres[j])
        a, b = tracks.classes[i], seen.classes[j]
        expected = (d / gate) ** 2 + 0.25 * shapes[i, j] + 0.2 * (gate - 0.15) / 0.25
        expected += 0.04 * (tracks.labels[i] != seen.labels[j])
        expected += 0.8 * (a != b and bool(a) and bool(b))
        assert found[i, j] == pytest.approx(expected if d <= gate else np.inf)


def test_the_nearer_place_wins_even_under_the_wrong_label():
    tracks = objects([[0, 0, 1], [0.1, 0, 1]], [1, 2])
    seen = objects([[0.1, 0, 1], [0, 0, 1]], [1, 2])
    found = costs(tracks, np.zeros(2), seen, np.zeros((2, 2)), PLAIN)
    assert assign(found) == [(0, 1), (1, 0)]


@pytest.mark.parametrize("kind", ["label", "class", "shape"])
def test_where_places_do_not_tell_the_rest_decides(kind):
    same = [[0, 0, 1], [0, 0, 1]]
    labels = ([1, 2], [2, 1]) if kind == "label" else ([1, 2], [3, 4])
    classes = (["a", "b"], ["b", "a"]) if kind == "class" else (None, None)
    shapes = 1.0 - np.eye(2)[::-1] if kind == "shape" else np.zeros((2, 2))
    tracks, seen = (objects(same, x, c) for x, c in zip(labels, classes, strict=True))
    assert assign(costs(tracks, np.zeros(2), seen, shapes, PLAIN)) == [(0, 1), (1, 0)]


def test_a_track_seen_a_moment_ago_comes_before_a_hidden_one():
    tracks = objects([[0, 0, 1], [0.06, 0, 1]])
    found = costs(tracks, np.array([0.03, 4.0]), objects([[0.03, 0, 1]]), np.zeros((2, 1)), PLAIN)
    assert assign(found) == [(0, 0)]


def test_tracked_labels_decide_alone():
    settings = AssociationSettings(tracked_labels=True)
    tracks = objects([[0, 0, 1], [0.1, 0, 1]], [1, 2])
    seen = objects([[0, 0, 1], [5, 0, 1]], [3, 1])
    found = costs(tracks, np.zeros(2), seen, np.zeros((2, 2)), settings)
    assert assign(found) == [(0, 1)]


@pytest.mark.parametrize("values", [{"gate_m": -1.0}, {"gate_m": 0.5}, {"label_weight": np.nan}])
def test_settings_out_of_range_are_refused(values):
    with pytest.raises(ValueError, match=next(iter(values))):
        AssociationSettings(**values)


def test_code_differences_are_between_zero_and_one():
    codes = np.eye(3, dtype=np.float32)
    assert np.allclose(code_differences(codes, codes, 2.0**0.5), 1 - np.eye(3))
    assert np.allclose(code_differences(codes, 5 * codes, 2.0**0.5), 1)
    found = code_differences(codes, 1.1 * codes, None)[0]
    assert np.allclose(found, [0.1 / 1.1, 1.0, 1.0])
