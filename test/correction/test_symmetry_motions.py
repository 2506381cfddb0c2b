"""Symmetries and near symmetries of closed-form shapes."""

import numpy as np
import pytest
import torch
from analytic import AnalyticShape, box, bracket, cup, cylinder, mug
from analytic_scene import analytic_field, analytic_prepared
from scipy.spatial.transform import Rotation

from crisp_ros.correction.symmetry_motions import (
    SymmetryKind,
    SymmetryMotions,
    orientation_motions,
    symmetry_motions,
    without_twist,
)
from crisp_ros.geometry.se3 import from_rotation_translation, rotation_about

MUG = mug(0.04, 0.045, 0.008, 0.03)
HALF_TURNS = ((1.0, -1.0, -1.0), (-1.0, 1.0, -1.0), (-1.0, -1.0, 1.0))


def motions(shape: AnalyticShape) -> SymmetryMotions:
    """Find the symmetries of every kind; the print has none."""
    return analytic_prepared(shape).motions(0)


def near(shape: AnalyticShape) -> np.ndarray:
    return motions(shape).of_kind(SymmetryKind.NEAR).double().numpy()


def upright(T: np.ndarray) -> np.ndarray:
    """Those that keep the z axis' direction; the others stand a mug on its head."""
    return T[T[:, 2, 2] > 0.99]


def test_a_mug_may_rotate_about_the_axis_of_its_cup() -> None:
    """Which is not that of its box."""
    T = upright(near(MUG))
    angles = np.sort(Rotation.from_matrix(T[:, :3, :3]).as_euler("zyx", degrees=True)[:, 0] % 360)
    assert angles[0] > 29.0 and angles[-1] < 331.0
    assert np.diff(np.concatenate(([30.0], angles, [330.0]))).max() < 35.0
    axis = np.array([[0.0, 0.0, -0.02, 1.0], [0.0, 0.0, 0.02, 1.0]])
    assert np.linalg.norm((axis @ T.transpose(0, 2, 1) - axis)[..., :3], axis=-1).max() < 3e-3


def test_near_symmetries_move_only_a_part_of_the_surface() -> None:
    points = MUG.surface(2000, torch.Generator().manual_seed(0))
    for T in torch.from_numpy(near(MUG)):
        off = MUG.sdf(points @ T[:3, :3].T + T[:3, 3]).abs()
        assert (off < 4e-3).double().mean() > 0.7
        assert (off > 8e-3).double().mean() > 0.02


def test_a_cup_can_only_stand_on_its_head() -> None:
    T = near(cup(0.04, 0.045, 0.008))
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
def test_symmetric_and_irregular_shapes_have_no_near_ones(shape: AnalyticShape) -> None:
    assert len(near(shape)) == 0


def test_rotations_of_the_surface_ignore_the_print() -> None:
    """A can has them about its axis and onto its head, a box by half a circle, a bracket none."""
    can = motions(cylinder(0.04, 0.05)).of_kind(SymmetryKind.SAME_SHAPE)
    axis = can[:, :3, 2]
    assert len(can) == 71 and (axis[:, 2].abs() > 0.999).all()
    assert (axis[:, 2] > 0).sum() == 35
    halves = motions(box((0.04, 0.025, 0.055))).of_kind(SymmetryKind.SAME_SHAPE)
    expected = torch.stack([torch.diag(torch.tensor(s)) for s in HALF_TURNS])
    assert len(halves) == 3
    for wanted in expected:
        assert (halves[:, :3, :3] - wanted).abs().amax((1, 2)).min() < 0.05
    mirrored = motions(bracket(0.12, 0.09, 0.05, 0.02)).of_kind(SymmetryKind.SAME_SHAPE)
    assert len(mirrored) == 0


def test_rotations_about_a_free_axis_are_taken_back() -> None:
    """The tilt and the shift of a can stay, its rotation about the axis does not."""
    can, brick = (
        orientation_motions(motions(shape))
        for shape in (cylinder(0.04, 0.05), box((0.04, 0.025, 0.055)))
    )
    before = from_rotation_translation(
        torch.from_numpy(Rotation.from_euler("zyx", [40.0, 100.0, 20.0], degrees=True).as_matrix()),
        torch.tensor([0.02, -0.1, 0.6], dtype=torch.float64),
    ).float()
    tilt = torch.from_numpy(Rotation.from_euler("y", 4.0, degrees=True).as_matrix()).float()
    tilted = from_rotation_translation(tilt, torch.tensor([0.001, 0.002, -0.003])) @ before
    for degrees in (-150.0, -20.0, 35.0, 170.0):
        twist = Rotation.from_euler("z", degrees, degrees=True).as_matrix()
        twisted = rotation_about(torch.from_numpy(twist).float(), torch.zeros(3)) @ tilted
        found = without_twist(twisted[None].repeat(2, 1, 1), before.expand(2, 4, 4), [can, brick])
        torch.testing.assert_close(found[0], tilted, atol=2e-3, rtol=0)
        torch.testing.assert_close(found[1], twisted, atol=1e-6, rtol=0)


def test_kinds_are_ordered_and_the_identity_comes_first() -> None:
    for shape in (MUG, cylinder(0.04, 0.05), box((0.04, 0.025, 0.055))):
        found = motions(shape)
        assert torch.equal(found.transforms[0], torch.eye(4))
        assert found.kinds[0] == SymmetryKind.EXACT and (found.kinds.diff() >= 0).all()
        assert torch.equal(found.of_kind(SymmetryKind.EXACT), torch.eye(4)[None])
        for kind in SymmetryKind:
            assert len(found.up_to(kind)) == (found.kinds <= kind).sum()


def test_symmetries_of_the_print_are_exact() -> None:
    """They are those that the library has, and no motion has two kinds."""
    library, shape = analytic_prepared(cylinder(0.04, 0.05)), 0
    exact = torch.eye(4).repeat(2, 1, 1)
    exact[1, :3, :3] = torch.diag(torch.tensor([-1.0, -1.0, 1.0]))
    points = library.surfaces.points[shape][library.surfaces.valid[shape]]
    can = library.all_shapes.rows(torch.tensor(shape))
    found = symmetry_motions(analytic_field(cylinder(0.04, 0.05)), can, points, exact)
    assert torch.equal(found.of_kind(SymmetryKind.EXACT), exact)
    assert len(found.of_kind(SymmetryKind.SAME_SHAPE)) == 70
    rotations = found.transforms[:, :3, :3]
    apart = (rotations[:, None] - rotations).abs().amax((-1, -2))
    assert (apart.fill_diagonal_(1.0) > 0.05).all()


def test_a_shape_without_a_surface_has_the_exact_ones_alone() -> None:
    library, nothing = analytic_prepared(MUG), torch.zeros(0, 3)
    shape, field = library.all_shapes.rows(torch.tensor(0)), analytic_field(MUG)
    found = symmetry_motions(field, shape, nothing, torch.eye(4)[None])
    assert found.of_kind(SymmetryKind.NEAR).shape == (0, 4, 4)
    assert torch.equal(found.transforms, torch.eye(4)[None])
