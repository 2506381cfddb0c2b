"""Views of single objects: exact points on the surface, noise along the ray, known poses."""

from __future__ import annotations

import pytest
import torch
import trimesh

from crisp_ros.geometry.se3 import transform
from crisp_ros.studies.object_views import ObjectViewSettings, object_views

MESHES = {
    "ball": trimesh.creation.icosphere(4, radius=0.05),
    "box": trimesh.creation.box((0.1, 0.06, 0.2)),
}


@pytest.fixture(scope="module")
def views():
    return object_views(MESHES, ["box", "ball"], ObjectViewSettings(views=3, points=300, seed=1))


def test_every_object_is_seen_so_often_in_the_order_of_the_names(views) -> None:
    assert views.objects.tolist() == [0, 0, 0, 1, 1, 1]
    assert views.points.shape == views.z.shape == (6, 300, 3) and views.valid.all()


def test_exact_points_lie_on_the_visible_side_of_the_surface(views) -> None:
    ball = views.z[3:]
    assert (ball.norm(dim=-1) - 0.05).abs().max() < 5e-4
    camera = views.T_object_camera[3:, :3, 3].float()
    towards = torch.nn.functional.normalize(camera, dim=-1)
    assert ((ball / 0.05) @ towards[..., None] > -0.05).all()
    box = views.z[:3].abs() / torch.tensor([0.05, 0.03, 0.1])
    torch.testing.assert_close(box.amax(-1), torch.ones(3, 300), atol=0.02, rtol=0)


def test_noise_is_along_the_ray_with_the_stated_size(views) -> None:
    exact = transform(torch.linalg.inv(views.T_object_camera), views.z.double()).float()
    off = views.points - exact
    ray = torch.nn.functional.normalize(exact, dim=-1)
    along = (off * ray).sum(-1)
    assert (off - along[..., None] * ray).norm(dim=-1).max() < 1e-4
    far = along > 0.02
    assert 0.02 < far.float().mean() < 0.09
    assert along[~far].std().item() == pytest.approx(0.002, rel=0.15)


def test_the_seed_decides(views) -> None:
    settings = ObjectViewSettings(views=3, points=300, seed=1)
    again = object_views(MESHES, ["box", "ball"], settings)
    assert torch.equal(again.points, views.points)
