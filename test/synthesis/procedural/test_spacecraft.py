"""Spacecraft have a common frame: an image of an unseen one shows which way it points."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("manifold3d")

from crisp_ros.synthesis.procedural.blueprint import Part
from crisp_ros.synthesis.procedural.spacecraft import spacecraft


def vertices(part: Part) -> np.ndarray:
    return np.asarray(part.solid.to_mesh().vert_properties)[:, :3]


def parts(finish: str) -> list[np.ndarray]:
    """The vertices of the parts of one finish, of 40 spacecraft."""
    drawn = [spacecraft(np.random.default_rng([8, k])).parts for k in range(40)]
    return [vertices(part) for blueprint in drawn for part in blueprint if part.finish == finish]


def test_the_dish_is_above_or_at_the_positive_y() -> None:
    dishes = [points.mean(axis=0) for points in parts("ceramic")]
    aside = [centre[1] > 0.1 for centre in dishes]
    assert 5 < sum(aside) < len(dishes) > 30
    assert all(y or centre[2] > 0.1 for y, centre in zip(aside, dishes, strict=True))


def test_panels_stand_out_along_x_and_tilt_one_way() -> None:
    panels = parts("cells")
    assert len(panels) > 30
    for points in panels:
        x, y, z = points.T
        assert np.abs(x).max() > 0.3 and x.max() > 0
        assert np.corrcoef(y, z)[0, 1] > 0.2


def test_booms_point_down_or_along_the_negative_y() -> None:
    thin = [points for points in parts("metal") if np.abs(points[:, 0]).max() < 0.1]
    booms = [points for points in thin if np.ptp(points, axis=0).max() > 0.25]
    assert len(booms) > 15
    for points in booms:
        least, most = points.min(axis=0), points.max(axis=0)
        assert (np.abs(least) > most)[1:].any()
        along = np.ptp(points, axis=0).argmax()
        assert -least[along] > 0.25 > most[along]
