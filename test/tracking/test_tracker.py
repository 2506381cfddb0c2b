import dataclasses

import numpy as np
import pytest
from analytic_scene import AnalyticDecoder
from poses import pose, random_pose, rotations
from scipy.spatial.transform import Rotation
from tracking.scenes import CAN, CUP, MUG, SHAPES, estimate, ids, trace, tracker

from crisp_ros.correction.shape_field import DecoderField
from crisp_ros.tracking.jitter import jitter
from crisp_ros.tracking.pose_filter import PoseFilterSettings
from crisp_ros.tracking.track import TrackState
from crisp_ros.tracking.tracker import Tracker

CAN_GROUP = np.concatenate(
    [rotations([0, 0, 1], 36), rotations([0, 0, 1], 36) @ rotations([1, 0, 0], 2)[1]]
)


def test_an_object_is_held_while_hidden_and_ends_after_a_time():
    tracked = tracker(visible_s=0.3, death_s=2.0)
    T = pose((0.1, 0.2, 1.0), (0.3, 0.0, 0.0))
    tracked.update(0.0, trace([estimate(1, T)]), names={1: "mug"})
    T_fixed_camera = pose((0.0, 0.1, 0.0), (0.0, 0.2, 0.0))
    for stamp, state in ((0.2, TrackState.VISIBLE), (0.4, TrackState.HIDDEN), (1.9, None)):
        frame = tracked.update(stamp, trace([]), T_fixed_camera)
        (held,) = frame.unseen
        assert held.id == "mug_1"
        assert held.state is (state or TrackState.HIDDEN)
        assert np.allclose(held.estimate.T_camera_object, np.linalg.inv(T_fixed_camera) @ T)
        assert not held.estimate.certified
        assert held.estimate.score == 0.0
        assert held.estimate.reason == f"not seen for {stamp:.1f} s"
        assert held.last_seen_s == 0.0
    assert ids(tracked.update(1.95, trace([estimate(4, T)]))) == ["mug_1"]  # back in time
    frame = tracked.update(4.0, trace([]))
    assert frame.ended == ("mug_1",)
    assert frame.unseen == ()
    assert ids(tracked.update(4.1, trace([estimate(1, T)]), names={1: "mug"})) == ["mug_2"]


def test_a_time_jump_back_ends_all_and_ids_are_not_used_again():
    tracked = tracker()
    seen = [estimate(1, pose()), estimate(2, pose((0.3, 0, 1)))]
    tracked.update(100.0, trace(seen))
    frame = tracked.update(99.95, trace(seen))  # out of order by a little
    assert not frame.restarted
    assert ids(frame) == ["object_1", "object_2"]
    frame = tracked.update(20.0, trace(seen))
    assert frame.restarted
    assert frame.ended == ("object_1", "object_2")
    assert ids(frame) == ["object_3", "object_4"]
    assert ids(tracked.update(20.1, trace(seen))) == ["object_3", "object_4"]
    assert tracked.reset() == ("object_3", "object_4")
    assert len(tracked) == 0


def test_a_track_is_tentative_until_certified_or_seen_often():
    tracked = tracker(birth_detections=3, tentative_s=0.5)
    unsure = [estimate(1, pose(), certified=False)]
    states = [tracked.update(i / 10, trace(unsure)).objects[0].state for i in range(3)]
    assert states == [TrackState.TENTATIVE, TrackState.TENTATIVE, TrackState.VISIBLE]
    sure = estimate(2, pose((0.5, 0, 1)))
    assert tracked.update(0.3, trace([sure])).objects[0].state is TrackState.VISIBLE
    tracked.update(0.4, trace([estimate(3, pose((-0.5, 0, 1)), certified=False)]))
    frame = tracked.update(1.0, trace([]))
    assert frame.ended == ("object_3",)
    assert [o.id for o in frame.unseen] == ["object_1", "object_2"]


def test_a_symmetric_object_does_not_flip():
    rng = np.random.default_rng(2)
    box = SHAPES[0]
    symmetries = [np.concatenate([rotations([0, 0, 1], 2), rotations([1, 0, 0], 2)[1:]])]
    symmetries[0] = np.concatenate([symmetries[0], symmetries[0][1:2] @ symmetries[0][2:3]])
    tracked = tracker((box,), symmetries)
    T_fixed_camera = pose((0.2, 0.0, -1.0), (0.3, 0.2, 0.1))
    raw, calm = [], []
    for i in range(40):
        turning = pose((0.0, 0.0, 0.5), (0.02 * i, 0.0, 0.1))  # it is carried, too
        noisy = turning @ pose(rng.normal(0, 1e-3, 3), rng.normal(0, 5e-3, 3))
        T = np.linalg.inv(T_fixed_camera) @ noisy @ symmetries[0][i % 4]
        (o,) = tracked.update(i / 10, trace([estimate(1, T, 0, (box,))]), T_fixed_camera).objects
        raw.append(T_fixed_camera @ T)
        calm.append(o.T_fixed_object)
        assert np.allclose(T_fixed_camera @ o.estimate.T_camera_object, o.T_fixed_object)
    assert jitter(raw).step_rad > 2.0
    assert jitter(calm).step_rad < 0.04
    assert jitter(calm).step_m == pytest.approx(jitter(raw).step_m)


def test_a_can_that_spins_in_the_estimates_stands_still():
    rng = np.random.default_rng(3)
    tracked = tracker((CAN,), [CAN_GROUP])
    upright = random_pose(rng)
    poses = []
    for i in range(30):
        spin = pose((0, 0, 0), (0, 0, rng.uniform(-3, 3)))
        flip = rotations([1, 0, 0], 2)[i % 2]
        seen = estimate(1, upright @ spin @ flip, 0, (CAN,))
        poses.append(tracked.update(i / 10, trace([seen])).objects[0].T_fixed_object)
    assert jitter(poses).step_rad < 1e-6
    assert jitter(poses).step_m < 1e-9


def test_a_bad_uncertified_pose_leaves_the_reference():
    half = rotations([0, 0, 1], 2)
    tracked = tracker((SHAPES[0],), [half], reference_s=1.0)

    def rotation(stamp, angle, certified):
        seen = estimate(1, pose((0, 0, 1), (0, 0, angle)), 0, (SHAPES[0],), certified)
        (o,) = tracked.update(stamp, trace([seen])).objects
        return Rotation.from_matrix(o.T_fixed_object[:3, :3]).as_rotvec()[2]

    rotation(0.0, 0.0, True)
    # Nearer to half a revolution than to none, so through it the next one would be flipped.
    assert rotation(0.1, 1.5, False) == pytest.approx(1.5)
    assert rotation(0.2, 3.0, True) == pytest.approx(3.0 - np.pi)
    # After some time without a certified pose an uncertified one is the reference.
    assert rotation(2.0, 1.3, False) == pytest.approx(1.3)
    assert rotation(2.1, 2.8, True) == pytest.approx(2.8)


def test_a_mug_that_looks_like_a_cup_keeps_its_rotation():
    shapes = (CUP, MUG)
    tracked = tracker(shapes, [rotations([0, 0, 1], 36), np.eye(4)[None]])
    first = pose((0, 0, 1), (0, 0, 0.7))
    tracked.update(0.0, trace([estimate(1, first, 1, shapes)]))
    spun = first @ pose((0, 0, 0), (0, 0, 2.0))
    (o,) = tracked.update(0.1, trace([estimate(1, spun, 0, shapes)])).objects
    assert np.allclose(o.T_fixed_object, first, atol=1e-6)


def test_the_filter_calms_poses_and_the_certificate_knows_of_it():
    rng = np.random.default_rng(4)
    tracked = tracker(pose_filter=PoseFilterSettings(time_constant_s=0.3))
    raw, calm = [], []
    for i in range(60):
        T = pose(rng.normal((0, 0, 1), 0.001), rng.normal(0, 0.005, 3))
        (o,) = tracked.update(i / 20, trace([estimate(1, T)])).objects
        raw.append(T)
        calm.append(o.T_fixed_object)
        corners = np.array(np.meshgrid(*zip(o.estimate.lower, o.estimate.upper, strict=True)))
        moved = (o.T_fixed_object - T)[:3] @ np.vstack([corners.reshape(3, -1), np.ones(8)])
        bound = 0.004 + np.linalg.norm(moved, axis=0).max()
        assert o.estimate.residual_m == pytest.approx(bound)
        assert o.estimate.certified == (bound <= 0.01)
        assert (o.estimate.score >= 0.5) == o.estimate.certified
    assert jitter(calm[10:]).step_m < 0.3 * jitter(raw).step_m


def test_a_pose_smoothed_too_far_is_not_certified():
    tracked = tracker(pose_filter=PoseFilterSettings())
    tracked.update(0.0, trace([estimate(1, pose())]))
    (o,) = tracked.update(0.02, trace([estimate(1, pose((0.03, 0, 0.8)))])).objects
    assert not o.estimate.certified
    assert o.estimate.score < 0.5
    assert o.estimate.reason.startswith("smoothing moved the shape by")


def test_a_shape_survives_a_few_conflicting_frames_but_not_many():
    tracked = tracker()
    assert tracked.update(0.0, trace([estimate(1, pose(), 4)])).objects[0].mesh_version == 1
    for i in range(1, 10):
        (o,) = tracked.update(i / 10, trace([estimate(1, pose(), 5)])).objects
        assert (o.mesh_version, o.shape.code.argmax()) == (1, 4)
    (o,) = tracked.update(1.0, trace([estimate(1, pose(), 5)])).objects
    assert (o.mesh_version, o.shape.code.argmax()) == (2, 5)
    for i in range(11, 40):  # alternating, neither wins any more
        (o,) = tracked.update(i / 10, trace([estimate(1, pose(), 4 + i % 2)])).objects
        assert (o.mesh_version, o.shape.code.argmax()) == (2, 5)


def test_the_best_score_decides_the_shape_until_certified():
    tracked = tracker()
    states = []
    for shape, certified, score in (
        (2, False, 0.2),
        (3, False, 0.1),
        (4, False, 0.3),
        (2, False, 0.25),
        (5, True, 0.9),
        (2, False, 0.45),
    ):
        seen = estimate(1, pose(), shape, certified=certified, score=score)
        (o,) = tracked.update(len(states) / 10, trace([seen])).objects
        states.append((o.mesh_version, int(o.shape.code.argmax())))
    assert states == [(1, 2), (1, 2), (2, 4), (2, 4), (3, 5), (3, 5)]


def test_without_a_library_only_real_changes_of_the_shape_count():
    shapes = (CUP, MUG, CUP)
    tracked = Tracker(DecoderField(AnalyticDecoder(shapes)))
    versions = []
    for i, s in enumerate([0, 2, 0, 1, 1, 2]):
        seen = estimate(1, pose(), s, shapes, False, 0.1 + i / 100)
        seen = dataclasses.replace(seen, shape_index=-1)
        versions.append(tracked.update(i / 10, trace([seen])).objects[0].mesh_version)
    assert versions == [1, 1, 1, 2, 2, 3]


def test_estimates_that_are_not_finite_are_rejected_alone():
    tracked = tracker()
    bad = pose()
    bad[0, 3] = np.nan
    frame = tracked.update(0.0, trace([estimate(1, bad), estimate(2, pose())]))
    assert [o.estimate.label for o in frame.objects] == [2]
    assert [(r.label, r.reason) for r in frame.rejected] == [(1, "the estimate is not finite")]


@pytest.mark.parametrize(
    ("stamp", "T"),
    [
        (np.nan, None),
        (0.0, np.eye(3)),
        (0.0, np.diag([1.0, 1.0, -1.0, 1.0])),
        (0.0, np.diag([2.0, 2.0, 2.0, 1.0])),
        (0.0, np.full((4, 4), np.nan)),
    ],
)
def test_bad_stamps_and_camera_poses_are_refused(stamp, T):
    with pytest.raises(ValueError, match="expected"):
        tracker().update(stamp, trace([]), T)


def test_an_empty_frame_is_fine():
    frame = tracker().update(0.0, trace([]))
    assert frame[:-1] == ((), (), (), (), False) and frame.fit_ms >= 0.0


def test_a_wrong_uncertified_pose_does_not_lose_the_object():
    tracked = tracker()
    for i in range(3):
        tracked.update(i / 4, trace([estimate(1, pose((0.0, 0.0, 1.0)))]))
    wrong = estimate(1, pose((0.12, 0.05, 1.0)), certified=False)  # at 0.5 m/s it would go on
    assert ids(tracked.update(0.75, trace([wrong]))) == ["object_1"]
    assert ids(tracked.update(1.0, trace([estimate(1, pose((-0.05, 0.0, 1.0)))]))) == ["object_1"]


def test_objects_of_the_last_frame_are_expected() -> None:
    """At their poses relative to its camera, with how often they were seen."""
    tracked = tracker()
    assert tracked.expected == ()
    here, there = pose((0.0, 0.0, 1.0)), pose((0.4, 0.0, 1.0))
    tracked.update(0.0, trace([estimate(1, here), estimate(2, there)]))
    tracked.update(0.1, trace([estimate(1, here)]))
    (expected,) = tracked.expected
    np.testing.assert_allclose(expected.T_camera_object, here)
    seen = estimate(1, here)
    assert expected.detections == 2 and expected.shape_index == seen.shape_index
    np.testing.assert_array_equal((expected.lower, expected.upper), (seen.lower, seen.upper))
    tracked.reset()
    assert tracked.expected == ()
