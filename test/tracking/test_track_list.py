import numpy as np
import pytest
from poses import pose
from tracking.scenes import estimate, ids, trace, tracker

from crisp_ros.tracking.association import AssociationSettings

BALL, BAR = 1, 7  # of the household


def test_objects_at_rest_keep_their_ids_under_shuffled_labels():
    rng = np.random.default_rng(0)
    places = [(x, y, 0.9) for x in (-0.1, 0.0, 0.1) for y in (-0.06, 0.06)]
    tracked = tracker()
    first: list[str] = []
    for i in range(20):
        labels = rng.permutation(6) + 1
        seen = [
            estimate(int(label), pose(np.array(p) + rng.normal(0, 0.005, 3)), shape=BALL)
            for label, p in zip(labels, places, strict=True)
        ]
        found = ids(tracked.update(i / 10, trace(seen)))
        first = first or found
        assert found == first
    assert len(set(first)) == 6


def test_a_moving_camera_does_not_matter():
    rng = np.random.default_rng(1)
    resting = [pose((0.3 * i, 0.0, 0.0), rng.normal(0, 1, 3)) for i in range(4)]
    tracked = tracker()
    for i in range(30):
        # The camera flies by at 3 m/s and rotates.
        T_fixed_camera = pose((0.3 * i - 3.0, 0.5, -1.5), (0.0, 0.05 * i - 0.7, 0.1))
        seen = [
            estimate(k + 1, np.linalg.inv(T_fixed_camera) @ T, shape=k)
            for k, T in enumerate(resting)
        ]
        frame = tracked.update(i / 10, trace(seen), T_fixed_camera)
        assert ids(frame) == ["object_1", "object_2", "object_3", "object_4"]
        for o, T in zip(frame.objects, resting, strict=True):
            assert np.allclose(o.T_fixed_object, T)
            assert np.allclose(T_fixed_camera @ o.estimate.T_camera_object, T)


@pytest.mark.parametrize("same", [True, False])
def test_crossing_objects_keep_their_ids(same):
    tracked = tracker()
    for i in range(41):
        x = -0.4 + 0.02 * i  # two objects pass each other at 0.4 m/s relative to the table
        seen = [
            estimate(1, pose((x, 0.0, 1.0)), shape=BALL),
            estimate(2, pose((-x, 0.05, 1.0)), shape=BALL if same else BAR),
        ]
        if i % 2:
            seen = seen[::-1]
        frame = tracked.update(i / 20, trace(seen), names={1: "ball", 2: "ball"} if same else {})
        by_label = {o.estimate.label: o.id for o in frame.objects}
        assert by_label == ({1: "ball_1", 2: "ball_2"} if same else {1: "object_1", 2: "object_2"})


def test_ids_are_fit_for_tf_frames_and_stay_when_names_come_late():
    tracked = tracker()
    seen = [estimate(1, pose()), estimate(2, pose((0.4, 0, 1)))]
    assert ids(tracked.update(0.0, trace(seen), names={1: "Mug (red)/é"})) == [
        "Mug_red_1",
        "object_2",
    ]
    frame = tracked.update(0.1, trace(seen), names={1: "Mug (red)/é", 2: "bowl"})
    assert ids(frame) == ["Mug_red_1", "object_2"]
    assert frame.objects[1].class_name == "bowl"


def test_tracked_labels_follow_an_object_anywhere():
    settings = AssociationSettings(tracked_labels=True)
    tracked = tracker(association=settings)
    tracked.update(0.0, trace([estimate(5, pose()), estimate(6, pose((0.2, 0, 0.8)))]))
    frame = tracked.update(
        0.1, trace([estimate(6, pose((2, 0, 2))), estimate(5, pose((0.2, 0, 0.8)))])
    )
    assert ids(frame) == ["object_2", "object_1"]


def test_the_longest_unseen_tracks_end_when_there_are_too_many():
    tracked = tracker(max_tracks=3)
    tracked.update(0.0, trace([estimate(1, pose((x, 0, 1))) for x in (0.0, 1.0)]))
    tracked.update(0.1, trace([estimate(1, pose((1.0, 0, 1)))]))
    frame = tracked.update(0.2, trace([estimate(1, pose((x, 0, 1))) for x in (2.0, 3.0)]))
    assert frame.ended == ("object_1",)
    assert len(tracked) == 3
