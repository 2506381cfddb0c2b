import gc
import tracemalloc

import numpy as np
import pytest
import torch
from analytic import sphere
from scipy.spatial.transform import Rotation
from tracking.scenes import estimate, make_tracker, trace

from crisp_ros.tracking.shape_manager import ShapeManagerSettings
from crisp_ros.tracking.tracker import Tracker
from crisp_ros.tracking.tracker_settings import TrackerSettings
from crisp_ros.tracking.view_buffer import ViewBufferSettings

SHAPES = (sphere(0.04, "small"), sphere(0.05, "large"))


def flight(tracked: Tracker, frames: int, start: int = 0) -> tuple[int, int]:
    """A camera circles over objects that come and go; returns objects and tensor elements."""
    rng = np.random.default_rng(start)
    template = torch.nn.functional.normalize(torch.randn(64, 3), dim=-1) * 0.04
    for i in range(start, start + frames):
        T = np.eye(4)
        angle = 0.02 * i
        T[:3, :3] = Rotation.from_rotvec([0, angle, 0]).as_matrix()
        T[:3, 3] = (0, 0.1 * np.sin(0.003 * i), 1.0)
        seen, points = [], []
        for k in range(4):
            if (i // (40 + 13 * k)) % 3 == 2:
                continue  # away for longer than it takes to be forgotten
            T_k = T.copy()
            T_k[:3, 3] += T[:3, :3] @ [0.3 * (k - 1.5), 0, 0] + rng.normal(0, 0.001, 3)
            seen.append(estimate(k + 1, T_k, int(rng.random() < 0.1), SHAPES, rng.random() < 0.8))
            points.append(template + torch.from_numpy(T_k[:3, 3]).float())
        tracked.update(i / 30, trace(seen, points), np.linalg.inv(T))
    gc.collect()
    held = [o for o in gc.get_objects() if isinstance(o, torch.Tensor)]
    return len(gc.get_objects()), sum(tensor.numel() for tensor in held)


def tracker() -> Tracker:
    shapes = ShapeManagerSettings(views=ViewBufferSettings(max_views=10, points_per_view=16))
    settings = TrackerSettings(shapes=shapes, death_s=0.5, tentative_s=0.2)
    return make_tracker(SHAPES, settings=settings)


@pytest.mark.parametrize("frames", [1000, pytest.param(10000, marks=pytest.mark.slow)])
def test_memory_is_constant(frames):
    tracked = tracker()
    period = 40 * 3  # about after which the scene looks alike; the count then still varies a little
    flight(tracked, 4 * period)
    tracemalloc.start()
    objects, elements = flight(tracked, period, 4 * period)
    before = tracemalloc.get_traced_memory()[0]
    flight(tracked, frames, 5 * period)
    objects_after, elements_after = flight(tracked, period, 5 * period + frames)
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert tracked.reset()  # it had tracks
    one_track = 10 * 16 * 3 + 10 * 16 + 10 * 16
    assert elements_after <= elements + 4 * one_track
    assert objects_after <= objects + 500
    assert grown < 200_000  # bytes; a kilobyte lost a frame would be five times that
