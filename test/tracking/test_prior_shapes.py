"""Tracks of objects whose shapes are of the estimator's second model, that with the prior."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from analytic_scene import AnalyticDecoder
from scipy.spatial.transform import Rotation
from tracking.mug_views import CAN_ID, CUP_ID, MUG_ID, SHAPES
from tracking.scenes import CAN, MUG, estimate, library, looking_from, seen_points, trace

from crisp_ros.correction.prepared_library import PreparedLibrary
from crisp_ros.correction.shape_field import DecoderField
from crisp_ros.pipeline import ObjectEstimate
from crisp_ros.tracking.pose_filter import PoseFilterSettings
from crisp_ros.tracking.track import TrackedObject
from crisp_ros.tracking.tracker import Tracker
from crisp_ros.tracking.tracker_settings import TrackerSettings

OF_PRIOR = (MUG, CAN)  # of another decoder, whose codes have another length
DIRECTIONS = ([1, 1, 0.5], [0.2, 1, 0.3], [0.9, -1, 0.4])
OWN_FRAME = np.eye(4)  # of the prior's mug in that of the library's
OWN_FRAME[:3, :3] = Rotation.from_rotvec([0.0, 1.2, 0.4]).as_matrix()


@pytest.fixture
def tracked() -> Tracker:
    return make_tracker()


def make_tracker(settings: TrackerSettings | None = None) -> Tracker:
    field, prior_field = (DecoderField(AnalyticDecoder(s)) for s in (SHAPES, OF_PRIOR))
    return Tracker(
        field, PreparedLibrary(field, library(SHAPES)), settings, prior_field=prior_field
    )


def of_prior(found: ObjectEstimate, shape: int) -> ObjectEstimate:
    """The estimate of an object under the prior, in the frame that the prior has."""
    return dataclasses.replace(
        found,
        T_camera_object=found.T_camera_object @ OWN_FRAME,
        code=np.eye(len(OF_PRIOR), dtype=np.float32)[shape],
        lower=np.full(3, -0.06),
        upper=np.full(3, 0.06),
        shape_index=-1,
        shape_source="prior",
        of_prior_model=True,
    )


def shown(
    tracked: Tracker,
    stamp_s: float,
    prior: int | None = None,
    named: int = CUP_ID,
    certified: bool = True,
    points_of=MUG,
) -> TrackedObject:
    """The mug, which rests, as the library's `named`-th shape or the prior's `prior`-th."""
    T = looking_from(DIRECTIONS[int(10 * stamp_s) % len(DIRECTIONS)])
    own = estimate(1, T, named, SHAPES, certified=certified and prior is None)
    seen = trace([own], [seen_points(points_of, T, seed=int(1e3 * stamp_s))])
    if prior is not None:
        fit = {"certified": certified, "score": 0.8, "residual_m": 0.004 if certified else 0.02}
        answer = dataclasses.replace(of_prior(own, prior), **fit)
        frame = dataclasses.replace(seen.estimate, objects=(answer,))
        seen = seen._replace(estimate=frame)
    (found,) = tracked.update(stamp_s, seen, np.linalg.inv(T)).objects
    tracked.finish()
    return found


def test_a_prior_takes_over_where_the_library_certified_nothing(tracked: Tracker) -> None:
    first = shown(tracked, 0.0, named=CAN_ID, certified=False)
    found = shown(tracked, 0.1, prior=0)
    assert found.id == first.id and found.mesh_version == 2
    assert found.estimate.of_prior_model and found.shape.of_prior_model
    assert found.shape.code.shape == (len(OF_PRIOR),)
    (expected,) = tracked.expected
    assert expected.of_prior_model and expected.shape_certified
    assert not expected.of_library().shape_certified


def test_its_shape_stays_and_no_views_are_solved_for(tracked: Tracker) -> None:
    states = [shown(tracked, i / 10, prior=0, certified=i != 1) for i in range(4)]
    assert [o.mesh_version for o in states] == [1, 1, 1, 1]
    assert [o.estimate.certified for o in states] == [True, False, True, True]
    assert all(np.allclose(o.T_fixed_object, OWN_FRAME, atol=1e-6) for o in states)
    (track,) = tracked._tracks
    assert not track.views


def test_another_shape_under_the_prior_replaces_it(tracked: Tracker) -> None:
    shown(tracked, 0.0, prior=0)
    found = shown(tracked, 0.1, prior=1)
    assert found.mesh_version == 2 and found.shape.code.argmax() == 1


def test_the_library_takes_over_with_a_certificate(tracked: Tracker) -> None:
    shown(tracked, 0.0, prior=0)
    found = shown(tracked, 0.1, named=MUG_ID)
    assert found.estimate.certified and found.shape.shape_index == MUG_ID
    assert not found.shape.of_prior_model and found.mesh_version == 2


def test_a_prior_does_not_replace_a_certified_library_shape(tracked: Tracker) -> None:
    """The points are fitted to the shape of the track, from the pose that the library gave."""
    shown(tracked, 0.0, named=MUG_ID)
    found = shown(tracked, 0.1, prior=0)
    assert found.mesh_version == 1 and found.shape.shape_index == MUG_ID
    assert found.estimate.shape_source == "library" and not found.estimate.of_prior_model
    assert found.estimate.certified
    assert np.allclose(found.T_fixed_object, np.eye(4), atol=5e-3)


def test_smoothing_does_not_mix_two_object_frames() -> None:
    tracked = make_tracker(TrackerSettings(pose_filter=PoseFilterSettings(0.5, gate_m=10.0)))
    shown(tracked, 0.0, named=CAN_ID, certified=False)
    found = shown(tracked, 0.1, prior=0)
    assert np.allclose(found.T_fixed_object, OWN_FRAME, atol=1e-6) and found.estimate.certified
