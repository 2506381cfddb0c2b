"""Lemma 5: problem (5) and its bilevel relaxation (7) have the same optimum.

Both are solved independently, (5) in pose and shape by SciPy's least squares, (7) in Z and the
shape by L-BFGS through the pose layer. Depth is noisy, so that the optimum is not zero.
"""

from __future__ import annotations

import numpy as np
import pytest
import roma
import torch
from known import Known
from observed import Noise, observe
from scipy.optimize import least_squares
from torch import Tensor

from crisp_ros.geometry.registration import align
from crisp_ros.geometry.se3 import from_rotation_translation, transform

POINTS = 40


class Problem:
    """Points of one object in float64, and shapes between two codes.

    Attributes:
        points: (N, 3) depth points X, camera frame, metres.
        start: (4, 4) a pose near the true one, camera to object.
    """

    def __init__(self, known: Known, name: str, other: str) -> None:
        seen = observe(known.named(name), Noise(0.002, 0, 0.002), seed=1)
        valid = seen.valid[0].nonzero().squeeze(-1)
        chosen = valid[:: max(1, len(valid) // POINTS)][:POINTS]
        self.points = seen.points[0][chosen].double()
        offset = from_rotation_translation(
            roma.rotvec_to_rotmat(torch.tensor([0.05, -0.04, 0.06], dtype=torch.float64)),
            torch.tensor([0.004, -0.003, 0.003], dtype=torch.float64),
        )
        self.start = offset @ seen.T_object_camera[0].double()
        self._decoder = known.decoder.double()
        self._codes = known.codes(name, other).double()

    def sdf(self, z: Tensor, blend: Tensor) -> Tensor:
        """f_d(z | h) (N,) with h = (1 - blend) h_1 + blend h_2."""
        return self._decoder(z, torch.lerp(*self._codes, blend))

    def bilevel(self, z: Tensor, blend: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Objective of (7), in square millimetres, and the pose of its inner problem."""
        ones = torch.ones(1, len(z), dtype=z.dtype)
        pose = align(self.points[None], z[None], ones)
        R, t = pose.rotation[0], pose.translation[0]
        moved = self.points @ R.T + t
        return (1e3 * self.sdf(moved, blend)).square().sum(), R, t


def solve_constrained(problem: Problem, free_shape: bool) -> tuple[float, np.ndarray]:
    """Solve (5): the constraint z_i = R x_i + t leaves the pose, and the shape."""
    R, t = problem.start[:3, :3], problem.start[:3, 3]
    centre = problem.points.mean(0)

    def residuals(x: np.ndarray) -> np.ndarray:
        x = torch.as_tensor(x)
        rotation = roma.rotvec_to_rotmat(x[:3]) @ R
        z = (problem.points - centre) @ rotation.T + R @ centre + t + 0.1 * x[3:6]
        blend = x[6] if free_shape else torch.tensor(0.0, dtype=torch.float64)
        with torch.no_grad():
            return 1e3 * problem.sdf(z, blend).numpy()

    start = np.zeros(6 + free_shape)
    tolerances = {"ftol": 1e-14, "xtol": 1e-14, "gtol": 1e-12, "max_nfev": 400}
    found = least_squares(residuals, start, "3-point", **tolerances)
    return 2 * found.cost, found.x


def solve_bilevel(problem: Problem, free_shape: bool) -> tuple[float, Tensor, Tensor]:
    """Solve (7) in all 3 N coordinates."""
    start = transform(problem.start, problem.points)
    z = start.clone().requires_grad_(True)
    blend = torch.zeros((), dtype=torch.float64, requires_grad=free_shape)
    variables = [z, blend] if free_shape else [z]
    optimiser = torch.optim.LBFGS(
        variables,
        max_iter=1500,
        max_eval=2500,
        history_size=60,
        tolerance_grad=1e-12,
        tolerance_change=1e-16,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = problem.bilevel(z, blend)[0]
        loss.backward()
        return loss

    for _ in range(3):
        optimiser.step(closure)
    z, blend = z.detach(), blend.detach()
    return float(problem.bilevel(z, blend)[0]), z, blend


@pytest.fixture(scope="module")
def problems():
    from known import load_known

    known = load_known()  # of its own: it becomes float64
    return {name: Problem(known, name, other) for name, other in (("mug", "cup"), ("box", "bar"))}


@pytest.mark.parametrize("free_shape", [False, True], ids=["pose", "pose and shape"])
@pytest.mark.parametrize("name", ["mug", "box"])
def test_both_problems_have_one_optimum(problems, name: str, free_shape: bool) -> None:
    problem = problems[name]
    p, _ = solve_constrained(problem, free_shape)
    f, z, blend = solve_bilevel(problem, free_shape)
    at_start = float(problem.bilevel(transform(problem.start, problem.points), 0 * blend)[0])
    assert 1.0 < p < 0.5 * at_start, "noise has an optimum above zero, below the start"
    assert f == pytest.approx(p, rel=1e-3)
    # Delta = R* X + t* - Z* makes the optimum of (7) feasible for (5), at the same value.
    value, R, t = problem.bilevel(z, blend)
    feasible = z + (problem.points @ R.T + t - z)
    assert (1e3 * problem.sdf(feasible, blend)).square().sum() == pytest.approx(float(value))
    assert (z - feasible).norm(dim=-1).max() > 1e-5, "(7) itself does not ask for it"
