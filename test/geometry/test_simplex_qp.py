"""The simplex program against clarabel, enumeration and its own optimality conditions."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from crisp_ros.geometry.simplex_qp import minimise


def random_gram(batch: int, size: int, rows: int, seed: int) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    F = torch.randn(batch, rows, size, generator=g).double()
    F = F * 10.0 ** (2 * torch.rand(batch, 1, size, generator=g).double() - 2)
    return F.mT @ F / rows


def value(gram: torch.Tensor, linear: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
    return torch.einsum("bi,bij,bj->b", c, gram, c) + 2 * (linear * c).sum(-1)


@pytest.mark.parametrize(("size", "rows"), [(1, 5), (2, 40), (21, 300), (22, 8)])
def test_is_as_good_as_clarabel(size: int, rows: int) -> None:
    clarabel = pytest.importorskip("clarabel")
    gram = random_gram(12, size, rows, seed=size)
    linear = 0.1 * gram.diagonal(dim1=1, dim2=2) * torch.randn(12, size).double()
    found = minimise(gram, linear)
    quiet = clarabel.DefaultSettings()
    quiet.verbose = False
    constraints = sparse.csc_matrix(np.vstack([np.ones((1, size)), -np.eye(size)]))
    cones = [clarabel.ZeroConeT(1), clarabel.NonnegativeConeT(size)]
    for b in range(len(gram)):
        upper = sparse.csc_matrix(np.triu(2 * gram[b].numpy()))
        limits = np.concatenate([[1.0], np.zeros(size)])
        solver = clarabel.DefaultSolver(
            upper, 2 * linear[b].numpy(), constraints, limits, cones, quiet
        )
        c = torch.tensor(solver.solve().x).double().clamp_min(0)
        oracle = value(gram[b : b + 1], linear[b : b + 1], (c / c.sum())[None])[0]
        slack = 1e-9 * gram[b].abs().max()
        assert found.objective[b] <= oracle + slack


def test_finds_the_best_of_all_supports() -> None:
    """With five columns every support can be tried: the least feasible stationary point wins."""
    gram = random_gram(20, 5, 30, seed=3)
    found = minimise(gram)
    for b in range(len(gram)):
        best = np.inf
        for count in range(1, 6):
            for support in itertools.combinations(range(5), count):
                part = gram[b][np.ix_(support, support)].numpy()
                c = np.linalg.solve(part, np.ones(count))
                c = c / c.sum()
                if (c >= 0).all():
                    best = min(best, c @ part @ c)
        assert found.objective[b] == pytest.approx(best, rel=1e-8)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 12), st.integers(1, 20), st.integers(0, 10**6))
def test_meets_the_optimality_conditions(size: int, rows: int, seed: int) -> None:
    gram = random_gram(3, size, rows, seed)
    c = minimise(gram).coefficients
    assert (c >= 0).all()
    torch.testing.assert_close(c.sum(-1), torch.ones(3).double())
    slope = (gram @ c[..., None]).squeeze(-1)
    level = (c * slope).sum(-1, keepdim=True)
    # No column lies below the level of the mixture: nothing is gained by moving towards it.
    assert (slope >= level - 1e-6 * gram.abs().amax((1, 2))[:, None]).all()


def test_a_batch_equals_its_members_and_repeats() -> None:
    gram = random_gram(6, 9, 40, seed=8)
    together = minimise(gram).coefficients
    apart = torch.cat([minimise(one[None]).coefficients for one in gram])
    torch.testing.assert_close(together, apart, atol=1e-9, rtol=0)
    torch.testing.assert_close(together, minimise(gram).coefficients, atol=0, rtol=0)


def test_zero_and_repeated_columns_are_solved() -> None:
    gram = random_gram(1, 4, 30, seed=1)
    gram[:, 2, :] = gram[:, :, 2] = 0
    assert minimise(gram).coefficients[0, 2] == pytest.approx(1.0, abs=1e-5)
    assert minimise(torch.zeros(1, 3, 3)).coefficients.sum() == pytest.approx(1.0)
    twice = random_gram(1, 3, 30, seed=2).repeat(1, 2, 2)
    assert minimise(twice).objective == pytest.approx(
        minimise(twice[:, :3, :3]).objective.item(), rel=1e-7
    )
