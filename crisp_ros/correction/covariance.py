"""Pose covariance: the inverse of the information in depth points and coordinates.

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

from crisp_ros.correction.correspondences import Correspondences, Shapes
from crisp_ros.correction.hypotheses import Hypotheses
from crisp_ros.correction.residuals import geman_mcclure, masked_median
from crisp_ros.correction.shape_field import ShapeField
from crisp_ros.geometry.cuda_graphs import run_captured
from crisp_ros.geometry.device_constants import constant
from crisp_ros.geometry.se3 import transform
from crisp_ros.geometry.spd_inverse import spd_inverse

# Least knowledge there is: the object is within arm's reach, in any orientation.
_LARGEST_M = 1.0
_LARGEST_RAD = math.pi
_LEAST_INFORMATION = (_LARGEST_M**-2,) * 3 + (_LARGEST_RAD**-2,) * 3


@dataclass(frozen=True)
class CovarianceSettings:
    """Settings of `pose_covariance`.

    Attributes:
        points: depth points used, evenly spaced; the pose solver uses as many.
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
    field: ShapeField, hypotheses: Hypotheses, settings: CovarianceSettings | None = None
) -> Tensor:
    """Covariances (B, 6, 6) float64 of the poses T_camera_object, in the camera's frame.

    Order: x, y, z of the object frame's origin, then rotation about X, Y, Z through this origin;
    all along the fixed axes of the camera's frame, metres and radians (as in
    geometry_msgs/PoseWithCovariance). One more evaluation of the field.

    Args:
        field: f_d.
        hypotheses: B of them, at an optimum of the pose.
        settings: see `CovarianceSettings`.
    """
    constants = field, settings or CovarianceSettings()
    observed, T, shapes = hypotheses[:3]
    return run_captured(_covariance, constants, observed, T, shapes)[0]


def _covariance(
    field: ShapeField,
    settings: CovarianceSettings,
    observed: Correspondences,
    T_object_camera: Tensor,
    shapes: Shapes,
) -> tuple[Tensor]:
    points, pnc, weights, valid = observed.sanitized().subsample(settings.points)
    at = torch.where(valid[..., None], transform(T_object_camera.to(points.dtype), points), 0.0)
    sdf, gradient = field.sdf_and_gradient(at, shapes)
    information = _of_depth(at.double(), sdf.double(), gradient.double(), valid, settings)
    information += _of_coordinates(at.double(), pnc.double(), weights.double(), settings)
    information += torch.diag(constant(_LEAST_INFORMATION, information))
    # So far this is for motions of the points in the object frame. The object in the camera's frame
    # moves by their inverse, expressed in the camera's axes; the covariance does not see the sign.
    rotation = T_object_camera[:, :3, :3].double().transpose(-1, -2)
    to_camera = torch.zeros_like(information)
    to_camera[:, :3, :3] = to_camera[:, 3:, 3:] = rotation
    covariance = to_camera @ spd_inverse(information) @ to_camera.transpose(-1, -2)
    return ((covariance + covariance.transpose(-1, -2)) / 2,)


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
    # Columns of -[at]x: how a point moves when the object frame rotates about its axes.
    lever = torch.stack((zero, z, -y, -z, zero, x, y, -x, zero), dim=-1).unflatten(-1, (3, 3))
    identity = torch.eye(3, dtype=at.dtype, device=at.device).expand_as(lever)
    jacobian = torch.cat((identity, lever), dim=-1)
    curvature = (trust[..., None, None] * jacobian.transpose(-1, -2) @ jacobian).sum(1)
    return curvature * (known / variance)[:, None, None]
