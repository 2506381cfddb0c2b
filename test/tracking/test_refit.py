import dataclasses

import numpy as np
import pytest
import torch
from analytic import sphere
from tracking.mug_views import (
    CAN_ID,
    CUP_ID,
    HANDLE_SEEN,
    MUG_ID,
    SHAPES,
    shown,
    tracker,
    verifying,
)
from tracking.scenes import (
    CAN,
    CUP,
    MUG,
    estimate,
    looking_from,
    seen_points,
    trace,
)

from crisp_ros.correction.covariance import CovarianceSettings
from crisp_ros.correction.verification import VerificationSettings
from crisp_ros.correction.visibility import VisibilitySettings
from crisp_ros.observation.frame import Camera, Frame


def test_a_refitted_pose_has_its_own_covariance():
    """That of the track's shape: a handle determines the rotation that a cup leaves free."""
    T = looking_from(HANDLE_SEEN[0])
    points = [seen_points(MUG, T, seed=3)]
    vague = 0.05 * torch.randn(1, *points[0].shape)
    deviations = {}
    for kept, name in ((CUP_ID, "cup"), (MUG_ID, "mug")):
        tracked = tracker()
        shown(tracked, 0.0, HANDLE_SEEN[0], kept, SHAPES[kept])
        seen = dataclasses.replace(estimate(1, T, CAN_ID, SHAPES), covariance=np.eye(6))
        for wanted in (None, CovarianceSettings()):
            tracked.verification = VerificationSettings(covariance=wanted)
            frame = tracked.update(0.1, trace([seen], points, vague), np.linalg.inv(T))
            (found,) = frame.objects
            assert found.estimate.code.argmax() == kept
            assert (found.estimate.covariance is None) == (wanted is None)
        covariance = found.estimate.covariance
        assert np.allclose(covariance, covariance.T)
        assert np.linalg.eigvalsh(covariance).min() > 0
        about_axis = found.estimate.T_camera_object[:3, 2]
        deviations[name] = np.sqrt(about_axis @ covariance[3:, 3:] @ about_axis)
    assert deviations["mug"] < 0.05 < 0.3 < deviations["cup"]


def test_a_frame_without_registration_is_not_certified():
    tracked = tracker()
    shown(tracked, 0.0, [1, 1, 0.5], CUP_ID, CUP)
    T = looking_from([1, 1, 0.5])
    points = [seen_points(CUP, T, seed=5)]
    seen = trace([estimate(1, T, CAN_ID, SHAPES, certified=False)], points, inlier_share=0.0)
    (found,) = tracked.update(0.1, seen, np.linalg.inv(T)).objects
    assert not found.estimate.certified
    assert found.estimate.reason.startswith("no pose")


@pytest.mark.parametrize("handle_in_sight", [True, False])
def test_a_shape_that_protrudes_into_free_space_is_refused(handle_in_sight):
    # The track is a mug whose handle, if it were there, would stand before the background.
    tracked = tracker()
    tracked.verification = VerificationSettings(
        visibility=VisibilitySettings(silhouette_share=0.03)
    )
    shown(tracked, 0.0, [0, -1, 0.2], MUG_ID, MUG)
    T = looking_from([0, -1, 0.2])
    camera = Camera(400.0, 400.0, 160.0, 120.0, 320, 240)
    x = seen_points(CUP, T, seed=6, count=1500)
    depth = np.full((240, 320), 2.0, np.float32)
    labels = np.zeros((240, 320), np.int32)
    if not handle_in_sight:
        depth[:] = 0.3  # something stands before it
    u, v = (400.0 * x[:, :2] / x[:, 2:]).round().int().T.numpy() + np.array([[160], [120]])
    for dv in (-2, -1, 0, 1, 2):
        for du in (-2, -1, 0, 1, 2):
            depth[v + dv, u + du] = x[:, 2]
            labels[v + dv, u + du] = 1
    frame = Frame(np.zeros((240, 320, 3), np.uint8), depth, labels, camera)
    seen = trace([estimate(1, T, CUP_ID, SHAPES)], [x], frame=frame)
    (found,) = tracked.update(0.1, seen, np.linalg.inv(T)).objects
    assert found.estimate.code.argmax() == MUG_ID
    assert found.estimate.certified != handle_in_sight
    assert ("background" in found.estimate.reason) == handle_in_sight


def test_an_object_stays_unknown_unless_its_track_explains_it():
    tracked = tracker()
    tracked.verification = verifying(0.003)
    shown(tracked, 0.0, [1, 1, 0.5], CAN_ID, CAN)
    T = looking_from([1, 1, 0.5])
    why = "unknown object: the nearest library shape, cup, is off by 14 mm"
    own = estimate(1, T, CUP_ID, SHAPES, certified=False, score=0.1)
    own = dataclasses.replace(own, unknown=True, reason=why)
    points = [seen_points(sphere(0.06, "ball"), T, seed=1)]
    (found,) = tracked.update(0.1, trace([own], points), np.linalg.inv(T)).objects
    assert found.estimate.unknown and found.estimate.reason == why
    points = [seen_points(CAN, T, seed=1)]  # the track's shape explains it
    (found,) = tracked.update(0.2, trace([own], points), np.linalg.inv(T)).objects
    assert found.estimate.certified and not found.estimate.unknown


def test_a_refit_calls_objects_unknown_like_the_estimator():
    """No library shape explains the ball; the frame's own estimate was not tested for it."""
    tracked = tracker()
    tracked.verification = verifying(0.003)
    shown(tracked, 0.0, [1, 1, 0.5], CAN_ID, CAN)
    T = looking_from([1, 1, 0.5])
    own = estimate(1, T, CUP_ID, SHAPES, certified=False, score=0.1)
    points = [seen_points(sphere(0.06, "ball"), T, seed=1)]
    seen = trace([own], points, known_shapes_tested=False)
    (found,) = tracked.update(0.1, seen, np.linalg.inv(T)).objects
    assert found.estimate.unknown and not found.estimate.certified
    assert found.estimate.reason.startswith("unknown object: the nearest library shape")
