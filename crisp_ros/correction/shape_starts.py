"""Starts of a search for pose and shape: examples that stand on the support, where points are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from crisp_ros.correction.batch import batch_of, take_rows
from crisp_ros.correction.correspondences import ObjectPoints
from crisp_ros.correction.empty_space import EmptyPoints
from crisp_ros.correction.latent_field import LatentField
from crisp_ros.correction.residuals import geman_mcclure, weighted_mean
from crisp_ros.correction.shape_mixture import ShapeMixture
from crisp_ros.geometry.se3 import from_rotation_translation, transform

_RESTING = (  # rotations that put z up, down, and to four sides
    ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    ((1, 0, 0), (0, -1, 0), (0, 0, -1)),
    ((1, 0, 0), (0, 0, -1), (0, 1, 0)),
    ((1, 0, 0), (0, 0, 1), (0, -1, 0)),
    ((0, 0, 1), (0, 1, 0), (-1, 0, 0)),
    ((0, 0, -1), (0, 1, 0), (1, 0, 0)),
)
_EDGE_SHARE = 0.02  # of the points, that may be outside the box of those seen
_FULL_DEPTH = 1.5  # inverse cosine to the view from which on an axis counts as along it
_UNSEEN_SHARE = 0.8  # of what a box has more than was seen along the view, that is no error


class Support(NamedTuple):
    """Planes on which B objects rest, camera frame: points above have normal x + offset > 0.

    Attributes:
        normal: (B, 3) unit; where no plane is known, the direction taken for up.
        offset: (B,) metres.
        known: (B,) bool.
    """

    normal: Tensor
    offset: Tensor
    known: Tensor


@dataclass(frozen=True)
class StartSettings:
    """Settings of the starts.

    Attributes:
        rotations: about the support's normal that are tried.
        compared: examples in place whose surfaces are compared with the points: those whose boxes
            fit best.
        compared_of_kind: of one kind.
        points: depth points that are compared, and as many in empty space.
        kept: starts.
        kept_of_kind: of one kind.
        robust_scale_m: of the distances, metres.
        empty_weight: of the mean squared depth of empty points inside the shape, against the mean
            squared distance of the depth points.
    """

    rotations: int = 8
    compared: int = 384
    compared_of_kind: int = 32
    points: int = 64
    kept: int = 24
    kept_of_kind: int = 3
    robust_scale_m: float = 0.015
    empty_weight: float = 2.0


class Starts(NamedTuple):
    """Examples in place.

    Attributes:
        T_object_camera: (H, 4, 4).
        examples: (H,) their numbers.
    """

    T_object_camera: Tensor
    examples: Tensor


def starts_of(
    field: LatentField,
    seen: ObjectPoints,
    empty: EmptyPoints,
    support: Support,
    mixture: ShapeMixture,
    settings: StartSettings,
) -> Starts:
    """Examples in place that depth points and empty space contradict least.

    An example whose box is not known is taken in all its ways to rest.

    Args:
        field: f.
        seen: depth points (N, 3) of one object, camera frame.
        empty: points (M, 3) where the camera saw that nothing is.
        support: of the object, without a batch dimension.
        mixture: with the examples.
        settings: see `StartSettings`.
    """
    if not mixture.has_examples:
        poses = starting_poses(seen, support, settings.rotations // 2)
        return Starts(poses, torch.zeros(len(poses), dtype=torch.long, device=poses.device))
    starts = boxed_starts(seen, support, mixture, settings)
    few = [batch_of(part).subsample(settings.points) for part in (seen, empty)]
    points = torch.cat([part.points for part in few], dim=1)
    placed = transform(starts.T_object_camera, points)
    sdf = field.sdf(placed, mixture.latents[starts.examples])
    on_surface, in_empty = sdf.split([part.points.shape[1] for part in few], dim=1)
    seen_weights, empty_weights = (part.weights.expand(len(sdf), -1) for part in few)
    scale = torch.full_like(sdf[:, :1], settings.robust_scale_m)
    cost = weighted_mean(geman_mcclure(on_surface.square(), scale).cost, seen_weights)
    blocked = weighted_mean(few[1].depth_inside(in_empty).square(), empty_weights)
    cost = cost + settings.empty_weight * blocked
    kinds = mixture.kinds[starts.examples]
    return take_rows(starts, _best_of_kinds(cost, kinds, settings.kept, settings.kept_of_kind))


def boxed_starts(
    seen: ObjectPoints, support: Support, mixture: ShapeMixture, settings: StartSettings
) -> Starts:
    """Examples in place whose boxes agree best with the box of the depth points.

    An example stands on the support, or has its top where it was seen; its near side is at the
    depth points, and where it is larger than what was seen it goes on away from the camera.

    Args: as those of `starts_of`.
    """
    points = seen.points[seen.valid]
    axes = _view_axes(points, support.normal)
    about_up = _rotations_about_up(settings.rotations, points)
    local = (points @ axes.T) @ about_up.transpose(1, 2)  # (Y, N, 3)
    edges = torch.tensor([_EDGE_SHARE, 1.0 - _EDGE_SHARE]).to(local)
    low, high = local.quantile(edges, dim=1)
    bottom = torch.where(support.known, -support.offset, low[:, 2])
    low = torch.cat([low[:, :2], torch.minimum(bottom, high[:, 2])[:, None]], dim=1)
    resting = torch.tensor(_RESTING).to(local)
    centre = 0.5 * (mixture.lower + mixture.upper) @ resting  # (6, K, 3)
    size = (mixture.upper - mixture.lower) @ resting.abs()

    excess = size - (high - low)[:, None, None]  # (Y, 6, K, 3)
    # 1 where an axis points away from the camera, -1 towards it, 0 across.
    away = (_FULL_DEPTH * about_up[:, :2, 1]).clamp(-1.0, 1.0)[:, None, None]
    unseen = excess[..., :2].clamp_min(0.0)
    upright = torch.where(support.known, excess[..., 2:], -excess[..., 2:])
    shift = 0.5 * torch.cat([unseen * away, upright], dim=-1)
    middle = 0.5 * (low + high)[:, None, None] + shift
    wrong = excess.abs().sum(-1) - _UNSEEN_SHARE * (unseen * away.abs()).sum(-1)

    kinds = mixture.kinds.expand_as(wrong).flatten()
    best = _best_of_kinds(wrong.flatten(), kinds, settings.compared, settings.compared_of_kind)
    yaw, side, example = torch.unravel_index(best, wrong.shape)
    offset = centre[side, example] - middle[yaw, side, example]
    rotation = resting[side] @ about_up[yaw] @ axes
    shift = (resting[side] @ offset[..., None]).squeeze(-1)
    return Starts(from_rotation_translation(rotation, shift), example)


def starting_poses(seen: ObjectPoints, support: Support, rotations: int) -> Tensor:
    """Poses (H, 4, 4), T_object_camera, of an object whose shape is not known.

    The middle of its box is that of the points seen across the view and between top and support;
    away from the camera it is as far behind the front as the object is wide, at the least.

    Args:
        seen: points (N, 3) of one object, camera frame.
        support: of the object, without a batch dimension.
        rotations: about the normal.
    """
    points = seen.points[seen.valid]
    axes = _view_axes(points, support.normal)
    local = points @ axes.T
    edges = torch.tensor([_EDGE_SHARE, 1.0 - _EDGE_SHARE]).to(local)
    low, high = local.quantile(edges, dim=0)
    bottom = torch.where(support.known, -support.offset, low[2])
    middle = 0.5 * (low + high)
    middle[2] = 0.5 * (torch.minimum(bottom, high[2]) + high[2])
    middle[1] += 0.5 * (high[0] - low[0] - high[1] + low[1]).clamp_min(0.0)
    resting = torch.tensor(_RESTING).to(local)
    about_up = _rotations_about_up(rotations, local)
    rotation = (resting[:, None] @ about_up).flatten(0, 1)
    shift = -(rotation @ middle[:, None]).squeeze(-1)
    return from_rotation_translation(rotation @ axes, shift)


def _view_axes(points: Tensor, up: Tensor) -> Tensor:
    """The axes (3, 3) across the view, away from the camera and up, of points (N, 3)."""
    view = torch.nn.functional.normalize(points.mean(0), dim=0)
    across = torch.linalg.cross(view, up)
    if across.norm() < 1e-3:  # seen from above
        across = torch.linalg.cross(least_aligned_axis(up), up)
    across = torch.nn.functional.normalize(across, dim=0)
    return torch.stack([across, torch.linalg.cross(up, across), up])


def least_aligned_axis(directions: Tensor) -> Tensor:
    """The coordinate axes (..., 3) that are farthest from along directions (..., 3)."""
    return torch.eye(3).to(directions)[directions.abs().argmin(-1)]


def _rotations_about_up(count: int, like: Tensor) -> Tensor:
    """Evenly spaced rotations (count, 3, 3) about z."""
    angles = torch.arange(count).to(like) * (2.0 * torch.pi / count)
    cosine, sine, zero = angles.cos(), angles.sin(), torch.zeros_like(angles)
    rows = [cosine, -sine, zero, sine, cosine, zero, zero, zero, zero + 1]
    return torch.stack(rows, dim=-1).view(-1, 3, 3)


def _best_of_kinds(cost: Tensor, kinds: Tensor, count: int, of_kind: int) -> Tensor:
    """Indices of the lowest costs (H,), the best first, with at most so many of a kind."""
    order = cost.argsort()
    ordered = kinds[order]
    places = torch.nn.functional.one_hot(ordered).cumsum(0).gather(1, ordered[:, None])
    return order[places.squeeze(1) <= of_kind][:count]
