"""Shapes of a library whose surfaces are nearly the same."""

import pytest
from analytic import box, bracket, sphere
from analytic_scene import analytic_prepared

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
