"""Unknown boxes on a table, from a depth image that a ray caster drew of them."""

from __future__ import annotations

import math

import pytest
import torch
from latent_boxes import BOXES, MEAN, SPREAD, RoundedBoxes
from table_depth import LABEL
from unknown_box import SHAPE, Scene

from crisp_ros.correction.correspondences import ObjectPoints
from crisp_ros.correction.empty_space import EmptySpaceSettings, empty_points
from crisp_ros.correction.latent_prior import LatentPrior
from crisp_ros.correction.prior_shape import (
    PriorShapeSettings,
    Solutions,
    fit_prior_shapes,
    observe_for_prior,
    rival_spread,
)
from crisp_ros.correction.shape_starts import Support, starting_poses
from crisp_ros.geometry.se3 import invert
from crisp_ros.pipeline.support_planes import support_planes


@pytest.fixture(scope="module")
def scene() -> Scene:
    return Scene()


def test_empty_points_are_outside_the_object(scene: Scene) -> None:
    empty = empty_points(
        scene.observed(), scene.T_object_camera[None], torch.tensor([LABEL]), scene.images
    )
    inside = RoundedBoxes().sdf(empty.points, scene.latents) < 0
    assert empty.valid.sum() > 300
    assert not (inside & empty.valid).any()
    near = RoundedBoxes().sdf(empty.points, scene.latents) < 0.06
    assert (near & empty.valid).any()


def test_the_surface_is_not_nearer_than_what_was_seen(scene: Scene) -> None:
    """Of points under the support and of those in front of it, by distances of all pairs."""
    settings, seen = PriorShapeSettings(), scene.observed()
    what = seen, torch.tensor([LABEL]), scene.images, scene.support, settings
    empty = observe_for_prior(*what)[0].empty
    points = empty.points[empty.valid]
    nearest = torch.linalg.norm(points[:, None] - seen.points[0][None], dim=-1).amin(1)
    height = points @ scene.support.normal[0] + scene.support.offset[0]
    expected = torch.where(height < -1e-6, -height, nearest).clamp_max(settings.clearance_m)
    assert torch.allclose(empty.clearance[empty.valid], expected)
    assert (expected < settings.clearance_m).any() and (height < -1e-6).any()


def test_what_stands_in_front_hides_the_outline(scene: Scene) -> None:
    depth, own = scene.images.depth.clone(), scene.images.labels == LABEL
    columns = own.any(0).nonzero().squeeze(1)
    depth[:, int(columns.float().mean()) :] = 0.2
    covered = scene.images._replace(depth=torch.where(own, scene.images.depth, depth))
    shares = [
        observe_for_prior(
            scene.observed(), torch.tensor([LABEL]), images, scene.support, PriorShapeSettings()
        )[0].hidden
        for images in (scene.images, covered)
    ]
    assert shares[0] == 0.0 and 0.3 < shares[1] < 0.7


def test_nothing_is_known_to_be_empty_without_depth(scene: Scene) -> None:
    dark = scene.images._replace(depth=torch.zeros_like(scene.images.depth))
    label = torch.tensor([LABEL])
    empty = empty_points(scene.observed(), scene.T_object_camera[None], label, dark)
    assert not empty.valid.any()


def test_pixels_next_to_the_mask_prove_nothing(scene: Scene) -> None:
    counts = []
    for border in (0, 6):
        empty = empty_points(
            scene.observed(),
            scene.T_object_camera[None],
            torch.tensor([LABEL]),
            scene.images,
            EmptySpaceSettings(border_px=border, kept=10**4),
        )
        counts.append(len(empty.points[empty.valid].unique(dim=0)))
    assert counts[1] < 0.9 * counts[0]


def test_a_start_is_near_the_object(scene: Scene) -> None:
    seen = scene.observed()
    support = Support(*(part[0] for part in scene.support))
    poses = starting_poses(ObjectPoints(seen.points[0], seen.valid[0].double()), support, 8)
    assert poses.shape == (48, 4, 4)
    true = scene.T_object_camera
    apart = (invert(poses)[:, :3, 3] - invert(true)[:3, 3]).norm(dim=1)
    assert apart.max() < 0.04
    cosine = 0.5 * ((poses[:, :3, :3] * true[:3, :3]).sum((1, 2)) - 1)
    assert cosine.max() > math.cos(math.radians(23))


def test_shape_and_place_of_an_unknown_box_are_found(scene: Scene) -> None:
    seen, label = scene.observed(), torch.tensor([LABEL])
    fit = fit_prior_shapes(RoundedBoxes(), BOXES, seen, label, scene.images, scene.support)
    half = MEAN + fit.latents[0] * SPREAD + 0.002
    # The side that is hardly seen keeps the size of the prior, 6 mm more than it has.
    assert torch.allclose(half.sort().values, scene.half.sort().values, atol=0.007)
    assert (half.sort().values - scene.half.sort().values)[1:].abs().max() < 0.002
    middle = invert(fit.T_object_camera)[0, :3, 3]
    assert (middle - invert(scene.T_object_camera)[:3, 3]).norm() < 0.008


@pytest.mark.parametrize("poor_fit", [0.05, math.inf])
def test_an_object_unlike_its_kind_gets_a_wider_prior(scene: Scene, poor_fit: float) -> None:
    """A kind whose boxes hardly vary: its prior holds a box of other sizes back."""
    still = torch.zeros((1, 3)).double()
    narrow = LatentPrior.of_covariances(still, 0.0004 * torch.eye(3)[None].double())
    what = scene.observed(), torch.tensor([LABEL]), scene.images, scene.support
    settings = PriorShapeSettings(poor_fit=poor_fit)
    fit = fit_prior_shapes(RoundedBoxes(), BOXES._replace(priors=narrow), *what, settings)
    half = MEAN + fit.latents[0] * SPREAD + 0.002
    error = (half.sort().values - scene.half.sort().values).abs().amax()
    assert (error < 0.012) == (poor_fit < 1.0)
    assert int(fit.kinds) == (1 if poor_fit < 1.0 else 0)


def test_what_its_kind_explains_gets_no_wider_prior(scene: Scene) -> None:
    what = scene.observed(), torch.tensor([LABEL]), scene.images, scene.support
    costly = PriorShapeSettings(poor_fit=0.0, width_price=100.0)
    for settings in (PriorShapeSettings(), costly):
        assert int(fit_prior_shapes(RoundedBoxes(), BOXES, *what, settings).kinds) == 0


def test_an_object_without_points_has_an_infinite_objective(scene: Scene) -> None:
    nothing = scene.observed()
    nothing = nothing._replace(valid=torch.zeros_like(nothing.valid))
    fit = fit_prior_shapes(
        RoundedBoxes(), BOXES, nothing, torch.tensor([LABEL]), scene.images, scene.support
    )
    assert fit.objective.isinf().all() and torch.isfinite(fit.T_object_camera).all()


def test_the_support_of_an_object_is_the_table(scene: Scene) -> None:
    support = support_planes(scene.observed().rows(slice(0, 1)), scene.images)
    assert bool(support.known)
    assert torch.allclose(support.normal, scene.support.normal, atol=0.02)
    assert torch.allclose(support.offset, scene.support.offset, atol=0.01)


def test_without_a_plane_up_is_that_of_a_level_camera(scene: Scene) -> None:
    alone = scene.images._replace(
        depth=torch.where(scene.images.labels == LABEL, scene.images.depth, 0.0)
    )
    support = support_planes(scene.observed(), alone)
    assert not support.known.any()
    assert torch.equal(support.normal, torch.tensor([[0.0, -1.0, 0.0]]).double())


@pytest.mark.parametrize("objective, apart", [(1.4, True), (1.6, False)])
def test_a_rival_is_as_far_as_its_surface(scene: Scene, objective: float, apart: bool) -> None:
    """A solution 2 cm aside counts while it explains the object nearly as well."""
    seen = scene.observed()
    points = ObjectPoints(seen.points[0], seen.valid[0].double())
    aside = scene.T_object_camera.clone()
    aside[0, 3] += 0.02
    poses = torch.stack([scene.T_object_camera, scene.T_object_camera, aside])
    latents, objectives = SHAPE.expand(3, 3), torch.tensor([1.0, 1.0, objective]).double()
    none = torch.zeros(3, dtype=torch.long)
    solutions = Solutions(poses, latents, none, objectives, none)
    spread = float(rival_spread(RoundedBoxes(), points, solutions, PriorShapeSettings()))
    # The faces across the motion are 2 cm apart, those along it coincide.
    assert 0.004 < spread < 0.02 if apart else spread == 0.0
