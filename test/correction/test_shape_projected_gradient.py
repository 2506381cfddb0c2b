"""Projected gradient descent on the library's coefficients."""

from dataclasses import replace

import pytest
import torch

from crisp_ros.correction.corrector_settings import CORRECTORS
from crisp_ros.correction.correspondences import ObjectPoints, Shapes
from crisp_ros.correction.residuals import surface_objective
from crisp_ros.correction.shape_projected_gradient import (
    ProjectedGradientSettings,
    projected_gradient,
)
from crisp_ros.correction.steps import ShapeStep

LIBRARY_ALONE = ProjectedGradientSettings(own_code=False)


def on_surface(known, *names: str, count: int = 200, seed: int = 0) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.stack([shape.surface(count, g).float() for shape in known.named(*names)])


def objective(known, points: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
    sdf = known.decoder.sdf(points, codes)
    return surface_objective(sdf, torch.ones(points.shape[:2]), torch.tensor(0.01))


def solved(
    known,
    points: torch.Tensor,
    codes: torch.Tensor,
    settings: ProjectedGradientSettings | None = None,
    weights: torch.Tensor | None = None,
) -> ShapeStep:
    """Solve from codes (B, C); all points have the same weight by default."""
    weights = torch.ones(points.shape[:2]) if weights is None else weights
    seen = ObjectPoints(points, weights)
    return projected_gradient(known.field, seen, Shapes.of_codes(codes), known.prepared, settings)


def test_goes_downhill_and_stays_in_the_hull(known) -> None:
    names = ("sphere", "box", "bar")
    points = on_surface(known, *names)
    start = known.codes("capsule", "cylinder", "bracket")
    mixed = 0.6 * start + 0.4 * known.codes(*names)
    step = solved(known, points, mixed, LIBRARY_ALONE)
    assert (step.objective < 0.8 * step.start_objective).all()
    assert (step.coefficients >= 0).all()
    torch.testing.assert_close(step.coefficients.sum(-1), torch.ones(3))
    torch.testing.assert_close(step.shapes.codes, step.coefficients @ known.library.codes)
    torch.testing.assert_close(step.objective, objective(known, points, step.shapes.codes))
    torch.testing.assert_close(step.start_objective, objective(known, points, mixed))


def test_never_worse_than_the_networks_code_as_a_column(known) -> None:
    names = ("sphere", "box", "bar", "mug")
    points = on_surface(known, *names, seed=1)
    g = torch.Generator().manual_seed(0)
    codes = known.codes(*names)
    codes = codes + 0.05 * torch.randn(codes.shape, generator=g)
    step = solved(known, points, codes)
    assert step.coefficients.shape == (4, len(known.library) + 1)
    assert (step.objective <= step.start_objective).all()
    columns = torch.cat((known.library.codes.expand(4, -1, -1), codes[:, None]), 1)
    torch.testing.assert_close(step.shapes.codes, (step.coefficients[:, None] @ columns)[:, 0])


def test_starts_at_the_nearest_point_of_the_hull(known) -> None:
    mixture = torch.tensor([[0.2, 0.5, 0.0, 0.3, 0.0, 0.0, 0.0, 0.0]])
    step = solved(
        known,
        on_surface(known, "box"),
        mixture @ known.library.codes,
        ProjectedGradientSettings(iterations=0, own_code=False, interior_share=0.0),
    )
    torch.testing.assert_close(step.coefficients, mixture, atol=1e-3, rtol=0)


def test_weights_decide_between_two_views(known) -> None:
    """Half of the points are on a sphere, half on a box; the weights say which half counts."""
    points = torch.cat((on_surface(known, "sphere"), on_surface(known, "box")), dim=1)
    codes = 0.5 * known.codes("sphere") + 0.5 * known.codes("box")
    left = torch.cat((torch.ones(1, 200), torch.zeros(1, 200)), dim=1)
    found = {}
    for side, weights in (("sphere", left), ("box", 1 - left)):
        step = solved(known, points, codes, LIBRARY_ALONE, weights)
        found[side] = step.coefficients[0, known.library.names.index(side)]
    for side, other in (("sphere", "box"), ("box", "sphere")):
        assert found[side] > 0.55, f"{side} {found[side]:.2f}, {other} {found[other]:.2f}"


def test_a_batch_equals_its_members(known) -> None:
    points = on_surface(known, "sphere", "box", "bar", seed=3)
    codes = known.codes("capsule", "cylinder", "bracket")
    together = solved(known, points, codes, LIBRARY_ALONE)
    for b in range(3):
        one = slice(b, b + 1)
        alone = solved(known, points[one], codes[one], LIBRARY_ALONE)
        assert alone.objective.item() == pytest.approx(together.objective[b].item(), rel=1e-2)


def test_a_combination_is_no_library_shape(known) -> None:
    step = solved(known, on_surface(known, "sphere"), known.codes("cylinder"), LIBRARY_ALONE)
    assert step.coefficients.max() < 0.99
    assert step.shapes.index.tolist() == [-1]
    assert step.shapes.lower.isnan().all() and step.shapes.upper.isnan().all()


def test_an_interior_start_reaches_shapes_that_a_vertex_does_not(known) -> None:
    """Algorithm 1's step from the code of a wrong shape, with half of the surface seen.

    It finds 23 of 24 shapes from inside the simplex, and 3 from the code itself.
    """
    truth = torch.arange(len(known.shapes))
    wrong = known.library.codes[truth.roll(2)]
    step = CORRECTORS["alg1"].projected_gradient
    right, falls = {0.0: 0, 0.5: 0}, {0.0: [], 0.5: []}
    for direction in ((1.0, 0.8, 0.3), (-1.0, 0.2, 0.6), (0.1, -1.0, -0.4)):
        g = torch.Generator().manual_seed(0)
        points = torch.stack(
            [s.surface(250, g, visible_from=direction).float() for s in known.shapes]
        )
        for share in right:
            found = solved(known, points, wrong, replace(step, interior_share=share))
            right[share] += int((found.coefficients[:, :8].argmax(-1) == truth).sum())
            falls[share].append((found.objective / found.start_objective).median())
    assert step.interior_share == 0.5 and right[0.5] >= 22 and right[0.0] <= 4
    assert max(falls[0.5]) < 0.5 * min(falls[0.0])
