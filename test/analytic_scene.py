"""Rendered frames of analytic shapes, and a model with perfect predictions for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from analytic import AnalyticShape
from torch import Tensor, nn

from crisp_ros.correction.prepared_library import PreparedLibrary
from crisp_ros.correction.shape_field import DecoderField
from crisp_ros.geometry.se3 import transform
from crisp_ros.network.checkpoint import Model
from crisp_ros.network.decoder import CodeGradient, SignedDistance
from crisp_ros.network.library import ShapeLibrary
from crisp_ros.network.model import NetworkOutput
from crisp_ros.observation.frame import Camera, Frame

COLOUR_RANGE_M = 0.255  # object coordinates are encoded as colours, one millimetre per grey level
CAMERA = Camera(300.0, 300.0, 159.5, 119.5, 320, 240)


class AnalyticDecoder(nn.Module):
    """A `ShapeDecoder` of closed-form shapes; a code (K,) contains weights of the shapes."""

    def __init__(self, shapes: Sequence[AnalyticShape]) -> None:
        super().__init__()
        self.shapes = tuple(shapes)
        # Some of the distances, for the checksum by which kept tables tell decoders apart.
        probes = 0.1 * torch.randn(16, 3, generator=torch.Generator().manual_seed(0)).double()
        self.register_buffer("samples", torch.stack([shape.sdf(probes) for shape in shapes]))

    @property
    def code_dim(self) -> int:
        return len(self.shapes)

    def forward(self, points: Tensor, codes: Tensor) -> Tensor:
        distances = torch.stack([shape.sdf(points) for shape in self.shapes], dim=-1)
        return (distances * codes[..., None, :]).sum(-1)

    @torch.no_grad()
    def sdf(self, points: Tensor, codes: Tensor) -> Tensor:
        return self(points, codes)

    def sdf_and_gradient(self, points: Tensor, codes: Tensor) -> SignedDistance:
        batch = torch.broadcast_shapes(points.shape[:-2], codes.shape[:-1])
        x = points.detach().expand(*batch, *points.shape[-2:]).clone().requires_grad_(True)
        with torch.enable_grad():
            sdf = self(x, codes)
            (gradient,) = torch.autograd.grad(sdf.sum(), x)
        return SignedDistance(sdf.detach(), gradient)

    def sdf_and_code_gradient(
        self, points: Tensor, codes: Tensor, slope: Callable[[Tensor], Tensor]
    ) -> CodeGradient:
        with torch.enable_grad():
            c = codes.detach().requires_grad_(True)
            sdf = self(points, c)
            (gradient,) = torch.autograd.grad(sdf, c, slope(sdf.detach()))
        return CodeGradient(sdf.detach(), gradient)


class TruthfulNetwork(nn.Module):
    """A network that decodes the coordinates in images of `rendered` and predicts given shapes.

    `answers` are the library indices of consecutive crops; `spoil` may change an output.
    """

    crop_size = 96
    input_channels, sees_geometry = 3, False
    crop_rule, has_normalised_shapes = "square", False

    def __init__(self, shapes: Sequence[AnalyticShape], answers: Sequence[int]) -> None:
        super().__init__()
        self.decoder = AnalyticDecoder(shapes)
        self.answers = list(answers)
        self.spoil = lambda output: output
        self.batches: list[int] = []

    def forward(self, crops: Tensor) -> NetworkOutput:
        self.batches.append(len(crops))
        # Half the resolution of the crop, like real networks.
        maps = nn.functional.avg_pool2d((crops - 0.5) * COLOUR_RANGE_M, 2)
        named = [self.answers[i % len(self.answers)] for i in range(len(crops))]
        codes = torch.eye(self.decoder.code_dim, device=crops.device)[named]
        return self.spoil(NetworkOutput(maps, codes))


class Rendered(NamedTuple):
    """A frame and the true T_camera_object (4, 4) of each label."""

    frame: Frame
    poses: dict[int, np.ndarray]


def analytic_library(shapes: Sequence[AnalyticShape]) -> ShapeLibrary:
    """Return the library of shapes whose codes are unit vectors."""
    return ShapeLibrary(
        names=tuple(f"{i}-{shape.name}" for i, shape in enumerate(shapes)),
        codes=torch.eye(len(shapes)),
        lower=torch.tensor([shape.lower for shape in shapes]),
        upper=torch.tensor([shape.upper for shape in shapes]),
    )


def analytic_field(*shapes: AnalyticShape) -> DecoderField:
    """Return the field of shapes whose codes are unit vectors."""
    return DecoderField(AnalyticDecoder(shapes))


def analytic_prepared(*shapes: AnalyticShape) -> PreparedLibrary:
    """Return the library of shapes, prepared with their field."""
    return PreparedLibrary(analytic_field(*shapes), analytic_library(shapes))


def truthful_model(shapes: Sequence[AnalyticShape], answers: Sequence[int]) -> Model:
    """Return a model of the truthful network with the library of the shapes."""
    header = {"version": "test", "sha256": "0123456789abcdef"}
    return Model(TruthfulNetwork(shapes, answers), analytic_library(shapes), header)


def rendered(
    shapes: Sequence[AnalyticShape],
    T_camera_object: Sequence[np.ndarray],
    labels: Sequence[int],
    camera: Camera = CAMERA,
) -> Rendered:
    """Render shapes at poses by sphere tracing: exact depth, object coordinates as colours."""
    v, u = np.mgrid[: camera.height, : camera.width]
    rays = np.stack(((u - camera.cx) / camera.fx, (v - camera.cy) / camera.fy, np.ones_like(u)), -1)
    rays = torch.tensor(rays.reshape(-1, 3))
    length = rays.norm(dim=-1)
    nearest = torch.full((len(rays),), torch.inf, dtype=torch.float64)
    colours = torch.full((len(rays), 3), 0.5, dtype=torch.float64)
    seen = torch.zeros(len(rays), dtype=torch.int32)
    for shape, pose, label in zip(shapes, T_camera_object, labels, strict=True):
        T_object_camera = torch.tensor(np.linalg.inv(pose))
        reach = max(np.linalg.norm(shape.lower), np.linalg.norm(shape.upper)) + 0.01
        # Trace only rays that intersect the bounding sphere, from where they enter it.
        centre = torch.tensor(pose[:3, 3])
        along = (rays @ centre) / length
        miss = (centre.square().sum() - along.square()).clamp_min(0).sqrt()
        near = torch.nonzero(miss < reach)[:, 0]
        travelled = (along[near] - reach).clamp_min(0.0)
        for _ in range(80):
            point = rays[near] * (travelled / length[near])[:, None]
            distance = shape.sdf(transform(T_object_camera, point))
            travelled = travelled + distance.clamp(-0.05, 0.05)
        depth = travelled / length[near]
        hit = (distance.abs() < 1e-5) & (depth < nearest[near])
        index = near[hit]
        nearest[index] = depth[hit]
        z = transform(T_object_camera, rays[index] * depth[hit][:, None])
        colours[index] = z / COLOUR_RANGE_M + 0.5
        seen[index] = label
    size = (camera.height, camera.width)
    frame = Frame(
        rgb=(colours * 255).round().clamp(0, 255).byte().numpy().reshape(*size, 3),
        depth=torch.where(nearest.isfinite(), nearest, 0.0).float().numpy().reshape(size),
        labels=seen.numpy().reshape(size),
        camera=camera,
    )
    return Rendered(frame, dict(zip(labels, T_camera_object, strict=True)))
