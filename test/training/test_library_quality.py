"""Checks of shape libraries, and errors of decoded shapes, against shapes in closed form."""

from __future__ import annotations

import math

import pytest
import torch
import trimesh
from known import load_known

from crisp_ros.network.library import ShapeLibrary
from crisp_ros.training.library_quality import (
    BoxedShape,
    LibraryQualitySettings,
    check_library,
    fit_error,
    library_pairs,
)

HASTY = LibraryQualitySettings(voxels=32)


@pytest.fixture(scope="module")
def known():
    return load_known()


def only(library: ShapeLibrary, *names: str) -> ShapeLibrary:
    rows = [library.names.index(name) for name in names]
    return ShapeLibrary(names, library.codes[rows], library.lower[rows], library.upper[rows])


def test_sizes_and_volumes_are_those_of_the_shapes(known) -> None:
    found = check_library(known.decoder, only(known.library, "box", "sphere"), HASTY)
    assert found.problems == () and found.rank == 2
    box, sphere = found.shapes
    assert box.volume_m3 == pytest.approx(8 * 0.04 * 0.025 * 0.055, rel=0.05)
    assert sphere.volume_m3 == pytest.approx(4 / 3 * math.pi * 0.038**3, rel=0.05)
    assert sphere.diameter_m == pytest.approx(2 * 0.038 * math.sqrt(3), rel=0.02)


def test_pairs_are_sorted_and_equal_surfaces_are_none_apart(known) -> None:
    library = only(known.library, "mug", "cup", "bar")
    library = library.with_shape("mug again", *(p[0] for p in library_parts(library)))
    pairs = library_pairs(known.decoder, library)
    assert [p.names for p in pairs[:1]] == [("mug", "mug again")]
    assert pairs[0].chamfer_m < 2e-4 and pairs[0].code_distance == 0.0
    assert [p.chamfer_m for p in pairs] == sorted(p.chamfer_m for p in pairs)
    nearest = next(p for p in pairs if p.names == ("mug", "cup"))
    assert 2 * pairs[0].chamfer_m < nearest.chamfer_m < pairs[-1].chamfer_m


def library_parts(library: ShapeLibrary):
    return library.codes, library.lower, library.upper


def test_everything_that_is_wrong_is_said(known) -> None:
    library = only(known.library, "box", "bar")
    codes, lower, upper = library_parts(library)
    library = library.with_shape("twin", codes[0], lower[0], upper[0])
    library = library.with_shape("mixed", 0.5 * (codes[0] + codes[1]), lower[0], upper[0])
    far = torch.full((3,), 0.6)
    library = library.with_shape("nowhere", codes[0] + 0.01, far, far + 0.02)
    text = "; ".join(check_library(known.decoder, library, HASTY).problems)
    assert "box and twin" in text
    assert "rank" in text
    assert "nowhere has no surface inside its box" in text
    report = check_library(known.decoder, library, HASTY).to_json()
    assert report["shapes"][-1]["volume_m3"] is None  # NaN has no JSON form


def test_a_fit_is_measured_in_metres(known) -> None:
    library = only(known.library, "sphere")
    shape = BoxedShape.of_library(library, 0)
    right = fit_error(known.decoder, shape, trimesh.creation.icosphere(4, radius=0.038), 0.98)
    assert right.mean_m < 0.001 and right.chamfer_m < 0.0015
    assert right.mean_m <= right.p95_m <= right.quantile_m
    larger = fit_error(known.decoder, shape, trimesh.creation.icosphere(4, radius=0.043), 0.98)
    assert larger.mean_m == pytest.approx(0.005, abs=0.001)
    assert larger.chamfer_m == pytest.approx(0.005, abs=0.001)
