"""Shapes of a library whose surfaces are nearly the same."""

import pytest
from analytic import box, bracket, sphere
from analytic_scene import analytic_prepared

from crisp_ros.correction import similar_shapes
from crisp_ros.correction.prepared_library import PreparedLibrary


@pytest.fixture(scope="module")
def library() -> PreparedLibrary:
    return analytic_prepared(
        bracket(0.12, 0.09, 0.05, 0.02),
        bracket(0.096, 0.125, 0.053, 0.022),  # nearly the first one, with its legs exchanged
        bracket(0.18, 0.135, 0.075, 0.03),  # the first one, but half as large again
        box((0.06, 0.045, 0.025)),  # as large as the first one
        sphere(0.09),
    )


def test_similar_shapes_are_found_in_any_frame(library: PreparedLibrary) -> None:
    assert library.similar(0) == (1,)
    assert library.similar(1) == (0,)


def test_shapes_of_another_form_or_size_are_not_similar(library: PreparedLibrary) -> None:
    assert [library.similar(index) for index in (2, 3, 4)] == [(), (), ()]


def test_no_frame_looks_for_them(library: PreparedLibrary, monkeypatch) -> None:
    """They are found with the symmetries, each pair once."""
    measured = []
    distance = similar_shapes._distance

    def counted(field, pair, surfaces) -> float:
        measured.append(tuple(pair.index.tolist()))
        return distance(field, pair, surfaces)

    monkeypatch.setattr(similar_shapes, "_distance", counted)
    prepared = PreparedLibrary(library._field, library.library)
    prepared.prepare()
    assert (0, 1) in measured and len(measured) == len(set(measured))
    assert all(first < second for first, second in measured)
    measured.clear()
    assert [prepared.similar(index) for index in range(5)] == [(1,), (0,), (), (), ()]
    assert not measured
