"""Captured functions on a CPU: static, padded memory, without a graph."""

import gc
import weakref
from typing import NamedTuple

import pytest
import torch
from counting import CountedOperations
from torch import Tensor

from crisp_ros.geometry import cuda_graphs
from crisp_ros.geometry.cuda_graphs import is_captured, release_graphs, run_captured
from crisp_ros.geometry.fixed_shapes import force_fixed_shapes


class Pair(NamedTuple):
    """Named input and output."""

    a: Tensor
    b: Tensor


class Constant:
    """A constant of which a graph depends on another object."""

    def __init__(self, owner: object | None, factor: float) -> None:
        self.capture_key, self.factor = owner, factor


def scaled(constant: Constant, pair: Pair, offset: Tensor) -> Pair:
    calls.append((len(offset), is_captured()))
    return Pair(constant.factor * pair.a + offset[:, None], pair.b.expand(len(offset), 3))


calls: list[tuple[int, bool]] = []
OWNER = object()


@pytest.fixture(autouse=True)
def _no_graphs() -> None:
    cuda_graphs._graphs.clear()
    calls.clear()


def inputs(batch: int) -> tuple[Pair, Tensor]:
    g = torch.Generator().manual_seed(batch)
    pair = Pair(torch.randn(batch, 4, generator=g), torch.randn(batch, 1, generator=g))
    return pair, torch.randn(batch, generator=g)


def test_padded_batches_give_the_same() -> None:
    constant = Constant(OWNER, 2.0)
    with force_fixed_shapes():
        for batch in (3, 1, 4, 3, 2, 5):
            pair, offset = inputs(batch)
            found = run_captured(scaled, (constant,), pair, offset)
            torch.testing.assert_close(found.a, 2.0 * pair.a + offset[:, None])
            torch.testing.assert_close(found.b, pair.b.expand(batch, 3))
    assert calls == [(rows, True) for rows in (4, 1, 4, 4, 2, 8)]
    assert len(cuda_graphs._graphs) == 4


def test_results_are_not_overwritten_by_the_next_run() -> None:
    with force_fixed_shapes():
        pair, offset = inputs(2)
        first = run_captured(scaled, (Constant(OWNER, 1.0),), pair, offset)
        kept = first.a.clone()
        run_captured(scaled, (Constant(OWNER, 1.0),), pair, offset + 1)
    assert torch.equal(first.a, kept)


def test_a_graph_serves_its_constants_only() -> None:
    other = object()
    with force_fixed_shapes():
        for constant in (Constant(OWNER, 2.0), Constant(other, 3.0)):
            pair, offset = inputs(2)
            found = run_captured(scaled, (constant,), pair, offset)
            torch.testing.assert_close(found.a, constant.factor * pair.a + offset[:, None])


def test_nothing_is_captured_where_it_may_not_be() -> None:
    pair, offset = inputs(3)
    run_captured(scaled, (Constant(OWNER, 2.0),), pair, offset)
    with force_fixed_shapes():
        run_captured(scaled, (Constant(None, 2.0),), pair, offset)
    assert calls == [(3, False), (3, False)]


def test_the_least_recently_used_graph_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_graphs, "_MOST_GRAPHS", 2)
    with force_fixed_shapes():
        for batch in (1, 2, 1, 4):
            run_captured(scaled, (Constant(OWNER, 2.0),), *inputs(batch))
    assert sorted(key[2] for key in cuda_graphs._graphs) == [1, 4]


def test_a_replay_costs_copies_alone() -> None:
    """One into the memory of the graph for each tensor, and one out."""
    with force_fixed_shapes():
        run_captured(scaled, (Constant(OWNER, 2.0),), *inputs(3))
        pair, offset = inputs(3)
        with CountedOperations() as counted:
            run_captured(scaled, (Constant(OWNER, 2.0),), pair, offset)
    assert (counted.operations, counted.waits) == (5, []) and counted.captured > 0


def test_a_wait_within_a_captured_function_is_found() -> None:
    with force_fixed_shapes(), CountedOperations(), pytest.raises(AssertionError, match="captured"):
        run_captured(waiting, (), inputs(2)[1])


def test_released_graphs_hold_nothing() -> None:
    owner = torch.nn.Linear(1, 1)
    held = weakref.ref(owner)
    with force_fixed_shapes():
        run_captured(scaled, (Constant(owner, 2.0),), *inputs(2))
    del owner
    assert held() is not None
    release_graphs()
    gc.collect()
    assert held() is None and len(cuda_graphs._graphs) == 0


def added(image: Tensor, values: Tensor) -> tuple[Tensor]:
    return (values + image.sum(),)


def test_what_all_rows_share_is_not_padded() -> None:
    with force_fixed_shapes():
        for batch in (3, 2):
            image, values = torch.full((5, 7), float(batch)), torch.arange(float(batch))
            (found,) = run_captured(added, (), values, shared=(image,))
            torch.testing.assert_close(found, values + 35.0 * batch)


def waiting(values: Tensor) -> tuple[Tensor]:
    return (values * float(values.sum()),)
