import math

import pytest
import torch

from crisp_ros.observation.crop_channels import geometry_channels
from crisp_ros.training.augment import AugmentSettings, StoredViews, augmented
from crisp_ros.training.augment_geometry import (
    CropGeometry,
    GeometryAugmentSettings,
    faulty_depth,
    faulty_mask,
)
from crisp_ros.training.draws import Draws

SIDE, FOCAL, DISTANCE = 64, 200.0, 0.8


def plane(count: int = 2) -> StoredViews:
    """A disc on a plane that faces the camera, whose neighbour is on its right."""
    step = torch.arange(SIDE) - (SIDE - 1) / 2
    v, u = torch.meshgrid(step, step, indexing="ij")
    points = torch.stack([u / FOCAL * DISTANCE, v / FOCAL * DISTANCE, torch.full_like(u, DISTANCE)])
    disc = u**2 + v**2 < 18**2
    labels = torch.where(disc, 1, torch.where(u > 19, 3, 0)).to(torch.uint8)
    pnc = torch.where(disc, points - torch.tensor([0, 0, DISTANCE])[:, None, None], math.nan)
    rgb = torch.full((count, 3, SIDE, SIDE), 90, dtype=torch.uint8)
    geometry = CropGeometry(points.expand(count, -1, -1, -1), labels.expand(count, -1, -1))
    return StoredViews(rgb, pnc.expand(count, -1, -1, -1), 1.5, geometry)


def only(**changes: float) -> GeometryAugmentSettings:
    """Settings with these faults alone."""
    nothing = dict.fromkeys(GeometryAugmentSettings.__dataclass_fields__, 0.0)
    return GeometryAugmentSettings(**{**nothing, **changes})


def settings(**changes) -> AugmentSettings:
    plain = {"colour": 0, "blur_share": 0, "sharpen_share": 0, "noise_share": 0, "hide_share": 0}
    plain |= {"scale": (1.0, 1.0), "shift": 0, "rotation_deg": 0, "geometry": only()}
    return AugmentSettings(**{**plain, **changes})


@pytest.mark.parametrize("rotation_deg", [0.0, 40.0])
def test_coordinates_stay_with_the_pixels(rotation_deg):
    """On a plane that faces the camera x and y are the pixel's own place, whatever the rotation."""
    batch = augmented(plane(6), 48, 24, settings(rotation_deg=rotation_deg), Draws(range(6)))
    mask, xyz = batch.crops[:, 3] > 0, batch.crops[:, 4:7]
    assert torch.equal(batch.crops[:, 7] > 0, mask)
    metres = 1.2 / 1.5 * SIDE / 48 / FOCAL * DISTANCE
    step = (torch.arange(48) - 23.5) * metres / 0.1
    expected = torch.stack(torch.meshgrid(step, step, indexing="xy"))
    error = (xyz[:, :2] - expected).abs().amax(1)[mask]
    assert error.max() < 1.6 * metres / 0.1 and xyz[:, 2].abs().max() < 5e-3


def test_channels_are_those_of_inference():
    batch = augmented(plane(), SIDE, SIDE, settings(margin=1.5), Draws(range(2)))
    stored = plane().geometry
    expected = geometry_channels(stored.points, stored.labels == 1)
    assert torch.allclose(batch.crops[:, 3:], expected, atol=1e-6)


def test_crops_without_geometry_have_colour_alone():
    stored = plane()._replace(geometry=None)
    batch = augmented(stored, 48, 24, settings(), Draws(range(2)))
    with_depth = augmented(plane(), 48, 24, settings(), Draws(range(2)))
    assert batch.crops.shape == (2, 3, 48, 48)
    assert torch.equal(batch.crops, with_depth.crops[:, :3])


def test_what_hides_an_object_is_not_on_its_mask():
    batch = augmented(plane(8), 48, 24, settings(hide_share=1.0), Draws(range(8)))
    plain = augmented(plane(8), 48, 24, settings(), Draws(range(8)))
    hidden = (batch.crops[:, :3] - plain.crops[:, :3]).abs().amax(1) > 0
    assert (batch.crops[:, 3][hidden] == -1).all() and hidden.any()
    assert torch.equal(batch.crops[:, 3][~hidden], plain.crops[:, 3][~hidden])


def masks(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    labels = plane(count).geometry.labels
    return labels == 1, labels > 1


def test_masks_grow_and_shrink():
    before, others = masks(40)
    after = faulty_mask(before, others, only(change_share=1.0, change=0.06), Draws(range(40)))
    grown = (after & ~before).flatten(1).sum(1)
    shrunk = (before & ~after).flatten(1).sum(1)
    assert (grown > 0).sum() > 5 and (shrunk > 0).sum() > 5
    assert not ((grown > 0) & (shrunk > 0)).any()
    reach = torch.nn.functional.max_pool2d(before[:, None].float(), 9, 1, 4)[:, 0] > 0
    assert not (after & ~reach).any()  # 0.06 of 64 px are 4


def test_bites_take_one_side():
    before, others = masks(20)
    after = faulty_mask(before, others, only(bite_share=1.0), Draws(range(20)))
    kept = after.flatten(1).sum(1) / before.flatten(1).sum(1)
    assert not (after & ~before).any()
    assert 0.3 < kept.min() < 0.75 and kept.max() <= 1.0


def test_masks_take_a_piece_of_the_neighbour():
    before, others = masks(60)
    after = faulty_mask(before, others, only(neighbour_share=1.0, neighbour=0.15), Draws(range(60)))
    assert not (before & ~after).any()
    taken = (after & others).flatten(1).sum(1)
    assert (taken > 10).sum() > 10
    assert (after & others & ~before).any(1).any(1).float().mean() < 1.0


def test_depth_can_be_missing_altogether():
    points, (mask, _) = plane(50).geometry.points, masks(50)
    after = faulty_depth(points, mask, only(no_depth_share=0.4), Draws(range(50)))
    missing = (after == 0).flatten(1).all(1)
    assert 8 < missing.sum() < 32
    assert torch.equal(after[~missing], points[~missing])


def test_depth_has_noise_along_the_rays():
    points, (mask, _) = plane(50).geometry.points, masks(50)
    after = faulty_depth(points, mask, only(noise_m=0.004, wave_m=0.004), Draws(range(50)))
    rays = after / after[:, 2:]
    assert torch.allclose(rays, points / points[:, 2:], atol=1e-5)
    assert 0.001 < (after - points)[:, 2].std() < 0.006


def test_depth_has_holes_and_borders():
    points, (mask, _) = plane(50).geometry.points, masks(50)
    holes = faulty_depth(points, mask, only(hole_share=1.0), Draws(range(50)))
    share = (holes[:, 2] == 0).float().mean((1, 2))
    assert share.min() < 0.1 and 0.15 < share.max() < 0.9
    borders = faulty_depth(points, mask, only(edge_share=1.0), Draws(range(50)))
    inner = -torch.nn.functional.max_pool2d(-mask[:, None].float(), 7, 1, 3)[:, 0] > 0
    assert (borders[:, 2][inner] > 0).all()
    assert ((borders[:, 2] == 0) & mask).flatten(1).any(1).sum() > 20


def test_a_share_beyond_one_is_refused():
    with pytest.raises(ValueError, match="no_depth_share"):
        GeometryAugmentSettings(no_depth_share=1.5)
