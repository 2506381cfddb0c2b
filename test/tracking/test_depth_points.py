import numpy as np
import torch

from crisp_ros.correction.corrector import Correction
from crisp_ros.geometry.registration import Registration
from crisp_ros.observation.observe import Observations
from crisp_ros.pipeline import FrameEstimate, Solution, Trace
from crisp_ros.tracking.depth_points import depth_points

ESTIMATE = FrameEstimate((), (), {}, "test")


def solution(labels, points) -> Solution:
    """A solution of which only observations, coordinates, registration and pose matter."""
    count = len(labels)
    observations = Observations(
        torch.tensor(labels),
        torch.zeros(count, 3, 4, 4),
        torch.zeros(count, 3),
        points,
        torch.zeros(count, points.shape[1], 2),
        points[..., 2] > 0.5,
        (),
    )
    converged = torch.tensor(labels) % 2 == 0
    registration = Registration(
        torch.eye(4).expand(count, 4, 4), points[..., 2] > 0, torch.ones(count), converged
    )
    T = torch.eye(4).repeat(count, 1, 1)
    T[:, 0, 3] = torch.tensor(labels).float()
    correction = Correction(**(dict.fromkeys(Correction._fields) | {"T_object_camera": T}))
    known = {"observations": observations, "registration": registration, "correction": correction}
    return Solution(**(dict.fromkeys(Solution._fields) | known | {"pnc": -points}))


def test_points_of_all_parts_of_a_trace_are_joined():
    points = torch.from_numpy(np.random.default_rng(0).uniform(0, 1, (3, 10, 3))).float()
    parts = solution([4, 7], points[:2]), solution([2], points[2:])
    found = depth_points(Trace(ESTIMATE, parts))
    assert found.labels == (4, 7, 2)
    assert torch.equal(found.points, points)
    assert torch.equal(found.valid, points[..., 2] > 0.5)
    assert found.registered.tolist() == [True, False, True]
    assert torch.equal(found.coordinates, -points)
    assert torch.equal(found.weights, (points[..., 2] > 0).float())
    assert found.T_object_camera[:, 0, 3].tolist() == [4.0, 7.0, 2.0]
    assert found.frame is None


def test_a_trace_of_nothing_has_no_points():
    assert depth_points(Trace(ESTIMATE, ())) is None
