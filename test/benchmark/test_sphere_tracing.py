"""Views of decoded shapes against ray and sphere intersections in closed form."""

import math

import torch
from analytic import sphere
from analytic_scene import AnalyticDecoder

from crisp_ros.benchmark.sphere_tracing import Viewpoint, shape_view
from crisp_ros.geometry.se3 import invert, transform

RADIUS = 0.05


def test_rays_end_where_they_meet_a_ball() -> None:
    view = Viewpoint(0.7, 0.4, 0.6, (0.0, 0.0, 0.0), width_m=0.16, side_px=32)
    found = shape_view(AnalyticDecoder([sphere(RADIUS)]), torch.ones(1), view, reach_m=0.06)
    eye = view.T_object_camera[:3, 3]
    assert found.hit.float().mean() == _share_of_disc(view)
    points = found.points[found.hit]
    assert (points.norm(dim=-1) - RADIUS).abs().max() < 3e-4
    assert (points @ eye > 0).all()  # the near side
    torch.testing.assert_close(
        found.normals[found.hit], points / points.norm(dim=-1, keepdim=True), atol=1e-4, rtol=0
    )
    seen = transform(invert(view.T_object_camera), points)
    assert (seen[:, 2] > 0).all() and seen[:, :2].mean(0).abs().max() < 2e-3


def _share_of_disc(view: Viewpoint) -> float:
    """The share of pixels whose ray passes the ball's centre within its radius."""
    ticks = ((torch.arange(view.side_px) + 0.5) / view.side_px - 0.5) * view.width_m
    v, u = torch.meshgrid(ticks, ticks, indexing="ij")
    off = torch.hypot(u, v)
    miss = view.distance_m * off / torch.sqrt(off**2 + view.distance_m**2)
    return float((miss < RADIUS).float().mean())


def test_the_camera_looks_at_its_target_with_z_up() -> None:
    view = Viewpoint(math.pi / 2, 0.3, 0.5, (0.1, 0.2, 0.3))
    target = transform(invert(view.T_object_camera), torch.tensor([[0.1, 0.2, 0.3]]))
    torch.testing.assert_close(target, torch.tensor([[0.0, 0.0, 0.5]]), atol=1e-6, rtol=0)
    above = transform(invert(view.T_object_camera), torch.tensor([[0.1, 0.2, 0.35]]))
    assert above[0, 1] < 0  # y points down in the image
    rotation = view.T_object_camera[:3, :3]
    torch.testing.assert_close(rotation @ rotation.T, torch.eye(3), atol=1e-6, rtol=0)
    assert torch.linalg.det(rotation) > 0
