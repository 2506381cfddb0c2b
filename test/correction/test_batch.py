"""Rows and point subsets of named tuples, against plain loops."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from crisp_ros.correction.batch import (
    evenly_spaced,
    replace_rows,
    select_rows,
    subsample,
    take_rows,
)


class Part(NamedTuple):
    """Two tensors of B objects."""

    matrix: Tensor
    count: Tensor


class Whole(NamedTuple):
    """A tensor and another named tuple of B objects."""

    values: Tensor
    part: Part


def some(batch: int, seed: int) -> Whole:
    g = torch.Generator().manual_seed(seed)
    matrix = torch.randn(batch, 2, 3, generator=g)
    count = torch.randint(0, 100, (batch,), generator=g)
    return Whole(torch.randn(batch, 4, generator=g), Part(matrix, count))


def same(a: Whole, b: Whole) -> bool:
    pairs = ((a.values, b.values), (a.part.matrix, b.part.matrix), (a.part.count, b.part.count))
    return all(torch.equal(*pair) for pair in pairs) and isinstance(a.part, Part)


def row(whole: Whole, i: int) -> Whole:
    one = slice(i, i + 1)
    return Whole(whole.values[one], Part(whole.part.matrix[one], whole.part.count[one]))


@pytest.mark.parametrize(
    ("which", "expected"),
    [
        (torch.tensor([2, 0, 2]), [2, 0, 2]),
        (torch.tensor([True, False, True]), [0, 2]),
        (slice(1, 3), [1, 2]),
        (torch.tensor([], dtype=torch.long), []),
    ],
)
def test_rows_are_taken_from_nested_tuples_too(which, expected: list[int]) -> None:
    whole = some(3, 0)
    found = take_rows(whole, which)
    assert len(found.values) == len(expected)
    for i, wanted in enumerate(expected):
        assert same(row(found, i), row(whole, wanted))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.booleans(), max_size=6), st.integers(0, 10**6))
def test_each_row_comes_from_the_one_or_the_other(choice: list[bool], seed: int) -> None:
    yes, no = some(len(choice), seed), some(len(choice), seed + 1)
    found = select_rows(torch.tensor(choice, dtype=torch.bool), yes, no)
    for i, chosen in enumerate(choice):
        assert same(row(found, i), row(yes if chosen else no, i))


@settings(max_examples=30, deadline=None)
@given(st.permutations(range(5)), st.integers(0, 5), st.integers(0, 10**6))
def test_replaced_rows_change_nothing_else(order: list[int], count: int, seed: int) -> None:
    old, new = some(5, seed), some(count, seed + 1)
    before = take_rows(old, slice(None))
    rows = order[:count]
    found = replace_rows(old, torch.tensor(rows, dtype=torch.long), new)
    for i in range(5):
        expected = row(new, rows.index(i)) if i in rows else row(old, i)
        assert same(row(found, i), expected)
    assert same(old, before), "the batch given is left as it was"


def test_indices_are_evenly_spaced_among_the_valid_points() -> None:
    valid = torch.tensor([[True] * 4 + [False] * 4, [False] * 8])
    assert evenly_spaced(valid, 2).tolist() == [[0, 2], [0, 0]]
    assert set(evenly_spaced(valid, 8)[0].tolist()) == {0, 1, 2, 3}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=40), st.integers(1, 40))
def test_spacing_is_that_of_a_loop(flags: list[bool], count: int) -> None:
    where = [i for i, flag in enumerate(flags) if flag] or [0]
    expected = [where[(i * sum(flags)) // count] for i in range(count)]
    assert evenly_spaced(torch.tensor([flags]), count)[0].tolist() == expected


def test_a_subsample_keeps_what_belongs_together() -> None:
    batch = Part(torch.arange(24.0).view(2, 6, 2), torch.arange(12).view(2, 6))
    valid = torch.tensor([[True] * 6, [False, True] * 3])
    found = subsample(batch, valid, 3)
    assert found.count.tolist() == [[0, 2, 4], [7, 9, 11]]
    assert torch.equal(found.matrix[..., 0], 2.0 * found.count)
    assert subsample(batch, valid, 6) is batch
