import numpy as np
import pytest
import torch
from analytic_scene import AnalyticDecoder
from poses import pose, random_pose, rotations
from scipy.spatial.transform import Rotation
from tracking.scenes import CAN, MUG, estimate, library, make_tracker, trace

from crisp_ros.correction.prepared_library import PreparedLibrary
from crisp_ros.correction.shape_field import DecoderField
from crisp_ros.correction.symmetry_motions import SymmetryKind
from crisp_ros.geometry.symmetry_group import symmetry_group
from crisp_ros.tracking.symmetry_voting import SymmetryVotes, shift_covariance
from crisp_ros.tracking.tracker_settings import TrackerSettings

HALF = symmetry_group(rotations([0, 0, 1], 2))
ROUND = symmetry_group(rotations([0, 0, 1], 36))
BOX = np.array([-0.03, -0.02, -0.05]), np.array([0.03, 0.02, 0.05])


def rotated(T, degrees):
    return T @ pose((0, 0, 0), (0, 0, np.deg2rad(degrees)))


def angle(a, b):
    return np.rad2deg(Rotation.from_matrix(a[:3, :3].T @ b[:3, :3]).magnitude())


def answers(votes, group, angles, T=None):
    T = pose((0.1, 0.0, 0.7), (0.4, -1.0, 0.2)) if T is None else T
    found = [votes.resolve(rotated(T, a), 0, group, BOX) for a in angles]
    return [round(angle(T, f)) for f in found]


def test_an_overruled_frame_does_not_rotate_the_object():
    assert answers(SymmetryVotes(9), HALF, [0, 0, 180, 0, 180, 180, 0, 0]) == [0] * 8


def test_the_majority_wins_in_the_end():
    votes = SymmetryVotes(9)
    assert answers(votes, HALF, [180, 0, 0]) == [180, 180, 0]
    # Four frames of a full window do not rotate it, five do.
    assert answers(votes, HALF, [0] * 9 + [180] * 5) == [0] * 13 + [180]


def test_a_round_shape_is_resolved_to_within_forty_degrees():
    found = answers(SymmetryVotes(9), ROUND, [0, 10, 20, 120, 30, 250, 20, 20])
    assert found == [0, 10, 20, 20, 30, 30, 20, 20]


def test_motion_is_followed_between_misread_frames():
    votes = SymmetryVotes(9)
    T = pose((0.0, 0.0, 0.8), (0.3, 0.2, 0.0))
    for i in range(40):
        moved = rotated(T, 15.0 * i)  # more than a full revolution, upside down now and then
        seen = rotated(moved, 180.0) if i % 4 == 3 else moved
        assert angle(votes.resolve(seen, 0, HALF, BOX), moved) < 1e-3


def test_a_certified_orientation_counts_as_several_frames():
    """Four frames agree on one orientation; one that is certified outweighs them, at once."""
    T, plain, sure = pose(), SymmetryVotes(25), SymmetryVotes(25)
    for votes in (plain, sure):
        for _ in range(4):
            votes.resolve(T, 0, HALF, BOX)
    other = rotated(T, 180.0)
    assert angle(plain.resolve(other, 0, HALF, BOX), other) == pytest.approx(180)
    assert angle(sure.resolve(other, 0, HALF, BOX, certified=True), other) < 1e-3


def test_another_shape_drops_the_votes_of_the_last():
    votes = SymmetryVotes(9)
    T = pose()
    for _ in range(5):
        votes.resolve(T, 0, HALF, BOX)
    assert angle(votes.resolve(rotated(T, 180), 1, HALF, BOX), T) == pytest.approx(180)


def test_a_window_of_one_follows_every_frame():
    assert answers(SymmetryVotes(1), HALF, [0, 180, 0, 180]) == [0, 180, 0, 180]


def test_depth_symmetries_are_those_of_the_bare_surface():
    shapes = (CAN, MUG)
    prepared = PreparedLibrary(DecoderField(AnalyticDecoder(shapes)), library(shapes))
    exact, same = SymmetryKind.EXACT, SymmetryKind.SAME_SHAPE
    assert len(prepared.symmetry_group(0, exact).transforms) == 1
    can, mug = (prepared.symmetry_group(i, same) for i in (0, 1))
    assert len(can.transforms) == 72 and len(can.axes) == 1
    assert len(mug.axes) == 0  # the handle
    assert prepared.symmetry_group(0, same) is can


@pytest.mark.parametrize("window", [1, 25])
def test_a_misread_print_does_not_rotate_a_tracked_can(window):
    """The overruled frame is fitted again: it keeps its certificate, and does not move."""
    rng = np.random.default_rng(5)
    shapes = (CAN, MUG)
    T = random_pose(rng, 0.1)
    tracker = make_tracker(shapes, settings=TrackerSettings(symmetry_votes=window))
    angles = rng.uniform(-np.pi, np.pi, 400)
    heights = rng.uniform(-0.05, 0.05, 400)
    surface = np.stack([0.033 * np.cos(angles), 0.033 * np.sin(angles), heights], axis=1)
    points = torch.from_numpy(surface @ T[:3, :3].T + T[:3, 3]).float()
    poses = []
    for i in range(12):
        seen = estimate(1, rotated(T, 130.0 if i in (5, 9) else 3.0 * (i % 2)), 0, shapes)
        frame = tracker.update(0.1 * i, trace([seen], [points]))
        tracker.finish()
        assert frame.objects[0].estimate.certified
        poses.append(frame.objects[0].T_fixed_object)
    off = [angle(T, p) for p in poses]
    assert all(off[i] < 10.0 for i in range(12) if i not in (5, 9))
    assert all((off[i] < 10.0) == (window > 1) for i in (5, 9))
    assert max(np.linalg.norm(p[:3, 3] - T[:3, 3]) for p in poses) < 1e-3


def test_the_covariance_follows_its_shifted_origin():
    """A shifted origin also moves with the errors of the rotation."""
    rng = np.random.default_rng(2)
    root = rng.normal(0, 0.01, (6, 6))
    moved = rng.normal(0, 0.1, 3)
    errors = rng.normal(0, 1, (200_000, 6)) @ root.T
    there = errors.copy()
    there[:, :3] += np.cross(errors[:, 3:], moved)
    expected = np.cov(there.T, bias=True)
    found = shift_covariance(root @ root.T, moved)
    assert np.allclose(found, expected, atol=2e-2 * np.abs(expected).max())
    assert shift_covariance(None, moved) is None
