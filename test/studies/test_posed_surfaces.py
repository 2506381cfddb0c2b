"""Surfaces in place: boxes of point sets, poses up to the frame, and figures of instances."""

from __future__ import annotations

import numpy as np
import pytest
from poses import pose

from crisp_ros.evaluation.true_shapes import TrueShape
from crisp_ros.studies.posed_surfaces import (
    PosedSurface,
    add_s_of_middle,
    box_iou,
    summaries_by_name,
    summary,
)


def test_overlap_of_boxes() -> None:
    cube = np.array([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
    assert box_iou(cube, cube) == pytest.approx(1.0)
    assert box_iou(cube, cube + [0.5, 0.0, 0.0]) == pytest.approx(1.0 / 3.0)
    assert box_iou(cube, cube + 2.0) == 0.0


def test_add_s_does_not_depend_on_the_frame_of_the_estimate() -> None:
    """Axes in another order and another origin are no error; a wrong place is one."""
    rng = np.random.default_rng(0)
    points = rng.uniform([-0.1, 0.0, 0.1], [0.1, 0.1, 0.15], (500, 3))
    shape, true = TrueShape(points, np.eye(3)[None]), pose((0.1, 0.2, 1.0), (0.3, 0.2, 0.1))
    middle = np.eye(4)
    middle[:3, 3] = (points.min(0) + points.max(0)) / 2
    axes = np.eye(4)
    axes[:3, :3] = [[0, -1, 0], [0, 0, 1], [-1, 0, 0]]
    assert add_s_of_middle(true @ middle @ axes, true, shape) == pytest.approx(0.0, abs=1e-9)
    aside = np.eye(4)
    aside[2, 3] = 0.3
    assert add_s_of_middle(true @ middle @ axes @ aside, true, shape) > 0.1


def _instance(
    chamfer_m: float | None, certified: bool, right: bool, name: str = "can"
) -> PosedSurface:
    return PosedSurface(
        name=name,
        frame=1,
        label=2,
        chamfer_m=chamfer_m,
        box_iou=0.5,
        add_s_m=chamfer_m,
        centroid_add_s_m=0.02,
        certified=certified,
        right=right,
        unknown=not certified,
        source="prior",
        reason="",
    )


def test_an_instance_without_a_surface_is_infinitely_far_off() -> None:
    found = [_instance(0.004, True, True), _instance(0.02, True, False)]
    figures = summary([*found, _instance(None, False, False)])
    assert figures["instances"] == 3
    assert figures["median_chamfer_m"] == pytest.approx(0.02)
    assert figures["within_1cm"] == pytest.approx(1 / 3)
    assert figures["certified"] == 2 and figures["certified_share"] == pytest.approx(2 / 3)
    assert figures["right_of_certified"] == pytest.approx(0.5)
    assert figures["wrong_by_1cm"] == 1 and figures["unknown_share"] == pytest.approx(1 / 3)
    # The area to 3 cm of errors of 4 mm, 2 cm and infinity, and of 2 cm for each.
    assert figures["auc_add_s"]["3cm"] == pytest.approx((26 / 30 + 10 / 30) / 3)
    assert figures["centroid_auc_add_s"]["3cm"] == pytest.approx(1 / 3)


def test_without_certificates_their_share_is_not_known() -> None:
    assert summary([_instance(0.1, False, False)])["right_of_certified"] is None


def test_figures_are_also_given_by_object() -> None:
    found = [_instance(0.1, False, False, "mug"), _instance(0.01, True, True)]
    assert {n: f["certified"] for n, f in summaries_by_name(found).items()} == {"can": 1, "mug": 0}
