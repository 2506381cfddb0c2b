"""Objects of a prior that are searched in the background: no frame waits, a later one follows."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from latent_boxes import BOXES, RoundedBoxes
from pipeline.table_box import SETTINGS, T_TABLE_CAMERA, around, observation, points_of
from table_depth import LABEL

from crisp_ros.correction.prior_shape import PriorFit, PriorObservation, search_prior_shape
from crisp_ros.geometry.se3 import invert
from crisp_ros.pipeline import prior_memory
from crisp_ros.pipeline.prior_fits import is_found
from crisp_ros.pipeline.prior_memory import PriorMemory
from crisp_ros.pipeline.prior_plan import Plan, SeenObject
from crisp_ros.pipeline.prior_searches import BackgroundSearches

PATIENCE_S = 20.0


@pytest.fixture(scope="module")
def answer() -> PriorFit:
    """The result of a search for the box in the middle."""
    return search_prior_shape(RoundedBoxes(), BOXES, observation(), SETTINGS)


class SlowSearch:
    """A search that ends when the test allows it, with a given answer or error."""

    def __init__(self, answer: PriorFit) -> None:
        self.answer, self.fails = answer, False
        self.released = threading.Event()
        self.seen: list[PriorObservation] = []

    def __call__(self, space, observation: PriorObservation) -> PriorFit:
        self.seen.append(observation)
        while not self.released.wait(0.002):
            space.shapes.sdf(torch.zeros(1, 1, 3).double(), BOXES.latents[:1])  # asks the check
        if self.fails:
            raise ValueError("no such shape")
        return self.answer


@pytest.fixture
def search(monkeypatch, answer) -> SlowSearch:
    made = SlowSearch(answer)
    monkeypatch.setattr(prior_memory, "single_view_fit", made)
    return made


@pytest.fixture
def memory() -> Iterator[PriorMemory]:
    made = PriorMemory()
    made.background = BackgroundSearches(most_waiting=1)
    yield made
    made.clear()
    made.background.stop()


def end(memory: PriorMemory, search: SlowSearch | None = None) -> None:
    """Let all searches end."""
    if search is not None:
        search.released.set()
    wait_for(lambda: memory.background.status.running + memory.background.status.waiting == 0)


def wait_for(condition) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "the condition did not become true in time"
        time.sleep(0.002)


def fitted(memory: PriorMemory, *seen: PriorObservation, T=T_TABLE_CAMERA) -> PriorFit:
    return memory.fit(RoundedBoxes(), BOXES, list(seen), T, SETTINGS)


def planned(memory: PriorMemory, *seen: PriorObservation) -> list[Plan]:
    """The plans for a frame, whose chosen objects are then fitted; none gets a certificate."""
    objects = [SeenObject(one.label, points_of(one), True) for one in seen]
    plans = memory.plan(objects, T_TABLE_CAMERA, len(seen))
    if chosen := [one for one, plan in zip(seen, plans, strict=True) if plan is not Plan.NONE]:
        fitted(memory, *chosen)
        memory.record([False] * len(chosen))
    return plans


def test_the_object_waits_and_is_then_followed(memory, search) -> None:
    seen = observation()
    assert planned(memory, seen) == [Plan.SEARCH]
    assert [planned(memory, seen) for _ in range(3)] == [[Plan.NONE]] * 3
    assert not any(memory.certified)
    end(memory, search)
    assert planned(memory, seen) == [Plan.FOLLOW]
    assert len(search.seen) == memory.searches == 1


def test_without_a_plan_the_object_has_a_placeholder(memory, search, answer) -> None:
    """So it is with a model without a library, where nothing else has an answer."""
    seen = observation()
    first = fitted(memory, seen)
    middle = points_of(seen).mean(0)
    assert not bool(is_found(first)) and memory.certified == [False]
    assert (first.T_object_camera[0] @ torch.cat([middle, torch.ones(1)]))[:3].norm() < 0.1
    assert not bool(is_found(fitted(memory, seen)))
    end(memory, search)
    found = fitted(memory, seen)
    assert bool(is_found(found)) and torch.equal(found.latents[0], answer.latents)


def test_at_rest_the_numbers_are_those_without_a_thread(memory) -> None:
    seen, synchronous = observation(), PriorMemory()
    fitted(synchronous, seen)
    synchronous.record([True])
    expected = fitted(synchronous, seen)
    fitted(memory, seen)
    end(memory)
    found = fitted(memory, seen)
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))


def test_an_object_that_has_moved_meanwhile_is_followed(memory, search) -> None:
    still = observation()
    planned(memory, still)
    moved = observation((0.1, 0.05))
    for seen in (observation((0.05, 0.025)), moved):
        assert planned(memory, seen) == [Plan.NONE]
    end(memory, search)
    plans = memory.plan([SeenObject(1, points_of(moved), True)], T_TABLE_CAMERA, 1)
    assert plans == [Plan.FOLLOW]
    fit = fitted(memory, moved)
    apart = (T_TABLE_CAMERA @ invert(fit.T_object_camera[0]))[:2, 3] - (
        T_TABLE_CAMERA @ invert(search.answer.T_object_camera)
    )[:2, 3]
    assert torch.allclose(apart, torch.tensor([0.1, 0.05]).double(), atol=2e-3)
    assert memory.searches == 1 and float(fit.objective) < 1.5 * float(search.answer.objective)


def test_the_search_of_an_object_that_is_gone_is_withdrawn(memory, search) -> None:
    first, second = observation(), observation((0.15, 0.05))
    assert planned(memory, first, second) == [Plan.SEARCH] * 2
    wait_for(lambda: len(search.seen) == 1)
    for _ in range(5):
        planned(memory, first)
    assert memory.background.status.waiting == 1 and len(memory) == 2
    planned(memory, first)
    assert memory.background.status.waiting == 0 and len(memory) == 1
    end(memory, search)
    assert planned(memory, first) == [Plan.FOLLOW] and len(search.seen) == 1


def test_a_shape_found_for_an_object_that_is_gone_harms_no_other(memory, search) -> None:
    gone, other = observation(), observation((0.15, 0.05))
    planned(memory, gone)
    end(memory, search)
    assert [planned(memory) for _ in range(8)] == [[]] * 8
    assert planned(memory, other) == [Plan.SEARCH]
    end(memory)
    assert planned(memory, gone, other) == [Plan.FOLLOW] * 2  # it is back


def test_beyond_the_bound_objects_wait_for_a_later_frame(memory, search) -> None:
    places = ((0.0, 0.0), (0.15, 0.05), (-0.12, 0.1))
    seen = [observation(place) for place in places]
    assert planned(memory, *seen[:1]) == [Plan.SEARCH]
    wait_for(lambda: len(search.seen) == 1)
    assert planned(memory, *seen[:2]) == [Plan.NONE, Plan.SEARCH]
    assert planned(memory, *seen) == [Plan.NONE] * 3
    fitted(memory, *seen)  # unplanned, the third is remembered and waits
    assert memory.searches == 2 and memory.background.status.waiting == 1
    end(memory, search)
    assert planned(memory, *seen) == [Plan.FOLLOW, Plan.FOLLOW, Plan.SEARCH]


def test_a_failed_search_is_repeated_after_longer_waits(memory, search, caplog) -> None:
    search.fails = True
    seen, frames = observation(), []
    search.released.set()
    for frame in range(9):
        if planned(memory, seen) == [Plan.SEARCH]:
            frames.append(frame)
            end(memory)
            assert memory.background.status.failed == len(frames)
    assert frames == [0, 3, 8] and not memory.certified[0]
    assert [r.getMessage() for r in caplog.records] == [
        f"the search for the shape of object {LABEL} at {_place(seen)} m failed"
    ] * 3


def _place(seen: PriorObservation) -> str:
    middle = (T_TABLE_CAMERA[:3, :3] @ points_of(seen).mean(0)) + T_TABLE_CAMERA[:3, 3]
    return f"({', '.join(f'{x:.2f}' for x in middle.tolist())})"


def test_clearing_ends_the_search_and_forgets_its_object(memory, search) -> None:
    planned(memory, observation())
    wait_for(lambda: len(search.seen) == 1)
    memory.clear()
    end(memory)  # though it was never released
    assert len(memory) == 0 and memory.background.status.ended == 0
    assert planned(memory, observation()) == [Plan.SEARCH]


def test_withdrawn_searches_leave_the_shapes_that_were_found(memory, search) -> None:
    first, second = observation(), observation((0.15, 0.05))
    planned(memory, first)
    end(memory, search)
    planned(memory, first)
    search.released.clear()
    assert planned(memory, second) == [Plan.SEARCH]
    memory.withdraw_searches()
    assert len(memory) == 1
    memory.background.stop()
    assert planned(memory, second) == [Plan.SEARCH] and len(memory) == 2


def test_a_shape_certified_meanwhile_stays(memory, search, answer) -> None:
    """A frame may certify the shape that is searched again."""
    seen = observation()
    fitted(memory, seen)
    end(memory, search)
    found = fitted(memory, seen).latents
    memory.record([False])
    search.released.clear()
    search.answer = answer._replace(latents=answer.latents + 1.0)
    while memory.searches < 2:
        fitted(memory, seen)
        memory.record([False])
    fitted(memory, seen)
    memory.record([True])
    end(memory, search)
    assert torch.equal(fitted(memory, seen).latents, found) and len(search.seen) == 2


def test_a_new_side_refines_the_shape_in_a_later_frame(memory) -> None:
    """All views together are fitted in the background too, with the numbers of the frame's own."""
    yaw = float(np.deg2rad(60.0))
    side, T = observation(yaw=0.6 + yaw), around(-yaw)
    synchronous = PriorMemory()
    fitted(synchronous, observation())
    synchronous.record([True])
    fitted(synchronous, observation())
    before = synchronous._objects[0].latent
    latents = fitted(synchronous, side, T=T).latents
    expected = fitted(synchronous, side, T=T)
    fitted(memory, observation())
    end(memory)
    fitted(memory, observation())
    memory.record([True])
    assert torch.equal(fitted(memory, side, T=T).latents[0], before)
    end(memory)
    found = fitted(memory, side, T=T)
    assert torch.equal(found.latents, latents) and torch.equal(expected.latents, latents)
    assert not torch.equal(found.latents[0], before) and memory.searches == 1
    assert (found.T_object_camera - expected.T_object_camera).abs().max() < 1e-6
