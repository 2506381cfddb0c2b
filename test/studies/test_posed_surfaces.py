"""Surfaces in place: boxes of point sets, and figures of instances."""

from __future__ import annotations

import numpy as np
import pytest

from crisp_ros.studies.posed_surfaces import PosedSurface, box_iou, summary


def test_overlap_of_boxes() -> None:
    cube = np.array([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
    assert box_iou(cube, cube) == pytest.approx(1.0)
    assert box_iou(cube, cube + [0.5, 0.0, 0.0]) == pytest.approx(1.0 / 3.0)
    assert box_iou(cube, cube + 2.0) == 0.0


def _instance(chamfer_m: float | None, certified: bool, right: bool) -> PosedSurface:
    return PosedSurface("can", 1, 0, chamfer_m, 0.5, certified, right, "")


def test_an_instance_without_a_surface_is_infinitely_far_off() -> None:
    found = [_instance(0.004, True, True), _instance(0.02, True, False)]
    figures = summary([*found, _instance(None, False, False)])
    assert figures["instances"] == 3
    assert figures["median_chamfer_m"] == pytest.approx(0.02)
    assert figures["within_1cm"] == pytest.approx(1 / 3)
    assert figures["certified"] == pytest.approx(2 / 3)
    assert figures["right_of_certified"] == pytest.approx(0.5)


def test_without_certificates_their_share_is_not_known() -> None:
    assert summary([_instance(0.1, False, False)])["right_of_certified"] is None
