"""Convex quadratic programs on the simplex, solved exactly for a whole batch at once."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

_ITERATIONS = 40
_GAP = 1e-12  # complementarity at the end, for a program scaled to unit size
_RIDGE = 1e-13  # keeps the Newton system of a rank-deficient program solvable; steps only


class SimplexProgram(NamedTuple):
    """Minimisers on the simplex.

    Attributes:
        coefficients: (B, K), non-negative, sum one.
        objective: (B,) their c^T G c + 2 q^T c.
    """

    coefficients: Tensor
    objective: Tensor


@torch.no_grad()
def minimise(gram: Tensor, linear: Tensor | None = None) -> SimplexProgram:
    """Minimise c^T G c + 2 q^T c over c >= 0, sum c = 1; eq. (10) has q = 0.

    A feasible primal-dual interior-point method in float64, followed by the exact solution on the
    support that it found, used where that is no worse.

    Args:
        gram: G (B, K, K), symmetric and positive semi-definite.
        linear: q (B, K).
    """
    batch, size = gram.shape[:2]
    G = gram.double()
    q = G.new_zeros(batch, size) if linear is None else linear.double()
    unit = G.diagonal(dim1=-2, dim2=-1).amax(-1) + q.abs().amax(-1)
    unit = torch.where(unit > 0, unit, torch.ones_like(unit))
    G, q = G / unit[:, None, None], q / unit[:, None]
    c = torch.full_like(q, 1.0 / size)
    slope = _product(G, c) + q
    dual = slope - slope.amin(-1, keepdim=True) + 0.1
    ones = torch.ones_like(c)
    ridge = _RIDGE * torch.eye(size, dtype=G.dtype, device=G.device)
    for _ in range(_ITERATIONS):
        gap = (c * dual).sum(-1, keepdim=True) / size
        done = gap < _GAP
        if bool(done.all()):
            break
        factor, info = torch.linalg.cholesky_ex(G + torch.diag_embed(dual / c) + ridge)
        done = done | (info > 0)[:, None]
        # Mehrotra's predictor step gives the centring target and the second-order correction.
        solved = torch.cholesky_solve(torch.stack((-dual, ones), dim=-1), factor)
        aim = _tangent(solved[..., 0], solved[..., 1])
        aim_dual = -dual - dual / c * aim
        length = _longest_step(c, aim, dual, aim_dual)
        left = ((c + length * aim) * (dual + length * aim_dual)).sum(-1, keepdim=True) / size
        target = (left / gap).clamp(0, 1) ** 3 * gap
        push = (target - aim * aim_dual) / c - dual
        step = _tangent(torch.cholesky_solve(push[..., None], factor)[..., 0], solved[..., 1])
        step_dual = push - dual / c * step
        length = 0.995 * _longest_step(c, step, dual, step_dual)
        c = torch.where(done, c, c + length * step)
        dual = torch.where(done, dual, dual + length * step_dual)
    c = c / c.sum(-1, keepdim=True)
    c = _polished(G, q, c, c > dual)
    objective = (c * (_product(G, c) + 2 * q)).sum(-1) * unit
    return SimplexProgram(c.to(gram.dtype), objective.to(gram.dtype))


def _product(matrix: Tensor, vector: Tensor) -> Tensor:
    return (matrix @ vector[..., None]).squeeze(-1)


def _tangent(step: Tensor, towards_sum: Tensor) -> Tensor:
    """Remove the part of a step that changes the sum of the coefficients."""
    excess = step.sum(-1, keepdim=True) / towards_sum.sum(-1, keepdim=True)
    return step - excess * towards_sum


def _longest_step(c: Tensor, step: Tensor, dual: Tensor, step_dual: Tensor) -> Tensor:
    """The longest step (B, 1), at most one, that keeps both vectors non-negative."""
    ratios = torch.cat((-step / c, -step_dual / dual), dim=-1).amax(-1, keepdim=True)
    return 1.0 / ratios.clamp_min(1.0)


def _polished(G: Tensor, q: Tensor, c: Tensor, support: Tensor) -> Tensor:
    """The exact minimum on the given supports, where it is feasible and no worse than c."""
    batch, size = c.shape
    both = support[:, :, None] & support[:, None, :]
    identity = torch.eye(size, dtype=G.dtype, device=G.device)
    # The multiplier of the sum is the last unknown; columns off the support are fixed at zero.
    system = G.new_zeros(batch, size + 1, size + 1)
    system[:, :size, :size] = torch.where(both, G, identity * ~support[:, None, :])
    system[:, :size, size] = support.to(G.dtype)
    system[:, size, :size] = support.to(G.dtype)
    right = torch.cat((torch.where(support, -q, 0.0), G.new_ones(batch, 1)), dim=-1)
    solved, info = torch.linalg.solve_ex(system, right)
    exact = solved[:, :size].clamp_min(0.0)
    exact = exact / exact.sum(-1, keepdim=True).clamp_min(1e-300)
    before = (c * (_product(G, c) + 2 * q)).sum(-1)
    after = (exact * (_product(G, exact) + 2 * q)).sum(-1)
    sound = (info == 0) & (solved[:, :size] >= -1e-9).all(-1) & (after <= before)
    return torch.where(sound[:, None], exact, c)
