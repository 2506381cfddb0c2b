"""The path of a GPU, taken on a CPU: what a frame of eight objects costs in launches and waits."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from counting import CountedOperations

from crisp_ros.data.recording import Recording
from crisp_ros.geometry.fixed_shapes import force_fixed_shapes
from crisp_ros.network.checkpoint import load_model
from crisp_ros.observation.frame import Frame
from crisp_ros.pipeline import Estimator
from crisp_ros.pipeline.stage_clock import StageClock
from crisp_ros.share import bundled_recording, checkpoint_path

MOST_WAITS = 12
MOST_OPERATIONS = 1414
"""Of a frame, after the observation, which is the host's, and outside of captured functions."""


@pytest.fixture(scope="module")
def estimator() -> Estimator:
    made = Estimator(load_model(checkpoint_path()))
    made.warm_up()
    return made


@pytest.fixture(scope="module")
def frame() -> Frame:
    """The first of the bundled recording."""
    first = Frame.from_recorded(next(Recording(bundled_recording()).frames()))
    assert len(np.unique(first.labels)) - 1 == 8
    return first


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> CountedOperations:
    """Counts by the stages of the estimator's clock."""
    counted = CountedOperations()

    @contextmanager
    def stage(self: StageClock, name: str) -> Iterator[None]:
        outer, counted.stage = counted.stage, name
        yield
        counted.stage = outer

    monkeypatch.setattr(StageClock, "stage", stage)
    return counted


def test_waits_and_launches_of_a_frame_are_limited(
    estimator: Estimator, frame: Frame, counted: CountedOperations
) -> None:
    with force_fixed_shapes():
        estimator.estimate(frame)  # makes what later frames share
        with counted:
            estimator.estimate(frame)
    waits = len(counted.waits) - counted.waits_of["observe"]
    operations = counted.operations - counted.operations_of["observe"]
    assert waits <= MOST_WAITS, dict(counted.waits_of)
    assert operations <= MOST_OPERATIONS, dict(counted.operations_of)
