"""Turns that nearly map closed-form shapes onto themselves."""

import numpy as np
import pytest
import torch
from analytic import AnalyticShape, box, bracket, cup, cylinder, mug
from analytic_scene import AnalyticDecoder, analytic_library
from scipy.spatial.transform import Rotation

from crisp_ros.correction.near_symmetries import near_symmetries
from crisp_ros.correction.surface import library_surfaces

MUG = mug(0.04, 0.045, 0.008, 0.03)


def found(shape: AnalyticShape) -> np.ndarray:
    decoder, library = AnalyticDecoder([shape]), analytic_library([shape])
    surfaces = library_surfaces(decoder, library)
    return near_symmetries(decoder, library, surfaces, 0).double().numpy()


def upright(T: np.ndarray) -> np.ndarray:
    """Those that keep the z axis' direction; the others stand a mug on its head."""
    return T[T[:, 2, 2] > 0.99]


def test_a_mug_has_the_turns_about_its_axis_which_is_not_its_boxs() -> None:
    T = upright(found(MUG))
    angles = np.sort(Rotation.from_matrix(T[:, :3, :3]).as_euler("zyx", degrees=True)[:, 0] % 360)
    assert angles[0] > 29.0 and angles[-1] < 331.0
    assert np.diff(np.concatenate(([30.0], angles, [330.0]))).max() < 35.0
    axis = np.array([[0.0, 0.0, -0.02, 1.0], [0.0, 0.0, 0.02, 1.0]])
    assert np.linalg.norm((axis @ T.transpose(0, 2, 1) - axis)[..., :3], axis=-1).max() < 3e-3


def test_they_leave_most_of_the_surface_in_place_and_not_all_of_it() -> None:
    points = MUG.surface(2000, torch.Generator().manual_seed(0))
    for T in torch.from_numpy(found(MUG)):
        off = MUG.sdf(points @ T[:3, :3].T + T[:3, 3]).abs()
        assert (off < 4e-3).double().mean() > 0.7
        assert (off > 8e-3).double().mean() > 0.02


def test_a_cup_can_only_stand_on_its_head() -> None:
    T = found(cup(0.04, 0.045, 0.008))
    assert len(T) > 0 and len(upright(T)) == 0


@pytest.mark.parametrize(
    "shape",
    [
        cylinder(0.04, 0.05),
        box((0.04, 0.025, 0.055)),
        bracket(0.12, 0.09, 0.05, 0.02),
    ],
    ids=lambda shape: shape.name,
)
def test_shapes_that_turns_map_onto_themselves_or_nowhere_near_have_none(
    shape: AnalyticShape,
) -> None:
    assert len(found(shape)) == 0
