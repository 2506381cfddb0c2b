"""Adam for a batch of objects, each with its own best iterate and its own end."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

_FIRST_DECAY, _SECOND_DECAY, _EPSILON = 0.9, 0.999, 1e-12


class Evaluation(NamedTuple):
    """Objective and gradient at the iterates of A objects.

    Attributes:
        objective: (A,).
        gradient: (A, ...) of the objective, shaped as the iterates.
        result: (A, ...) result at the iterate, such as the pose; that of the best one is kept.
    """

    objective: Tensor
    gradient: Tensor
    result: Tensor


class Minimum(NamedTuple):
    """The best iterates of B objects.

    Attributes:
        objective: (B,) the lowest.
        result: (B, ...) of that iterate.
        start_objective: (B,) of the first iterate.
        start_result: (B, ...) of the first iterate.
        iterations: (B,) steps taken until the object stopped.
    """

    objective: Tensor
    result: Tensor
    start_objective: Tensor
    start_result: Tensor
    iterations: Tensor


class AdamSettings(NamedTuple):
    """Settings of `minimize`.

    Attributes:
        learning_rate: step size, in the unit of the iterates.
        iterations: steps at most.
        patience: an object stops after so many steps without a new best objective.
        tolerance: relative fall of the objective that counts as a new best for that.
    """

    learning_rate: float
    iterations: int
    patience: int
    tolerance: float = 0.0


def minimize(
    evaluate: Callable[[Tensor, Tensor], Evaluation],
    start: Tensor,
    settings: AdamSettings,
    project: Callable[[Tensor], Tensor] = lambda x: x,
) -> Minimum:
    """Minimize the objectives of B independent objects with (projected) Adam.

    Args:
        evaluate: from the rows (A,) of the objects that still move and their iterates (A, ...).
        start: (B, ...) first iterates.
        settings: see `AdamSettings`.
        project: of iterates (A, ...) onto the set in which they have to stay.
    """
    batch = len(start)
    x, first, second = start.clone(), torch.zeros_like(start), torch.zeros_like(start)
    waited = torch.zeros(batch, dtype=torch.long, device=start.device)
    iterations = torch.zeros_like(waited)
    active = torch.arange(batch, device=start.device)
    found = evaluate(active, x)
    first_found = found
    best, result = found.objective.clone(), found.result.clone()
    for step in range(1, settings.iterations + 1):
        going = waited[active] < settings.patience
        active, gradient = active[going], found.gradient[going]
        if len(active) == 0:
            break
        iterations[active] += 1
        first[active] = _FIRST_DECAY * first[active] + (1 - _FIRST_DECAY) * gradient
        second[active] = _SECOND_DECAY * second[active] + (1 - _SECOND_DECAY) * gradient.square()
        momentum = first[active] / (1 - _FIRST_DECAY**step)
        spread = (second[active] / (1 - _SECOND_DECAY**step)).sqrt()
        x[active] = project(x[active] - settings.learning_rate * momentum / (spread + _EPSILON))
        found = evaluate(active, x[active])
        enough = found.objective < best[active] * (1 - settings.tolerance)
        waited[active] = torch.where(enough, 0, waited[active] + 1)
        better = found.objective < best[active]
        best[active] = torch.where(better, found.objective, best[active])
        result[active] = found.result.where(
            better.view(-1, *[1] * (result.ndim - 1)), result[active]
        )
    return Minimum(best, result, first_found.objective, first_found.result, iterations)
