"""Objects of a prior are searched once; then poses follow, and new views refine the shape."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from latent_boxes import BOXES, MEAN, SPREAD, RoundedBoxes
from pipeline.table_box import HALF, SETTINGS, T_TABLE_CAMERA, around, observation, points_of

from crisp_ros.correction.prior_shape import PriorObservation
from crisp_ros.geometry.se3 import invert
from crisp_ros.pipeline.prior_memory import PriorMemory
from crisp_ros.pipeline.prior_plan import Plan, SeenObject


def fitted(memory: PriorMemory, seen: PriorObservation, T: torch.Tensor = T_TABLE_CAMERA):
    return memory.fit(RoundedBoxes(), BOXES, [seen], T, SETTINGS)


def test_a_known_object_is_not_searched_again() -> None:
    memory, seen = PriorMemory(), observation()
    first = fitted(memory, seen)
    memory.record([True])
    again = fitted(memory, seen)
    assert memory.searches == 1 and len(memory) == 1
    assert torch.equal(first.latents, again.latents)
    assert (first.T_object_camera - again.T_object_camera).abs().max() < 2e-3


def test_it_follows_a_motion_with_its_shape() -> None:
    memory = PriorMemory()
    first = fitted(memory, observation())
    moved = fitted(memory, observation((0.03, 0.02)))
    assert memory.searches == 1 and torch.equal(first.latents, moved.latents)
    apart = T_TABLE_CAMERA @ (invert(moved.T_object_camera) - invert(first.T_object_camera))[0]
    assert torch.allclose(apart[:2, 3], torch.tensor([0.03, 0.02]).double(), atol=2e-3)


def test_an_outline_once_seen_whole_counts_as_seen() -> None:
    memory, shares = PriorMemory(), []
    for hidden in (0.5, 0.1, 0.7):
        shares.append(float(fitted(memory, observation()._replace(hidden=hidden)).hidden))
        memory.record([True])
    assert memory.searches == 1 and shares == pytest.approx([0.5, 0.1, 0.1])


def test_another_place_is_another_object() -> None:
    memory = PriorMemory()
    fitted(memory, observation())
    fitted(memory, observation((0.15, 0.05)))
    assert memory.searches == 2 and len(memory) == 2
    memory.clear()
    assert len(memory) == 0


def test_views_from_all_sides_give_the_size() -> None:
    """From one side an edge that is hardly seen keeps the prior's size; all sides show it."""
    memory, errors = PriorMemory(), []
    for yaw in np.deg2rad([0.0, 60.0, 120.0, 180.0]):
        # The camera goes around by -yaw where the object is rotated by yaw before it.
        fit = fitted(memory, observation(yaw=0.6 + float(yaw)), around(-float(yaw)))
        memory.record([True])
        half = MEAN + fit.latents[0] * SPREAD + 0.002
        errors.append(float((half.sort().values - HALF.sort().values).abs().max()))
    assert memory.searches == 1
    assert errors[-1] < 0.5 * errors[0] and errors[-1] < 0.003


def test_without_a_certificate_twice_the_views_are_searched() -> None:
    memory = PriorMemory()
    for yaw in np.deg2rad([0.0, 45.0]):
        fitted(memory, observation(yaw=0.6 + float(yaw)), around(-float(yaw)))
        memory.record([False])
    assert memory.searches == 2
    fitted(memory, observation(yaw=0.6), around(0.0))  # no new direction
    assert memory.searches == 2


def test_uncertified_objects_are_searched_again_ever_more_seldom() -> None:
    memory, seen = PriorMemory(), observation()
    counts = []
    for _ in range(8):
        fitted(memory, seen)
        memory.record([False])
        counts.append(memory.searches)
    assert counts == [1, 1, 2, 2, 2, 2, 3, 3] and len(memory) == 1


def test_views_with_fewer_points_are_not_searched() -> None:
    memory, seen = PriorMemory(), observation()
    third = torch.arange(len(seen.seen.points)) % 3 == 0
    few = seen.seen._replace(weights=seen.seen.weights * third)
    for _ in range(4):
        fitted(memory, seen if memory.searches == 0 else seen._replace(seen=few))
        memory.record([False])
    assert memory.searches == 1


def planned(memory: PriorMemory, seen: PriorObservation, T=T_TABLE_CAMERA, unknown=True) -> Plan:
    (plan,) = memory.plan([SeenObject(1, points_of(seen), unknown)], T, 1)
    return plan


def test_a_new_object_is_planned_only_where_it_is_unknown() -> None:
    memory, seen = PriorMemory(), observation()
    assert planned(memory, seen, unknown=False) is Plan.NONE
    assert planned(memory, seen) is Plan.SEARCH


def test_a_certified_object_is_followed_in_any_case() -> None:
    memory, seen = PriorMemory(), observation()
    fitted(memory, seen)
    memory.record([True])
    assert memory.certified == [True]
    assert [planned(memory, seen, unknown=u) for u in (True, False)] == [Plan.FOLLOW] * 2


def test_a_search_in_vain_is_repeated_after_longer_waits() -> None:
    memory, seen, frames = PriorMemory(), observation(), []
    for frame in range(16):
        plan = planned(memory, seen)
        if plan is Plan.SEARCH:
            frames.append(frame)
            fitted(memory, seen)
            memory.record([False])
    assert frames == [0, 2, 6, 14] and memory.searches == 4


def test_a_view_from_another_side_is_planned() -> None:
    memory, seen = PriorMemory(), observation()
    fitted(memory, seen)
    memory.record([False])
    assert planned(memory, seen) is Plan.NONE
    assert planned(memory, observation(yaw=0.6 - 1.5), around(1.5)) is Plan.SEARCH


def test_only_so_many_objects_are_searched_in_a_frame() -> None:
    memory = PriorMemory()
    seen = [observation(place) for place in ((0.0, 0.0), (0.15, 0.05))]
    objects = [SeenObject(1, points_of(one), True) for one in seen]
    for searches, expected in ((0, [Plan.NONE] * 2), (1, [Plan.SEARCH, Plan.NONE])):
        assert memory.plan(objects, T_TABLE_CAMERA, searches) == expected


def test_an_object_that_waits_lends_its_memory_to_no_other() -> None:
    """Two objects nearer than the distance within which one is known again."""
    memory = PriorMemory()
    first, second = (observation(place) for place in ((0.0, 0.0), (0.04, 0.0)))
    fitted(memory, first)
    memory.record([False])
    objects = [SeenObject(1, points_of(one), True) for one in (first, second)]
    assert memory.plan(objects, T_TABLE_CAMERA, 1) == [Plan.NONE, Plan.SEARCH]
    fitted(memory, second)
    assert len(memory) == 2 and memory.searches == 2
