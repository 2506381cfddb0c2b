"""Simulated output of a depth camera and a network for analytic shapes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import roma
import torch
from analytic import AnalyticShape
from scipy.spatial import cKDTree
from torch import Tensor

from crisp_ros.correction.correspondences import Correspondences, ObjectPoints, Shapes
from crisp_ros.correction.hypotheses import Hypotheses
from crisp_ros.geometry.registration import Registration, register
from crisp_ros.geometry.se3 import from_rotation_translation, invert, transform


class Observed(NamedTuple):
    """Observations of a batch of objects, with ground truth.

    Attributes:
        points: (B, N, 3) camera frame, metres.
        pnc: (B, N, 3) predicted object coordinates, metres.
        valid: (B, N) bool.
        T_object_camera: (B, 4, 4) true poses, float64.
    """

    points: Tensor
    pnc: Tensor
    valid: Tensor
    T_object_camera: Tensor

    def register(self) -> Registration:
        """Register the points to the coordinates."""
        return register(self.points, self.pnc, self.valid)

    def correspondences(self, weights: Tensor | float | None = None) -> Correspondences:
        """Return the input of the solvers.

        Args:
            weights: of the coordinates, (B, N) or one for all; None for one where they are
                inliers of the registration and zero elsewhere.
        """
        if weights is None:
            weights = self.register().inliers
        weights = torch.as_tensor(weights).to(self.points.dtype).expand(self.valid.shape)
        return Correspondences(self.points, self.pnc, weights, self.valid)

    def object_points(self) -> ObjectPoints:
        """Return the points in the object frames, at the true poses."""
        T = self.T_object_camera.to(self.points.dtype)
        return ObjectPoints.of(transform(T, self.points), self.valid)

    def hypotheses(self, shapes: Shapes) -> Hypotheses:
        """Return hypotheses of these shapes at the true poses, with labels from 1 to B."""
        T = self.T_object_camera.to(self.points.dtype)
        labels, share = torch.arange(1, len(T) + 1), torch.ones(len(T))
        return Hypotheses(self.correspondences(1.0), T, shapes, labels, T, share)


@dataclass(frozen=True)
class Noise:
    """Errors of an observation; metres, radians, shares.

    The predicted coordinates are rotated about their mean by `rotation`, moved along the viewing
    ray by `along_ray` and scaled by `shrink`, before noise and outliers.
    """

    depth: float = 0.0
    depth_outliers: float = 0.0
    pnc: float = 0.0
    pnc_outliers: float = 0.0
    shrink: float = 1.0
    rotation: float = 0.0
    along_ray: float = 0.0


def observe(
    shapes: Sequence[AnalyticShape],
    noise: Noise,
    seed: int,
    count: int = 400,
    views: Sequence[Sequence[float]] | None = None,
) -> Observed:
    """Simulate one view of each shape from about 0.8 m, from a random side or from `views`."""
    g = torch.Generator().manual_seed(seed)
    rows = []
    for b, shape in enumerate(shapes):
        view = list(views[b]) if views is not None else torch.randn(3, generator=g).tolist()
        z = shape.surface(count, g, visible_from=view)
        T_object_camera = _facing(view, g)
        x = transform(invert(T_object_camera), z)
        ray = torch.nn.functional.normalize(x, dim=-1)
        x = x + noise.depth * torch.randn(count, 1, generator=g).double() * ray
        off = torch.rand(count, 1, generator=g) < noise.depth_outliers
        x = x + off * (0.03 + 0.3 * torch.rand(count, 1, generator=g).double()) * ray
        rows.append((x, _predicted(z, T_object_camera, noise, g), T_object_camera))
    points, pnc, T = (torch.stack(parts) for parts in zip(*rows, strict=True))
    return Observed(points.float(), pnc.float(), torch.ones(points.shape[:2]).bool(), T)


def _predicted(z: Tensor, T_object_camera: Tensor, noise: Noise, g: torch.Generator) -> Tensor:
    count = len(z)
    axis = torch.nn.functional.normalize(torch.randn(3, generator=g).double(), dim=0)
    rotation = roma.rotvec_to_rotmat(noise.rotation * axis)
    ray = T_object_camera[:3, 2]
    middle = z.mean(0)
    pnc = noise.shrink * ((z - middle) @ rotation.T + middle) + noise.along_ray * ray
    pnc = pnc + noise.pnc * torch.randn(count, 3, generator=g).double()
    off = torch.rand(count, 1, generator=g) < noise.pnc_outliers
    return torch.where(off, 0.2 * torch.rand(count, 3, generator=g).double() - 0.1, pnc)


def _facing(view: Sequence[float], g: torch.Generator) -> Tensor:
    """Return a pose (4, 4) of an object whose side `view` faces the camera."""
    towards = torch.nn.functional.normalize(torch.tensor(view).double(), dim=0)
    x = torch.linalg.cross(towards, torch.randn(3, generator=g).double())
    x = x / x.norm()
    rotation = torch.stack((x, torch.linalg.cross(-towards, x), -towards))
    shift = torch.rand(3, generator=g).double() * torch.tensor([0.4, 0.3, 0.4]).double()
    return invert(from_rotation_translation(rotation, shift + torch.tensor([-0.2, -0.15, 0.6])))


def with_junk(correspondences: Correspondences) -> Correspondences:
    """Append 30 points that are valid but not finite, and 20 far-off ones that are not valid."""
    points, pnc, weights, valid = correspondences
    batch = len(points)
    junk, far = torch.full((batch, 30, 3), torch.nan), torch.full((batch, 20, 3), 50.0)
    yes, no = torch.ones(batch, 30).bool(), torch.zeros(batch, 20).bool()
    return Correspondences(
        torch.cat((points, junk, far), 1),
        torch.cat((pnc, junk, far), 1),
        torch.cat((weights, torch.ones(batch, 50)), 1),
        torch.cat((valid, yes, no), 1),
    )


def add_s(T: Tensor, truth: Tensor, shapes: Sequence[AnalyticShape]) -> np.ndarray:
    """Return the ADD-S (B,), metres, of poses (B, 4, 4), for 2000 surface points."""
    errors = []
    for pose, true, shape in zip(T.double(), truth, shapes, strict=True):
        model = shape.surface(2000, torch.Generator().manual_seed(9))
        estimated = transform(invert(pose), model).numpy()
        distances, _ = cKDTree(estimated).query(transform(invert(true), model).numpy())
        errors.append(distances.mean())
    return np.array(errors)
