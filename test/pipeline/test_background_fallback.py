"""The estimator with searches in the background: other objects do not wait for unknown ones."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
from pipeline.table_scene import TIN, TIN_PLACE, UNKNOWN, known_model, table_frame
from pipeline.three_objects import SETTINGS

from crisp_ros.network.checkpoint import Model, load_model
from crisp_ros.pipeline import Estimator, ObjectEstimate, Trace, prior_memory
from crisp_ros.pipeline.prior_fits import single_view_fit
from crisp_ros.share import prior_path
from crisp_ros.tracking.tracker import Tracker

STILL = np.eye(4)
PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def prior() -> Model:
    return load_model(prior_path("household"))


@pytest.fixture(scope="module")
def frame():
    """A tin that no library has, next to known objects."""
    return table_frame((TIN, TIN_PLACE))


@pytest.fixture(scope="module")
def in_the_frame(prior, frame) -> list[Trace]:
    """Two frames whose estimator searches in the frame."""
    estimator = Estimator(known_model(1), SETTINGS, prior_model=prior)
    return [estimator.trace(frame, T_fixed_camera=STILL) for _ in range(2)]


class Gate:
    """The search, which waits until it is opened."""

    def __init__(self) -> None:
        self.begun, self.opened = threading.Event(), threading.Event()

    def __call__(self, space, observation):
        self.begun.set()
        while not self.opened.wait(0.005):
            space.shapes.sdf(observation.seen.points[None, :1], space.mixture.latents[:1])
        return single_view_fit(space, observation)


@pytest.fixture
def gate(monkeypatch) -> Gate:
    made = Gate()
    monkeypatch.setattr(prior_memory, "single_view_fit", made)
    return made


@pytest.fixture
def estimator(prior) -> Iterator[Estimator]:
    made = Estimator(known_model(1), SETTINGS, prior_model=prior)
    made.search_in_background()
    yield made
    made.stop_searches()


def wait_until_ended(estimator: Estimator, gate: Gate) -> None:
    gate.opened.set()
    wait_for(lambda: estimator.search_status.running + estimator.search_status.waiting == 0)


def wait_for(condition) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "the condition did not become true in time"
        time.sleep(0.005)


def is_same(one: ObjectEstimate, other: ObjectEstimate) -> bool:
    """Whether two estimates are equal to the last bit; hulls are not compared.

    The box of a shape under a prior is found once, with the points of the frame that needs it
    first; boxes, and what is measured in them, may differ in the last bits.
    """
    exact = ("T_camera_object", "code", "certified", "unknown", "reason", "residual_m")
    for name in exact:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    for name in ("lower", "upper", "covariance"):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), atol=1e-6)
    return True


def test_no_object_waits_for_the_search(estimator, gate, frame, in_the_frame) -> None:
    traces = [estimator.trace(frame, T_fixed_camera=STILL) for _ in range(3)]
    assert gate.begun.wait(PATIENCE_S) and estimator.search_status.running == 1
    for trace in traces:
        *known, tin = trace.estimate.objects
        before = in_the_frame[0].estimate.objects
        assert all(is_same(*pair) for pair in zip(known, before, strict=False))
        assert tin.unknown and not tin.certified and tin.hull is not None
        assert not tin.of_prior_model
    wait_until_ended(estimator, gate)
    trace = estimator.trace(frame, T_fixed_camera=STILL)
    found, expected = trace.estimate.objects, in_the_frame[1].estimate.objects
    assert expected[2].of_prior_model and expected[2].certified
    assert all(is_same(*pair) for pair in zip(found, expected, strict=True))
    assert estimator.search_status.ended == 1 and estimator.search_status.last_s > 0.0


@pytest.mark.parametrize("ending", ["forget", "stop_searches"])
def test_the_end_withdraws_the_search(estimator, gate, frame, ending: str) -> None:
    estimator.trace(frame, T_fixed_camera=STILL)
    assert gate.begun.wait(PATIENCE_S)
    getattr(estimator, ending)()
    wait_for(lambda: estimator.search_status.running == 0)  # the gate stays shut
    assert estimator.search_status.ended == 0
    if ending == "stop_searches":
        assert not [t for t in threading.enumerate() if t.name.startswith("prior search")]
    gate.opened.set()
    tin = estimator.trace(frame, T_fixed_camera=STILL).estimate.objects[2]
    assert tin.unknown
    wait_until_ended(estimator, gate)
    assert estimator.trace(frame, T_fixed_camera=STILL).estimate.objects[2].certified


def test_new_heads_of_the_network_leave_the_search(estimator, gate, frame) -> None:
    """They are of the library's model; decoder and prior are those of the second one."""
    estimator.trace(frame, T_fixed_camera=STILL)
    assert gate.begun.wait(PATIENCE_S)
    estimator.adopt({}, "next")
    wait_until_ended(estimator, gate)
    found = estimator.trace(frame, T_fixed_camera=STILL).estimate
    assert found.model_version == "next" and found.objects[2].of_prior_model


def test_the_prior_alone_goes_the_same_way(prior, gate, frame, in_the_frame) -> None:
    """A track has the hull until the shape is found, and keeps its name."""
    estimator = Estimator(prior, SETTINGS)
    estimator.search_in_background()
    shown = frame.with_labels(np.where(frame.labels == UNKNOWN, UNKNOWN, 0).astype(np.int32))
    tracker, tracked = Tracker(estimator.field), []
    try:
        for stamp in range(3):
            trace = estimator.trace(shown, T_fixed_camera=STILL, expected=tracker.expected)
            (tin,) = trace.estimate.objects
            assert tin.unknown == (stamp < 2) and tin.certified == (stamp == 2)
            tracked += tracker.update(0.1 * stamp, trace, STILL).objects
            if stamp == 1:
                assert tin.reason == "unknown object: its shape is still searched"
                wait_until_ended(estimator, gate)
    finally:
        estimator.stop_searches()
    assert len({o.id for o in tracked}) == 1
    assert [o.estimate.shape_source for o in tracked] == ["observed", "observed", "prior"]
    middles = [o.estimate.T_camera_object[:3, 3] for o in tracked]
    assert np.linalg.norm(middles[2] - middles[1]) < 0.05


def test_an_estimator_searches_in_the_frame_by_default(in_the_frame) -> None:
    for trace in in_the_frame:
        assert trace.estimate.objects[2].certified
    assert [trace.prior_context.searched for trace in in_the_frame] == [(UNKNOWN,), ()]


def test_a_copy_searches_in_the_frame(estimator, in_the_frame) -> None:
    """As another process does, for which the speed of this one must not matter."""
    kind, arguments = estimator.__reduce__()
    assert kind(*arguments).search_status is None


def test_a_frame_is_repeated_with_what_was_known(estimator, prior, gate, frame) -> None:
    """Before the search has ended, in the frame that takes over, and in one that searches."""
    estimator.trace(frame, T_fixed_camera=STILL)
    waiting = estimator.trace(frame, T_fixed_camera=STILL)
    wait_until_ended(estimator, gate)
    followed = estimator.trace(frame, T_fixed_camera=STILL)
    searching = Estimator(known_model(1), SETTINGS, prior_model=prior)
    searched = searching.trace(frame, T_fixed_camera=STILL)
    for trace in (waiting, followed, searched):
        again = Estimator(known_model(1), SETTINGS, prior_model=prior)
        again.replay(trace.prior_context)
        pairs = zip(
            trace.estimate.objects,
            again.trace(frame, T_fixed_camera=np.eye(4)).estimate.objects,
            strict=True,
        )
        assert all(is_same(*pair) for pair in pairs)
    flags = [t.estimate.objects[2].of_prior_model for t in (waiting, followed, searched)]
    assert flags == [False, True, True]
