"""Points in space that the camera has seen to be empty: free space and silhouette in one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from crisp_ros.correction.batch import evenly_spaced, subsample
from crisp_ros.correction.correspondences import Correspondences, ObjectPoints
from crisp_ros.correction.visibility import Images, pixel_rays
from crisp_ros.geometry.se3 import transform


@dataclass(frozen=True)
class EmptySpaceSettings:
    """Settings of `empty_points`.

    Attributes:
        rays: a side of the square grid of viewing rays around an object.
        ring: cells of this grid around the object that count; its outline bounds the shape most.
        kept: rays that are kept, evenly spaced.
        depths: points on a ray.
        reach: radius of the ball that is looked at, times that of the points seen.
        tolerance_m: nearer than this to what was measured nothing is known, metres.
        border_px: so near to the object's mask other pixels prove nothing, px.
    """

    rays: int = 48
    ring: int = 5
    kept: int = 320
    depths: int = 6
    reach: float = 2.0
    tolerance_m: float = 0.01
    border_px: int = 3


class EmptyPoints(NamedTuple):
    """Points where nothing of B objects is, in their own frames.

    Attributes:
        points: (B, M, 3) object frame, metres.
        weights: (B, M) not negative; zero for points that do not count.
        clearance: (B, M) how far away the surface is at least, metres.
    """

    points: Tensor
    weights: Tensor
    clearance: Tensor

    @classmethod
    def of(cls, empty: ObjectPoints, clearance: Tensor | None = None) -> EmptyPoints:
        """Points with a clearance (B, M); without one the surface may be where they are."""
        return cls(*empty, torch.zeros_like(empty.weights) if clearance is None else clearance)

    @property
    def valid(self) -> Tensor:
        """Mask of the points with positive weight, (B, M) bool."""
        return self.weights > 0

    def subsample(self, count: int) -> EmptyPoints:
        """At most `count` points of each object, evenly spaced among its valid ones."""
        return subsample(self, self.valid, count)

    def sanitized(self) -> EmptyPoints:
        """The same with zeros for points that are not finite or have no weight."""
        return EmptyPoints(*ObjectPoints(*self[:2]).sanitized(), self.clearance)

    def depth_inside(self, sdf: Tensor) -> Tensor:
        """Depth of points inside the surface, or inside its clearance, metres.

        Args:
            sdf: (B, M) signed distances of the points.

        Returns:
            (B, M), zero or negative.
        """
        return (sdf - self.clearance).clamp_max(0.0)


@torch.no_grad()
def empty_points(
    observed: Correspondences,
    T_object_camera: Tensor,
    objects: Tensor,
    images: Images,
    settings: EmptySpaceSettings | None = None,
) -> ObjectPoints:
    """Points (B, M, 3) in the object frame where the camera saw that nothing of an object is.

    They are on viewing rays through a ball around what was seen of the object, in front of what was
    measured there, on the object itself as well as on the background next to it. Where something
    nearer hides the ball, or no depth was measured, nothing is known.

    Args:
        observed: of B objects.
        T_object_camera: (B, 4, 4).
        objects: (B,) their labels in the label image.
        images: that they were seen in.
        settings: see `EmptySpaceSettings`.
    """
    settings = settings or EmptySpaceSettings()
    centre, radius = _ball(observed, settings.reach)
    u, v = _pixels(centre, radius, images, settings.rays)
    rows, columns = v.round().long(), u.round().long()
    height, width = images.depth.shape
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    rows, columns = rows.clamp(0, height - 1), columns.clamp(0, width - 1)
    measured = images.depth[rows, columns]
    own = images.labels[rows, columns] == objects[:, None]
    known = inside & (measured > 0) & (own | ~_near_mask(objects, images, settings, rows, columns))
    known &= _around(own & inside, settings)
    kept = evenly_spaced(known, settings.kept)
    u, v, measured, known = (part.gather(1, kept) for part in (u, v, measured, known))

    ray = pixel_rays(u, v, images.camera)
    length = ray.norm(dim=-1)
    unit = ray / length[..., None]
    along = (unit * centre[:, None]).sum(-1)
    half = radius[:, None].square() - (centre.square().sum(-1)[:, None] - along.square())
    half = half.clamp_min(0.0).sqrt()
    near = (along - half).clamp_min(0.0)
    far = torch.minimum(along + half, (measured - settings.tolerance_m) * length)
    known &= far > near
    share = (torch.arange(settings.depths, device=u.device) + 0.5) / settings.depths
    distance = near[..., None] + (far - near)[..., None] * share
    points = (distance[..., None] * unit[:, :, None]).flatten(1, 2)
    valid = known[..., None].expand_as(distance).flatten(1)
    return ObjectPoints.of(transform(T_object_camera, points), valid)


def _ball(observed: Correspondences, reach: float) -> tuple[Tensor, Tensor]:
    """Centre (B, 3) and radius (B,) of the ball to look at, camera frame, metres."""
    observed = observed.sanitized()
    points, valid = observed.points, observed.valid[..., None]
    lower = torch.where(valid, points, torch.inf).amin(1)
    upper = torch.where(valid, points, -torch.inf).amax(1)
    some = valid.any(1)
    lower, upper = torch.where(some, lower, 0.0), torch.where(some, upper, 0.0)
    return 0.5 * (lower + upper), 0.5 * reach * (upper - lower).norm(dim=-1)


def _pixels(centre: Tensor, radius: Tensor, images: Images, rays: int) -> tuple[Tensor, Tensor]:
    """Columns and rows (B, rays^2) of a grid over the ball's square in the image, px."""
    camera = images.camera
    z = centre[:, 2].clamp_min(1e-3)
    steps = torch.linspace(-1.0, 1.0, rays, device=z.device, dtype=z.dtype)
    dv, du = (grid.reshape(-1) for grid in torch.meshgrid(steps, steps, indexing="ij"))
    u = camera.fx * (centre[:, :1] + radius[:, None] * du) / z[:, None] + camera.cx
    v = camera.fy * (centre[:, 1:2] + radius[:, None] * dv) / z[:, None] + camera.cy
    return u.clamp(-1e6, 1e6), v.clamp(-1e6, 1e6)


def _around(own: Tensor, settings: EmptySpaceSettings) -> Tensor:
    """Whether rays (B, rays^2) show the object or are in the ring around it."""
    grid = own.view(-1, 1, settings.rays, settings.rays).float()
    return F.max_pool2d(grid, 2 * settings.ring + 1, 1, settings.ring).flatten(1) > 0


def _near_mask(
    objects: Tensor, images: Images, settings: EmptySpaceSettings, rows: Tensor, columns: Tensor
) -> Tensor:
    """Whether pixels (B, N) are near the mask of their object."""
    if settings.border_px == 0:
        return torch.zeros_like(rows, dtype=torch.bool)
    # The few pixels around each ray, not a dilation of the whole image.
    reach = torch.arange(-settings.border_px, settings.border_px + 1, device=rows.device)
    height, width = images.labels.shape
    rows = (rows[..., None, None] + reach[:, None]).clamp(0, height - 1)
    columns = (columns[..., None, None] + reach).clamp(0, width - 1)
    return (images.labels[rows, columns] == objects[:, None, None, None]).any(-1).any(-1)
