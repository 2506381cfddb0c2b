"""Examples in place: which boxes stand where the depth points are."""

from __future__ import annotations

import pytest
import torch
from latent_boxes import MEAN, SPREAD, RoundedBoxes
from table_depth import table_plane
from unknown_box import Scene

from crisp_ros.correction.correspondences import ObjectPoints
from crisp_ros.correction.empty_space import EmptyPoints
from crisp_ros.correction.latent_prior import LatentPrior
from crisp_ros.correction.shape_mixture import ShapeMixture
from crisp_ros.correction.shape_starts import (
    StartSettings,
    Support,
    boxed_starts,
    starting_poses,
    starts_of,
)
from crisp_ros.geometry.se3 import transform

_SETTINGS = StartSettings(kept=6, kept_of_kind=2)


def _mixture(scene: Scene) -> ShapeMixture:
    """The scene's box and four others, each a kind of its own."""
    others = torch.tensor([[-2.0, 2.0, -1.0], [3.0, 3.0, 3.0], [-2.5, -2.5, -2.5], [3.0, -2, -3]])
    latents = torch.cat([scene.latents, others.double()])
    half = MEAN + latents * SPREAD + 0.002
    priors = LatentPrior.standard(latents)
    return ShapeMixture(latents, torch.arange(len(latents)), -half, half, priors)


def _seen(scene: Scene) -> ObjectPoints:
    observed = scene.observed()
    return ObjectPoints.of(observed.points[0], observed.valid[0])


def _support(scene: Scene) -> Support:
    return Support(*(part[0] for part in scene.support))


def test_the_right_example_is_found_in_place() -> None:
    scene = Scene()
    seen, mixture = _seen(scene), _mixture(scene)
    none = EmptyPoints.of(ObjectPoints(seen.points[:1], torch.zeros_like(seen.weights[:1])))
    starts = starts_of(RoundedBoxes(), seen, none, _support(scene), mixture, _SETTINGS)
    assert int(starts.examples[0]) == 0
    sdf = RoundedBoxes().sdf(transform(starts.T_object_camera[0], seen.points)[None], scene.latents)
    assert sdf.abs().mean() < 0.01  # with up to 22 degrees between it and the nearest rotation
    assert starts.examples.bincount().max() <= _SETTINGS.kept_of_kind


def test_examples_stand_on_the_support() -> None:
    scene = Scene()
    mixture = _mixture(scene)
    starts = boxed_starts(_seen(scene), _support(scene), mixture, _SETTINGS)
    normal, offset = table_plane()
    corners = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0]).double()] * 3)
    boxes = corners * mixture.upper[starts.examples][:, None]
    placed = transform(torch.linalg.inv(starts.T_object_camera), boxes)
    heights = placed @ normal + offset
    assert heights.amin(1).abs().max() < 1e-6


@pytest.mark.parametrize("up", [(0.0, 0.0, -1.0), (1.0, 1.0, 1.0), (-1.0, 1.0, 0.0)])
def test_starts_are_poses_when_the_camera_looks_down(up: tuple[float, float, float]) -> None:
    """The view is along the support's normal, and gives no direction across."""
    normal = torch.nn.functional.normalize(torch.tensor(up).double(), dim=0)
    spread = torch.randn((50, 3), generator=torch.Generator().manual_seed(1)).double()
    points = 0.02 * (spread - spread.mean(0)) - 0.5 * normal
    support = Support(normal, torch.tensor(0.55).double(), torch.tensor(True))
    poses = starting_poses(ObjectPoints(points, torch.ones(50).double()), support, 4)
    rotation = poses[:, :3, :3]
    unit = torch.eye(3).double().expand_as(rotation)
    assert torch.allclose(rotation @ rotation.transpose(1, 2), unit, atol=1e-6)


def test_empty_space_decides_between_examples() -> None:
    """Points in empty space around the object leave larger boxes out."""
    scene = Scene()
    seen, mixture = _seen(scene), _mixture(scene)
    alike = mixture._replace(
        lower=torch.full_like(mixture.lower, -0.07), upper=torch.full_like(mixture.upper, 0.07)
    )
    around = seen.points + 0.03 * torch.nn.functional.normalize(-seen.points, dim=1)
    empty = EmptyPoints.of(ObjectPoints(around, torch.ones_like(seen.weights)))
    starts = starts_of(RoundedBoxes(), seen, empty, _support(scene), alike, _SETTINGS)
    assert int(starts.examples[0]) == 0


def test_examples_too_near_to_empty_space_come_last() -> None:
    """No point is in the box that was seen, but some are nearer to it than it may be."""
    scene = Scene(yaw=0.0)
    seen = _seen(scene)
    latents = scene.latents.repeat(2, 1)
    latents[1, 2] -= 0.6  # 12 mm lower
    half = (MEAN + scene.latents * SPREAD + 0.002).repeat(2, 1)
    two = ShapeMixture(latents, torch.arange(2), -half, half, LatentPrior.standard(latents))
    placed = transform(scene.T_object_camera, seen.points)
    above = placed[placed[:, 2] > half[0, 2] - 1e-3] + placed.new_tensor([0.0, 0.0, 0.005])
    above = transform(torch.linalg.inv(scene.T_object_camera), above)
    weights = torch.ones_like(above[:, 0])
    for clearance, best in ((0.0, 0), (0.015, 1)):
        empty = EmptyPoints(above, weights, torch.full_like(weights, clearance))
        starts = starts_of(RoundedBoxes(), seen, empty, _support(scene), two, _SETTINGS)
        assert int(starts.examples[0]) == best
