"""Batched Adam against torch.optim.Adam, one object at a time."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from crisp_ros.correction.adam import AdamSettings, Evaluation, minimize

# Separable quadratics 0.5 sum_i a_i (x_i - m_i)^2 of three objects.
CURVATURE = torch.tensor([[1.0, 4.0, 0.3], [9.0, 0.1, 2.0], [0.5, 0.5, 0.5]]).double()
MIDDLE = torch.tensor([[0.2, -0.1, 0.4], [0.0, 0.3, -0.2], [1.0, 1.0, 1.0]]).double()
START = torch.tensor([[0.5, 0.5, -0.5], [0.2, -0.4, 0.1], [0.0, 0.1, -0.1]]).double()
ALWAYS = 10**6  # patience that never ends


def value(rows: Tensor, x: Tensor) -> Tensor:
    return 0.5 * (CURVATURE[rows] * (x - MIDDLE[rows]).square()).sum(-1)


def quadratic(rows: Tensor, x: Tensor) -> Evaluation:
    return Evaluation(value(rows, x), CURVATURE[rows] * (x - MIDDLE[rows]), 10.0 * x)


def reference(start: Tensor, row: int, settings: AdamSettings) -> list[Tensor]:
    """Run torch's Adam on one object and return all iterates."""
    x = start.clone().requires_grad_(True)
    optimizer = torch.optim.Adam([x], lr=settings.learning_rate, eps=1e-12)
    iterates = [x.detach().clone()]
    for _ in range(settings.iterations):
        optimizer.zero_grad()
        value(torch.tensor(row), x).backward()
        optimizer.step()
        iterates.append(x.detach().clone())
    return iterates


@pytest.mark.parametrize("iterations", [0, 1, 7, 60])
@pytest.mark.parametrize("learning_rate", [0.01, 0.3])
def test_the_best_iterate_is_that_of_torch(iterations: int, learning_rate: float) -> None:
    """With the large step the objective rises in between, so that the last is not the best."""
    settings = AdamSettings(learning_rate, iterations, ALWAYS)
    found = minimize(quadratic, START, settings)
    for row in range(3):
        iterates = reference(START[row], row, settings)
        values = torch.stack([value(torch.tensor(row), x) for x in iterates])
        torch.testing.assert_close(found.objective[row], values.min())
        torch.testing.assert_close(found.result[row], 10.0 * iterates[values.argmin()])
        torch.testing.assert_close(found.start_objective[row], values[0])
    torch.testing.assert_close(found.start_result, 10.0 * START)
    assert found.iterations.tolist() == [iterations] * 3


def test_the_best_is_not_always_the_last() -> None:
    settings = AdamSettings(0.3, 7, ALWAYS)
    lasts = torch.stack([reference(START[row], row, settings)[-1] for row in range(3)])
    last = value(torch.arange(3), lasts)
    assert (minimize(quadratic, START, settings).objective < 0.9 * last).any()


def test_iterates_stay_in_the_set() -> None:
    """Of a separable problem in a box, the minimum is the nearest point of the box."""
    seen = []

    def watching(rows: Tensor, x: Tensor) -> Evaluation:
        seen.append(x)
        return quadratic(rows, x)

    def inside(x: Tensor) -> Tensor:
        return x.clamp(-0.15, 0.25)

    settings = AdamSettings(0.01, 400, ALWAYS)
    found = minimize(watching, inside(START), settings, inside)
    assert len(seen) == 401 and all(torch.equal(inside(x), x) for x in seen)
    torch.testing.assert_close(found.result, 10.0 * inside(MIDDLE), atol=1e-2, rtol=0)
    assert (found.objective > minimize(quadratic, START, settings).objective + 1e-3).all()


def test_objects_are_independent() -> None:
    settings = AdamSettings(0.1, 40, 3)
    together = minimize(quadratic, START, settings)
    for row in range(3):
        one = torch.tensor([row])
        alone = minimize(lambda rows, x, one=one: quadratic(one[rows], x), START[one], settings)
        for part, whole in zip(alone, together, strict=True):
            assert torch.equal(part, whole[one])


def test_an_object_stops_after_its_patience() -> None:
    """The first object starts at its minimum, and only moves away from it."""
    start = START.clone()
    start[0] = MIDDLE[0] + 1e-9
    asked = []

    def watching(rows: Tensor, x: Tensor) -> Evaluation:
        asked.append(rows.tolist())
        return quadratic(rows, x)

    found = minimize(watching, start, AdamSettings(0.01, 30, 4))
    assert found.iterations.tolist() == [4, 30, 30]
    assert asked == [[0, 1, 2]] * 5 + [[1, 2]] * 26
    torch.testing.assert_close(found.result[0], 10.0 * start[0])


def test_small_falls_end_the_patience_but_are_kept() -> None:
    settings = AdamSettings(0.001, 50, 5)
    strict = minimize(quadratic, START, settings._replace(tolerance=0.5))
    assert strict.iterations.tolist() == [5] * 3
    plain = minimize(quadratic, START, settings._replace(iterations=5))
    assert torch.equal(strict.objective, plain.objective)
    assert (strict.objective < strict.start_objective).all()
    assert (minimize(quadratic, START, settings).iterations == 50).all()


def test_no_objects_and_matrices_as_iterates() -> None:
    none = minimize(quadratic, START[:0], AdamSettings(0.1, 5, 2))
    assert none.objective.shape == (0,) and none.result.shape == (0, 3)

    def flat(rows: Tensor, x: Tensor) -> Evaluation:
        found = quadratic(rows, x.flatten(1))
        return Evaluation(found.objective, found.gradient.view_as(x), found.result.view_as(x))

    settings = AdamSettings(0.1, 20, ALWAYS)
    shaped = minimize(flat, START.view(3, 3, 1), settings)
    expected = minimize(quadratic, START, settings)
    assert torch.equal(shaped.result.flatten(1), expected.result)
    assert torch.equal(shaped.objective, expected.objective)


def test_the_start_given_is_left_as_it_was() -> None:
    start = START.clone()
    minimize(quadratic, start, AdamSettings(0.1, 5, ALWAYS))
    assert torch.equal(start, START)
