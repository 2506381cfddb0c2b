"""Units of depth: named where objects or distances leave no doubt, and only there."""

from __future__ import annotations

import math

import pytest

from crisp_ros.data.depth_units import (
    scale_by_widths,
    unit_by_distance,
    unit_by_sizes,
    unit_in_use,
)

NAN = math.nan


def frames(ratio: float, objects: int = 3, count: int = 2) -> list[list[float]]:
    spread = (0.85, 1.0, 1.15, 0.95, 1.05)
    return [[ratio * spread[i % 5] for i in range(objects)] for _ in range(count)]


@pytest.mark.parametrize(
    ("ratio", "unit_m"),
    [(4.0, 0.00025), (5.2, 0.0002), (8.0, 0.000125), (9.6, 0.0001), (0.001, 1.0), (3.0, 0.00033)],
)
def test_all_objects_too_large_or_small_by_one_factor(ratio: float, unit_m: float) -> None:
    assert unit_by_sizes(0.001, frames(ratio)) == pytest.approx(unit_m)


@pytest.mark.parametrize(
    "size_ratios",
    [
        frames(1.0),
        frames(1.5),  # objects that the network does not know
        frames(4.0, count=1),  # one frame
        frames(4.0, objects=1, count=3),  # three objects
        [[4.0, 1.0, 4.0, 0.9], [4.1, 1.0, 3.9, 1.1]],  # no common factor
        [[NAN, NAN, NAN], [NAN, NAN, NAN]],
        [],
    ],
)
def test_doubt_names_no_unit(size_ratios: list[list[float]]) -> None:
    assert unit_by_sizes(0.001, size_ratios) is None


def test_an_object_of_unknown_size_does_not_matter() -> None:
    assert unit_by_sizes(0.001, [[4.0, NAN, 4.1], [3.9, 4.0, 9.0], [4.0]]) == 0.00025


def test_the_distance_of_a_scene() -> None:
    assert unit_by_distance(1.0, 959.0) == 0.001  # millimetres in floats
    assert unit_by_distance(0.001, 0.00096) == 1.0  # whole metres in integers
    assert unit_by_distance(0.001, 12.0) is None  # 0.25, 0.2, 0.125 or 0.1 mm
    assert unit_by_distance(0.001, 1e6) is None


def test_the_unit_in_use() -> None:
    assert unit_in_use("16UC1", 0.0) == 0.001 and unit_in_use("32FC1", 0.0) == 1.0
    assert unit_in_use("32FC1; compressedDepth png", 0.0) == 1.0
    assert unit_in_use("16UC1", 0.0001) == 0.0001


@pytest.mark.parametrize(
    ("depth_scales", "scale"),
    [
        ([[1.05, 1.04, 1.06], [1.05, NAN, 1.07]] * 2, 1.05),
        ([[0.9, 0.91, 0.89]] * 3, 0.9),
        ([[1.01, 1.02, 0.99]] * 5, None),
        ([[1.1, 1.1, 1.1, 1.1, 1.1, 1.1]], None),
        ([[1.1]] * 3, None),
        ([[0.7, 1.1, 1.4]] * 4, None),
        ([], None),
    ],
    ids=["too large", "too small", "right", "one frame", "few objects", "no agreement", "nothing"],
)
def test_scale_by_widths(depth_scales: list[list[float]], scale: float | None) -> None:
    assert scale_by_widths(depth_scales) == (
        None if scale is None else pytest.approx(scale, abs=0.01)
    )
