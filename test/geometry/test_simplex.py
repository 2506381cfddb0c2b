import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq

from crisp_ros.geometry import simplex


def projection_by_root_finding(row):
    """max(v - theta, 0) with theta from the condition that the entries sum to one."""
    excess = lambda theta: np.maximum(row - theta, 0).sum() - 1  # noqa: E731
    theta = brentq(excess, row.min() - 2, row.max(), xtol=1e-15, rtol=1e-14)
    return np.maximum(row - theta, 0)


rows = st.lists(st.floats(-50, 50), min_size=1, max_size=25)


@given(rows)
@settings(max_examples=200, deadline=None)
def test_agrees_with_the_oracle(row):
    row = np.array(row)
    projected = simplex.project(torch.tensor(row)).numpy()
    np.testing.assert_allclose(projected, projection_by_root_finding(row), atol=1e-9)
    assert projected.min() >= 0
    np.testing.assert_allclose(projected.sum(), 1, atol=1e-9)


@given(rows)
@settings(max_examples=50, deadline=None)
def test_leaves_points_of_the_simplex_alone(row):
    once = simplex.project(torch.tensor(row, dtype=torch.float64))
    torch.testing.assert_close(simplex.project(once), once)


def test_published_row():
    row = torch.tensor(np.random.default_rng(0).standard_normal((5, 7)))
    expected = torch.tensor([0, 0, 0.168211, 0, 0, 0, 0.831789], dtype=torch.float64)
    torch.testing.assert_close(simplex.project(row)[0], expected, atol=1e-6, rtol=0)


def test_batch_rows_do_not_influence_each_other():
    v = torch.randn(3, 4, 9, dtype=torch.float64)
    torch.testing.assert_close(simplex.project(v)[2, 1], simplex.project(v[2, 1]))


def test_large_entries_lose_no_precision():
    v = torch.tensor([1e6 + 0.25, 1e6, -3e6])
    torch.testing.assert_close(simplex.project(v), torch.tensor([0.625, 0.375, 0.0]))


def test_gradient_is_that_of_the_active_face():
    v = torch.tensor([0.9, 0.6, -0.4, 0.5], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(simplex.project, (v,))
