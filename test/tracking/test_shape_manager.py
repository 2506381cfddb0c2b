import numpy as np
import torch
from analytic import sphere
from scipy.spatial.transform import Rotation
from tracking.mug_views import (
    CAN_ID,
    CUP_ID,
    HANDLE_HIDDEN,
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
    library,
    looking_from,
    make_tracker,
    seen_points,
    trace,
)

from crisp_ros.correction.correspondences import Shapes
from crisp_ros.tracking.multi_view_shape import MultiViewShapes
from crisp_ros.tracking.shape_manager import ShapeManagerSettings
from crisp_ros.tracking.tracker_settings import TrackerSettings
from crisp_ros.tracking.view_buffer import ViewBufferSettings


def test_views_correct_a_shape_that_single_frames_got_wrong():
    tracked = tracker()
    for i, direction in enumerate(HANDLE_HIDDEN):  # a cup at any rotation is a good answer
        found = shown(tracked, i / 10, direction, CUP_ID, rotation=0.0 if i == 0 else 1.3 * i)
        assert (found.mesh_version, found.shape.code.argmax()) == (1, CUP_ID)
    found = shown(tracked, 0.3, HANDLE_SEEN[0], MUG_ID)
    assert found.mesh_version == 1  # solved at its end, applied from the next frame on
    found = shown(tracked, 0.4, HANDLE_SEEN[1], MUG_ID)
    assert (found.mesh_version, found.shape.code.argmax()) == (2, MUG_ID)
    assert found.views_used == 4
    assert np.isfinite(found.smallest_eigenvalue)
    assert np.allclose(found.shape.upper, MUG.upper)
    # Where the handle is hidden again, the estimate is a cup, but the track knows better.
    found = shown(tracked, 0.5, HANDLE_HIDDEN[0], CUP_ID, rotation=2.0)
    assert (found.mesh_version, found.estimate.code.argmax()) == (2, MUG_ID)
    assert found.estimate.certified
    assert found.estimate.residual_m < 0.005
    assert np.allclose(found.estimate.upper, MUG.upper)
    assert Rotation.from_matrix(found.T_fixed_object[:3, :3]).magnitude() < 0.05
    assert np.linalg.norm(found.T_fixed_object[:3, 3]) < 0.002


def test_a_frame_refitted_to_the_track_must_certify_itself():
    tracked = tracker(conflict_frames=3)
    tracked.verification = verifying(0.004)
    shown(tracked, 0.0, [1, 1, 0.5], CAN_ID, CAN)
    states = [shown(tracked, i / 10, [1, 1, 0.5], CUP_ID, CUP) for i in range(1, 4)]
    assert [o.mesh_version for o in states] == [1, 1, 2]
    for o in states[:2]:
        assert not o.estimate.certified
        assert o.estimate.code.argmax() == CAN_ID
        assert o.estimate.reason.startswith("q98 ")
        assert o.estimate.score < 0.5
    assert states[2].estimate.certified
    assert states[2].estimate.code.argmax() == CUP_ID
    assert states[2].views_used == 1


def test_an_uncertified_frame_of_another_shape_changes_nothing():
    tracked = tracker(conflict_frames=2)
    shown(tracked, 0.0, [1, 1, 0.5], CUP_ID, CUP)
    for i in range(1, 5):
        found = shown(tracked, i / 10, [1, 1, 0.5], CAN_ID, CUP, certified=False)
        assert (found.mesh_version, found.estimate.code.argmax()) == (1, CUP_ID)
        assert found.estimate.certified  # the track's shape explains what the frame's own did not


def test_only_new_sides_are_solved_for_and_few_a_frame(monkeypatch):
    solved = []
    from crisp_ros.tracking import shape_manager

    def counting(field, known, views, *rest):
        solved.append(len(views.points))
        return original(field, known, views, *rest)

    original = shape_manager.multi_view_shape
    monkeypatch.setattr(shape_manager, "multi_view_shape", counting)
    tracked = tracker(solves_per_frame=2)
    used = []
    for i in range(6):
        T = looking_from([1, 1, 0.5] if i < 3 else [1, -1, 0.5])
        x = seen_points(CUP, T, seed=i, count=100)
        seen = []
        for k in range(3):
            apart = np.eye(4)
            apart[0, 3] = 0.5 * k
            seen.append(estimate(k + 1, T @ apart, CUP_ID, SHAPES))
        shift = torch.from_numpy(T[:3, 0]).float()
        points = [x + 0.5 * k * shift for k in range(3)]
        frame = tracked.update(i / 10, trace(seen, points), np.linalg.inv(T))
        used.append([o.views_used for o in frame.objects])
    assert solved == [2, 1]
    assert used == [[1, 1, 1]] * 4 + [[2, 2, 1], [2, 2, 2]]


def test_finishing_a_frame_at_once_or_later_is_the_same():
    states = []
    for at_once in (True, False):
        tracked = tracker()
        for i, direction in enumerate((*HANDLE_HIDDEN, *HANDLE_SEEN)):
            named = CUP_ID if i < 3 else MUG_ID
            found = shown(tracked, i / 10, direction, named, finished=at_once)
            states.append((at_once, found.mesh_version, int(found.shape.code.argmax())))
    half = len(states) // 2
    assert [t[1:] for t in states[:half]] == [t[1:] for t in states[half:]]
    assert states[-1][1] == 2


def test_joint_refinement_poses_the_views_for_the_new_shape(monkeypatch):
    """The views touch the large ball; once the small one is found, they are posed for it."""
    from crisp_ros.tracking import shape_manager

    spheres = (sphere(0.05, "large"), sphere(0.036, "small"))
    known = library(spheres)
    box = torch.full((1, 3), 0.036)
    monkeypatch.setattr(
        shape_manager,
        "multi_view_shape",
        lambda *_: MultiViewShapes(
            shapes=Shapes(known.codes[1:], -box, box, torch.tensor([1])),
            changed=torch.tensor([True]),
            objective=torch.zeros(1),
            start_objective=torch.ones(1),
            tangent_eigenvalue=torch.ones(1),
        ),
    )
    errors = {}
    for joint in (True, False):
        settings = TrackerSettings(shapes=ShapeManagerSettings(joint=joint))
        tracked = make_tracker(spheres, settings=settings)
        for i, direction in enumerate(([1, 0, 0], [0, 1, 0])):
            T = looking_from(direction)
            points = [seen_points(spheres[1], T, seed=i, noise_m=0.0)]
            wrong = T.copy()
            wrong[2, 3] += 0.012  # the larger ball that touches the seen side lies deeper
            seen = estimate(1, wrong, 0, spheres)
            tracked.update(i / 10, trace([seen], points), np.linalg.inv(T))
        tracked.finish()
        (track,) = tracked._tracks
        assert track.shape.code.argmax() == 1
        pooled = track.views.pooled()
        errors[joint] = float((pooled.points.norm(dim=-1) - 0.036).abs().max())
    assert errors[True] < 1e-3 < 4e-3 < errors[False]


def test_no_views_are_kept_without_points_or_certificates():
    tracked = tracker()
    T = looking_from([1, 1, 0.5])
    (found,) = tracked.update(
        0.0, trace([estimate(1, T, CUP_ID, SHAPES)]), np.linalg.inv(T)
    ).objects
    assert found.views_used == 1
    shown(tracked, 0.1, [1, -1, 0.5], CUP_ID, CUP, certified=False)
    assert next(iter(tracked._tracks)).views is None
    shown(tracked, 0.2, [1, -1, 0.5], CUP_ID, CUP)
    assert len(next(iter(tracked._tracks)).views) == 1


def test_uncertified_views_are_kept_where_that_is_asked_for():
    tracked = tracker(views=ViewBufferSettings(certified_only=False))
    shown(tracked, 0.0, [1, -1, 0.5], CUP_ID, CUP, certified=False)
    assert len(next(iter(tracked._tracks)).views) == 1


def test_a_track_is_degenerate_until_its_views_determine_it():
    tracked = tracker()
    tracked.verification = verifying(0.003)
    found = shown(tracked, 0.0, HANDLE_HIDDEN[0], CUP_ID)
    assert not found.degenerate and np.isnan(found.smallest_eigenvalue)
    hidden = shown(tracked, 0.1, HANDLE_HIDDEN[0], CUP_ID)
    assert hidden.degenerate and hidden.views_used == 1
    for i, direction in enumerate((*HANDLE_SEEN, HANDLE_SEEN[0])):
        found = shown(tracked, 0.2 + i / 10, direction, MUG_ID)
    assert found.shape.code.argmax() == MUG_ID and not found.degenerate
    assert found.smallest_eigenvalue > hidden.smallest_eigenvalue
    blind = tracker(alternatives=None)
    for i in range(3):
        found = shown(blind, i / 10, HANDLE_HIDDEN[0], CUP_ID)
    assert not found.degenerate and np.isnan(found.smallest_eigenvalue)


def test_shapes_of_a_prior_are_those_of_the_frame():
    """The estimator keeps these shapes itself, and their frames change with them."""
    tracked = tracker()
    shown(tracked, 0.0, [1, 1, 0.5], CUP_ID, CUP, shape_source="prior")
    found = shown(tracked, 0.1, [1, 1, 0.5], CAN_ID, CUP, shape_source="prior")
    assert found.estimate.code.argmax() == CAN_ID and found.mesh_version == 2
