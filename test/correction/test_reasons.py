"""Reasons that are written when they are read, and tensors that go to the host at once."""

import numpy as np
import torch
from counting import CountedOperations

from crisp_ros.correction.reasons import Reasons, to_host


def test_tensors_keep_their_types_and_shapes_in_one_transfer() -> None:
    tensors = [
        torch.tensor([True, False]),
        torch.tensor([3, -(2**40)]),
        torch.tensor([[0.1, float("nan")], [float("inf"), 1e-30]]),
        torch.rand(2, 3, 3, dtype=torch.float64),
        torch.zeros(2, 0),
    ]
    with CountedOperations() as counted:
        found = to_host(tensors)
    assert counted.waits == ["cpu"]
    for tensor, array in zip(tensors, found, strict=True):
        np.testing.assert_array_equal(array, tensor.numpy())
        assert array.dtype == tensor.numpy().dtype
    assert to_host([]) == [] and to_host([torch.zeros(0, 3)])[0].shape == (0, 3)


def lengths(values: torch.Tensor) -> Reasons:
    return Reasons((values,), lambda v: ["x" * n for n in v[0]], len(values))


def test_nothing_is_transferred_until_a_reason_is_read() -> None:
    with CountedOperations() as counted:
        both = Reasons.combined(
            (lengths(torch.tensor([0, 2])), ("a", "b"), lengths(torch.tensor([1, 0]))),
            lambda parts: ["".join(texts) for texts in zip(*parts, strict=True)],
        )
        assert len(both) == 2 and counted.waits == []
        assert both == ("ax", "xxb") and both[1] == "xxb" and both[:1] == ("ax",)
        assert counted.waits == ["cpu"]


def test_values_at_hand_are_not_transferred_again() -> None:
    reasons = lengths(torch.tensor([1, 2]))
    with CountedOperations() as counted:
        assert reasons.written([[3, 0]]) == ("xxx", "")
        assert reasons == ("xxx", "")
    assert counted.waits == []


def test_written_reasons_are_taken_as_they_are() -> None:
    assert Reasons.of(("a", "")) == ("a", "") and Reasons.of(("a", "")).tensors == ()
    reasons = lengths(torch.tensor([1]))
    assert Reasons.of(reasons) is reasons
