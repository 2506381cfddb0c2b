"""Free space and silhouette: an estimated shape must not be where the camera has seen past it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from crisp_ros.correction.certificate import Condition, condition
from crisp_ros.correction.surface import SurfacePoints
from crisp_ros.geometry.cuda_graphs import run_captured
from crisp_ros.geometry.device_constants import constant
from crisp_ros.geometry.se3 import invert, transform
from crisp_ros.geometry.upload import upload
from crisp_ros.observation.frame import Camera, Frame


@dataclass(frozen=True)
class VisibilitySettings:
    """Settings of `visibility_conditions`.

    Attributes:
        depth_tolerance_m: how far the shape may protrude in front of the measured depth, metres.
        pixel_tolerance: how far it may extend beyond the object's mask, pixels.
        free_space_share: share of the surface points that may protrude in front of the depth.
        silhouette_share: share of the surface points that may project onto seen background.
    """

    depth_tolerance_m: float = 0.015
    pixel_tolerance: int = 4
    free_space_share: float = 0.08
    silhouette_share: float = 0.15


class Images(NamedTuple):
    """The camera images of a frame.

    Attributes:
        depth: (H, W) metres, zero where unknown.
        labels: (H, W) of the objects, zero for the background.
        camera: of the images.
    """

    depth: Tensor
    labels: Tensor
    camera: Camera


def images_of(frame: Frame, device: torch.device) -> Images:
    """A frame's images on a device."""
    depth, labels = (
        upload(torch.from_numpy(image), device) for image in (frame.depth, frame.labels)
    )
    return Images(depth, labels, frame.camera)


class ProjectedPoints(NamedTuple):
    """Surface points of B shapes in a camera's image.

    Attributes:
        points: (B, M, 3) camera frame, metres.
        front: (B, M) bool, valid points in front of the camera.
        u: (B, M) int64 column of the nearest pixel, which may be outside of the image.
        v: (B, M) int64 row.
    """

    points: Tensor
    front: Tensor
    u: Tensor
    v: Tensor


class Exposed(NamedTuple):
    """Points (B, M) of estimated shapes that contradict the camera images, all bool.

    Attributes:
        known: there is depth at their pixel.
        before: clearly nearer than all of that depth, where the camera has looked through.
        outside: off the object's mask and not hidden by what is seen there.
    """

    known: Tensor
    before: Tensor
    outside: Tensor


def project_surfaces(
    surfaces: SurfacePoints, T_object_camera: Tensor, camera: Camera
) -> ProjectedPoints:
    """Project surface points (B, M, 3), object frame, to the pixels of a camera."""
    x = transform(invert(T_object_camera).to(surfaces.points.dtype), surfaces.points)
    front = surfaces.valid & (x[..., 2] > 1e-3)
    z = torch.where(front, x[..., 2], 1.0)
    u, v = (
        torch.nan_to_num(focal * x[..., axis] / z + centre).round().clamp(-1e6, 1e6).long()
        for focal, centre, axis in ((camera.fx, camera.cx, 0), (camera.fy, camera.cy, 1))
    )
    return ProjectedPoints(x, front, u, v)


def pixel_rays(u: Tensor, v: Tensor, camera: Camera) -> Tensor:
    """Points (..., 3) at depth 1 of pixels with columns u (...) and rows v (...), camera frame."""
    x, y = (u - camera.cx) / camera.fx, (v - camera.cy) / camera.fy
    return torch.stack([x, y, torch.ones_like(u)], dim=-1)


@torch.no_grad()
def visibility_conditions(
    surfaces: SurfacePoints,
    T_object_camera: Tensor,
    objects: Tensor,
    images: Images,
    settings: VisibilitySettings | None = None,
) -> tuple[Condition, Condition]:
    """The free-space and the silhouette condition of estimated shapes in their depth image.

    Args:
        surfaces: points (B, M, 3) on the estimated shapes, object frame, metres.
        T_object_camera: (B, 4, 4).
        objects: (B,) the objects' labels in the label image.
        images: that they were seen in.
        settings: see `VisibilitySettings`.
    """
    settings = settings or VisibilitySettings()
    seen = exposed(surfaces, T_object_camera, objects, images, settings)
    total = seen.known.sum(-1).clamp_min(1)
    protruding = seen.before.sum(-1) / total
    on_background = seen.outside.sum(-1) / total
    return (
        condition(
            "free space",
            protruding <= settings.free_space_share,
            protruding,
            lambda value: f"{100 * value:.0f} % of the shape lies in space seen to be empty",
        ),
        condition(
            "silhouette",
            on_background <= settings.silhouette_share,
            on_background,
            lambda value: f"{100 * value:.0f} % of the shape projects onto seen background",
        ),
    )


@torch.no_grad()
def exposed(
    surfaces: SurfacePoints,
    T_object_camera: Tensor,
    objects: Tensor,
    images: Images,
    settings: VisibilitySettings,
) -> Exposed:
    """Find surface points that contradict the camera images.

    Free space: a surface point clearly nearer than everything measured around its pixel is where
    the camera has looked through. Silhouette: a surface point outside the object's mask must be
    hidden behind something; where what is seen there is as far as the point or farther, the shape
    reaches into the background. Pixels without depth prove nothing and are left out.

    Args: as those of `visibility_conditions`.
    """
    depth, labels, camera = images
    constants, rows = (settings, camera), (surfaces, T_object_camera, objects)
    return run_captured(_exposed, constants, *rows, shared=(depth, labels))


def _exposed(
    settings: VisibilitySettings,
    camera: Camera,
    depth: Tensor,
    labels: Tensor,
    *rows: tuple | Tensor,
) -> Exposed:
    surfaces, T_object_camera, objects = rows
    x, front, u, v = project_surfaces(surfaces, T_object_camera, camera)
    z = x[..., 2]
    reach = constant((-settings.pixel_tolerance, 0, settings.pixel_tolerance), u)
    du, dv = (grid.reshape(-1) for grid in torch.meshgrid(reach, reach, indexing="ij"))
    columns, rows = u[..., None] + du, v[..., None] + dv
    height, width = depth.shape
    inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
    rows, columns = rows.clamp(0, height - 1), columns.clamp(0, width - 1)
    measured = depth[rows, columns]
    seen = inside & (measured > 0)
    nearest = torch.where(seen, measured, torch.inf).amin(-1)
    own = (inside & (labels[rows, columns] == objects[:, None, None])).any(-1)
    # Around a pixel without depth, others may show what is behind the object.
    known = front & seen[..., seen.shape[-1] // 2]
    return Exposed(
        known,
        known & (nearest > z + settings.depth_tolerance_m),
        known & ~own & (nearest > z - settings.depth_tolerance_m),
    )
