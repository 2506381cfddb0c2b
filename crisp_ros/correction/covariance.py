"""How sure a pose is: the inverse of the information that depth points and coordinates give.

At the optimum of eq. (5) over the pose, the curvature of the squared signed distances, divided by
their variance, is the information of the depth points. A motion that the seen surface leaves free
(along a plane, about the axis of a can) has none; there the network's coordinates decide, as the
prior of the second-order solver, and with them how far they scatter.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from crisp_ros.correction.residuals import (
    evenly_chosen,
    geman_mcclure,
    masked_median,
    usable,
)
from crisp_ros.geometry.se3 import transform
from crisp_ros.network.decoder import ShapeDecoder

# Nobody knows less than this: the object is within arm's reach, turned anyhow.
_LARGEST_M = 1.0
_LARGEST_RAD = math.pi


@dataclass(frozen=True)
class CovarianceSettings:
    """Settings of `pose_covariance`.

    Attributes:
        points: depth points used, chosen evenly; the pose solver uses so many.
        independent_points: depth points at most that count as independent. Errors of a depth camera
            and of a decoded shape are alike in neighbouring points, and averaging over those does
            not make them smaller.
        least_error_m: least standard deviation of a signed distance, metres.
        least_coordinate_error_m: least standard deviation of the network's coordinates along an
            axis, metres. All of them together count as one: a network that is wrong about one pixel
            is wrong about its neighbours.
        robust_scale_m: of the robust loss on signed distances, metres.
    """

    points: int = 256
    independent_points: float = 32.0
    least_error_m: float = 0.0005
    least_coordinate_error_m: float = 0.005
    robust_scale_m: float = 0.01

    def __post_init__(self) -> None:
        if not (self.points >= 1 and all(v > 0 for v in vars(self).values())):
            raise ValueError(f"{self}: expected positive numbers")


@torch.no_grad()
def pose_covariance(
    decoder: ShapeDecoder,
    points: Tensor,
    pnc: Tensor,
    weights: Tensor,
    valid: Tensor,
    codes: Tensor,
    T_object_camera: Tensor,
    settings: CovarianceSettings | None = None,
) -> Tensor:
    """Covariances (B, 6, 6) float64 of the objects' poses T_camera_object, in the camera's frame.

    Order: x, y, z of the object frame's origin, then rotation about X, Y, Z through this origin;
    all along the fixed axes of the camera's frame, metres and radians (as in
    geometry_msgs/PoseWithCovariance). One more evaluation of the decoder.

    Args:
        decoder: f_d.
        points: (B, N, 3) depth points, camera frame, metres.
        pnc: (B, N, 3) the network's object coordinates of them, metres.
        weights: (B, N) of the coordinates, zero for outliers.
        valid: (B, N) bool, depth points that count.
        codes: (B, C) shape codes.
        T_object_camera: (B, 4, 4) the poses, at an optimum.
        settings: see `CovarianceSettings`.
    """
    settings = settings or CovarianceSettings()
    valid = usable(points, valid)
    weights = torch.where(usable(pnc, valid), weights, 0.0)
    if points.shape[1] > settings.points:
        chosen = evenly_chosen(valid, settings.points)
        rows = torch.arange(len(points), device=points.device)[:, None]
        points, pnc, weights, valid = (t[rows, chosen] for t in (points, pnc, weights, valid))
    T = T_object_camera.to(points.dtype)
    at = torch.where(valid[..., None], transform(T, points), 0.0)
    pnc = torch.where((weights > 0)[..., None], pnc, 0.0)
    sdf, gradient = decoder.sdf_and_gradient(at, codes)
    information = _of_depth(at.double(), sdf.double(), gradient.double(), valid, settings)
    information += _of_coordinates(at.double(), pnc.double(), weights.double(), settings)
    least = [_LARGEST_M**-2] * 3 + [_LARGEST_RAD**-2] * 3
    information += torch.diag(information.new_tensor(least))
    # So far for motions of the points in the object frame. The object in the camera's frame moves
    # by their inverse, whose sign the covariance does not see, turned into the camera's axes.
    rotation = T_object_camera[:, :3, :3].double().transpose(-1, -2)
    turn = torch.zeros_like(information)
    turn[:, :3, :3] = turn[:, 3:, 3:] = rotation
    covariance = turn @ torch.linalg.inv(information) @ turn.transpose(-1, -2)
    return (covariance + covariance.transpose(-1, -2)) / 2


def _of_depth(
    at: Tensor, sdf: Tensor, gradient: Tensor, valid: Tensor, settings: CovarianceSettings
) -> Tensor:
    """Information (B, 6, 6) of the signed distances about motions in the object frame."""
    scale = (2 * masked_median(sdf.abs(), valid)).clamp_min(settings.robust_scale_m)
    weight = geman_mcclure(sdf.square(), scale[:, None]).weight * valid
    total = weight.sum(-1)
    variance = (weight * sdf.square()).sum(-1) / total.clamp_min(1e-12)
    variance = variance.clamp_min(settings.least_error_m**2)
    independent = (settings.independent_points / total.clamp_min(1e-12)).clamp_max(1.0)
    jacobian = torch.cat((gradient, torch.linalg.cross(at, gradient)), dim=-1)
    curvature = (weight[..., None] * jacobian).transpose(-1, -2) @ jacobian
    return curvature * (independent / variance)[:, None, None]


def _of_coordinates(
    at: Tensor, pnc: Tensor, weights: Tensor, settings: CovarianceSettings
) -> Tensor:
    """Information (B, 6, 6) of the network's coordinates, which count as one of them all."""
    square = (at - pnc).square().sum(-1)
    reach = (2 * masked_median(square.sqrt(), weights > 0)).clamp_min(1e-3)
    trust = weights * geman_mcclure(square, reach[:, None]).weight
    known = trust.sum(-1) > 0
    trust = trust / trust.sum(-1, keepdim=True).clamp_min(1e-12)
    variance = (trust * square).sum(-1) / 3
    variance = variance.clamp_min(settings.least_coordinate_error_m**2)
    x, y, z = at.unbind(-1)
    zero = torch.zeros_like(x)
    # Columns of -[at]x: how a point moves when the object frame turns about its axes.
    turned = torch.stack((zero, z, -y, -z, zero, x, y, -x, zero), dim=-1).unflatten(-1, (3, 3))
    identity = torch.eye(3, dtype=at.dtype, device=at.device).expand_as(turned)
    jacobian = torch.cat((identity, turned), dim=-1)
    curvature = (trust[..., None, None] * jacobian.transpose(-1, -2) @ jacobian).sum(1)
    return curvature * (known / variance)[:, None, None]
