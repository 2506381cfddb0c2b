"""Projected gradient descent on the library's coefficients."""

import pytest
import torch

from crisp_ros.correction.residuals import surface_objective
from crisp_ros.correction.shape_projected_gradient import (
    ProjectedGradientSettings,
    projected_gradient,
)


def on_surface(known, *names: str, count: int = 200, seed: int = 0) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.stack([shape.surface(count, g).float() for shape in known.named(*names)])


def objective(known, points: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
    sdf = known.decoder.sdf(points, codes)
    return surface_objective(sdf, torch.ones(points.shape[:2]), torch.tensor(0.01))


def test_goes_downhill_and_stays_in_the_hull(known) -> None:
    names = ("sphere", "box", "bar")
    points = on_surface(known, *names)
    start = known.codes("capsule", "cylinder", "bracket")
    mixed = 0.6 * start + 0.4 * known.codes(*names)
    valid = torch.ones(points.shape[:2]).bool()
    settings = ProjectedGradientSettings(own_code=False)
    step = projected_gradient(known.decoder, points, valid, mixed, known.library.codes, settings)
    assert (step.objective < 0.8 * step.start_objective).all()
    assert (step.coefficients >= 0).all()
    torch.testing.assert_close(step.coefficients.sum(-1), torch.ones(3))
    torch.testing.assert_close(step.codes, step.coefficients @ known.library.codes)
    torch.testing.assert_close(step.objective, objective(known, points, step.codes))
    torch.testing.assert_close(step.start_objective, objective(known, points, mixed))


def test_never_worse_than_the_networks_code_that_is_a_column(known) -> None:
    names = ("sphere", "box", "bar", "mug")
    points = on_surface(known, *names, seed=1)
    valid = torch.ones(points.shape[:2]).bool()
    g = torch.Generator().manual_seed(0)
    codes = known.codes(*names)
    codes = codes + 0.05 * torch.randn(codes.shape, generator=g)
    step = projected_gradient(known.decoder, points, valid, codes, known.library.codes)
    assert step.coefficients.shape == (4, len(known.library) + 1)
    assert (step.objective <= step.start_objective).all()
    columns = torch.cat((known.library.codes.expand(4, -1, -1), codes[:, None]), 1)
    torch.testing.assert_close(step.codes, (step.coefficients[:, None] @ columns)[:, 0])


def test_starts_at_the_nearest_point_of_the_hull(known) -> None:
    mixture = torch.tensor([[0.2, 0.5, 0.0, 0.3, 0.0, 0.0, 0.0, 0.0]])
    codes = mixture @ known.library.codes
    points = on_surface(known, "box")
    step = projected_gradient(
        known.decoder,
        points,
        torch.ones(1, 200).bool(),
        codes,
        known.library.codes,
        ProjectedGradientSettings(iterations=0, own_code=False),
    )
    torch.testing.assert_close(step.coefficients, mixture, atol=1e-3, rtol=0)


def test_weights_decide_between_two_views(known) -> None:
    """Half of the points lie on a sphere, half on a box; the weights say which half counts."""
    points = torch.cat((on_surface(known, "sphere"), on_surface(known, "box")), dim=1)
    codes = 0.5 * known.codes("sphere") + 0.5 * known.codes("box")
    left = torch.cat((torch.ones(1, 200), torch.zeros(1, 200)), dim=1)
    found = {}
    for side, weights in (("sphere", left), ("box", 1 - left)):
        step = projected_gradient(
            known.decoder,
            points,
            torch.ones(1, 400).bool(),
            codes,
            known.library.codes,
            ProjectedGradientSettings(own_code=False),
            weights,
        )
        found[side] = step.coefficients[0, known.library.names.index(side)]
    for side, other in (("sphere", "box"), ("box", "sphere")):
        assert found[side] > 0.55, f"{side} {found[side]:.2f}, {other} {found[other]:.2f}"


def test_objects_do_not_influence_each_other(known) -> None:
    names = ("sphere", "box", "bar")
    points = on_surface(known, *names, seed=3)
    valid = torch.ones(points.shape[:2]).bool()
    codes = known.codes("capsule", "cylinder", "bracket")
    settings = ProjectedGradientSettings(own_code=False)
    together = projected_gradient(
        known.decoder, points, valid, codes, known.library.codes, settings
    )
    for b in range(3):
        one = slice(b, b + 1)
        alone = projected_gradient(
            known.decoder, points[one], valid[one], codes[one], known.library.codes, settings
        )
        assert alone.objective.item() == pytest.approx(together.objective[b].item(), rel=1e-2)
