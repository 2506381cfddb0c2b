"""Pose from point correspondences: closed form (Arun) and robust, batched over objects."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from crisp_ros.geometry.cuda_graphs import run_captured
from crisp_ros.geometry.procrustes import nearest_rotation
from crisp_ros.geometry.se3 import from_rotation_translation

_TUKEY_SPREADS = 5.0  # Tukey's cut-off in median residuals: nearly flat over a Gaussian's bulk
_REACH_SPREADS = 3.0  # residuals within this many medians count as those of inliers ...
_MAX_REACH = 2.0  # ... up to this many thresholds; otherwise outliers would widen the reach


class Alignment(NamedTuple):
    """The rigid motion z = R s + t of `align`.

    Attributes:
        rotation: (B, 3, 3).
        translation: (B, 3) metres.
    """

    rotation: Tensor
    translation: Tensor


class Registration(NamedTuple):
    """Robust poses of a batch of objects.

    Attributes:
        T_object_camera: (B, 4, 4), always finite.
        inliers: (B, N) bool, points within the threshold.
        inlier_share: (B,) inliers among the valid points.
        converged: (B,) bool, false where there are too few valid points or inliers for a pose.
    """

    T_object_camera: Tensor
    inliers: Tensor
    inlier_share: Tensor
    converged: Tensor


@dataclass(frozen=True)
class RegistrationSettings:
    """Settings of `register`.

    Attributes:
        threshold: inlier distance as a share of the object's robust diameter.
        min_threshold_m: lower limit of the inlier distance, metres.
        triples: minimal samples drawn per object; those with the best agreement of edge lengths are
            kept.
        hypotheses: samples kept and scored per object.
        scored_points: random points on which hypotheses are scored.
        starts: number of best hypotheses that are refined on all points.
        refits: reweighted least-squares refits of each start.
        min_points: valid points needed for a pose.
        min_inlier_share: inliers needed among the valid points.
        seed: of the sampling, if no generator is given.
    """

    threshold: float = 0.1
    min_threshold_m: float = 0.003
    triples: int = 1024
    hypotheses: int = 128
    scored_points: int = 256
    starts: int = 2
    refits: int = 5
    min_points: int = 10
    min_inlier_share: float = 0.15
    seed: int = 0

    def __post_init__(self) -> None:
        if self.threshold <= 0 or self.min_threshold_m < 0:
            raise ValueError(
                f"threshold {self.threshold}, min_threshold_m {self.min_threshold_m}: "
                "expected threshold > 0 and min_threshold_m >= 0"
            )
        counts = (self.triples, self.hypotheses, self.scored_points, self.starts, self.refits)
        if min(counts) < 1 or self.min_points < 3:
            raise ValueError(
                f"triples, hypotheses, scored_points, starts, refits are {counts} and min_points "
                f"{self.min_points}: expected at least 1 each and 3 points"
            )
        if not 0 <= self.min_inlier_share <= 1:
            raise ValueError(f"min_inlier_share is {self.min_inlier_share}, expected [0, 1]")


def align(source: Tensor, target: Tensor, weights: Tensor) -> Alignment:
    """Find the rigid motion that minimises sum_i w_i ||R s_i + t - z_i||^2 (Arun's method).

    Differentiable in all arguments: the derivative of the rotation divides by sums of singular
    values, never by their differences, and is damped where the rotation is not unique. Points of
    zero weight may hold anything, NaN included. Without any weight the result is the identity.

    Args:
        source: (B, N, 3) metres.
        target: (B, N, 3) metres.
        weights: (B, N), non-negative.
    """
    used = (weights > 0)[..., None]
    source = torch.where(used, source, torch.zeros_like(source))
    target = torch.where(used, target, torch.zeros_like(target))
    return _aligned(source, target, weights)


def _aligned(source: Tensor, target: Tensor, weights: Tensor) -> Alignment:
    """`align`, all of whose points are finite."""
    total = weights.sum(-1, keepdim=True)
    share = (weights / total.clamp_min(torch.finfo(weights.dtype).tiny))[:, None]
    # Products of matrices: on a CPU a sum along the points takes ten times as long.
    source_mean, target_mean = share @ source, share @ target
    weighted = share.mT * (target - target_mean)
    covariance = weighted.mT @ (source - source_mean)
    # The rotation does not depend on the covariance's scale, but the damping of its gradient does.
    scale = covariance.detach().flatten(-2).norm(dim=-1)[..., None, None]
    rotation = nearest_rotation(covariance / torch.where(scale > 0, scale, 1.0))
    translation = (target_mean - source_mean @ rotation.transpose(-1, -2)).squeeze(-2)
    return Alignment(rotation, translation)


@torch.no_grad()
def register(
    points_camera: Tensor,
    pnc: Tensor,
    valid: Tensor,
    settings: RegistrationSettings | None = None,
    generator: torch.Generator | None = None,
) -> Registration:
    """Estimate robust poses from depth points and their predicted object coordinates.

    Three-point samples of all objects are drawn at once, filtered by the agreement of their edge
    lengths, and scored by a truncated quadratic. The best hypotheses and the plain least-squares
    pose are refined by reweighted least squares, with a scale that shrinks from the inlier
    threshold to the spread of the residuals. The result depends on the inputs and the seed alone.

    Args:
        points_camera: (B, N, 3) metres, camera frame.
        pnc: (B, N, 3) metres, object frame.
        valid: (B, N) bool; points that are not valid, or not finite, are ignored.
        settings: see `RegistrationSettings`.
        generator: of the sampling; on the points' device, or on the CPU.
    """
    settings = settings or RegistrationSettings()
    size = (*valid.shape, settings.triples)
    if generator is None:
        draws = _draws_of_seed(settings.seed, size, points_camera.device)
    else:
        draws = _draws(generator, size, points_camera.device)
    return run_captured(_registration, (settings,), points_camera, pnc, valid, draws)


def _registration(
    settings: RegistrationSettings,
    points_camera: Tensor,
    pnc: Tensor,
    valid: Tensor,
    draws: _Draws,
) -> Registration:
    valid = valid & torch.isfinite(points_camera).all(-1) & torch.isfinite(pnc).all(-1)
    source = torch.where(valid[..., None], points_camera, 0.0)
    target = torch.where(valid[..., None], pnc, 0.0)
    # Centring on the camera side keeps float32 exact to micrometres at any distance.
    centre = _masked_median(source, valid)
    source = torch.where(valid[..., None], source - centre[:, None], 0.0)
    threshold = settings.threshold * torch.minimum(
        _robust_diameter(source, valid), _robust_diameter(target, valid)
    )
    threshold = threshold.clamp_min(settings.min_threshold_m)

    # Points in random order, all valid points before the others.
    order = (draws.keys + (~valid).float()).argsort(dim=-1)
    problem = _Problem(source, target, valid, order, threshold)
    rotation, translation = _hypotheses(problem, settings, draws.triples)
    rotation, translation = _refine_starts(rotation, translation, problem, settings)
    distances = _distances(rotation[:, None], translation[:, None], source, target)[:, 0]
    inliers = valid & (distances < threshold[:, None])
    n_valid = valid.sum(-1)
    share = inliers.sum(-1) / n_valid.clamp_min(1)
    converged = (
        (n_valid >= settings.min_points)
        & (inliers.sum(-1) >= 3)
        & (share >= settings.min_inlier_share)
    )
    translation = translation - (rotation @ centre[..., None]).squeeze(-1)
    T_object_camera = from_rotation_translation(rotation, translation)
    return Registration(T_object_camera, inliers, share, converged)


class _Problem(NamedTuple):
    """Correspondences of B objects, with the centred camera points as the source."""

    source: Tensor  # (B, N, 3)
    target: Tensor  # (B, N, 3)
    valid: Tensor  # (B, N)
    order: Tensor  # (B, N) indices in random order, valid points first
    threshold: Tensor  # (B,) inlier distance, metres


def _masked_median(points: Tensor, valid: Tensor) -> Tensor:
    """Coordinate-wise (lower) median (B, 3) of the valid points; zero where there are none."""
    ordered = torch.where(valid[..., None], points, torch.inf).sort(dim=-2).values
    middle = ((valid.sum(-1) - 1).clamp_min(0) // 2)[:, None, None].expand(-1, 1, 3)
    median = ordered.gather(-2, middle).squeeze(-2)
    return torch.where(valid.any(-1, keepdim=True), median, 0.0)


def _masked_quantile(values: Tensor, valid: Tensor, q: float) -> Tensor:
    """The q-quantile (B,) of the valid values (B, N), zero where there are none."""
    ordered = torch.where(valid, values, torch.inf).sort(dim=-1).values
    rank = ((valid.sum(-1, keepdim=True) - 1).clamp_min(0) * q).round().long()
    quantile = ordered.gather(-1, rank).squeeze(-1)
    return torch.where(valid.any(-1), quantile, 0.0)


def _robust_diameter(points: Tensor, valid: Tensor) -> Tensor:
    """Twice a quantile (B,) of the distances from the median, robust against a few outliers."""
    radii = (points - _masked_median(points, valid)[:, None]).norm(dim=-1)
    return 2 * _masked_quantile(radii, valid, 0.8)


class _Draws(NamedTuple):
    """Uniform random numbers in [0, 1)."""

    keys: Tensor  # (B, N) that shuffle the points
    triples: Tensor  # (B, triples, 3) that choose the samples


def _draws(generator: torch.Generator, size: tuple[int, int, int], device: torch.device) -> _Draws:
    batch, points, triples = size
    shapes = (batch, points), (batch, triples, 3)
    drawn = (torch.rand(shape, generator=generator, device=generator.device) for shape in shapes)
    return _Draws(*(part.to(device) for part in drawn))


@lru_cache(maxsize=16)
def _draws_of_seed(seed: int, size: tuple[int, int, int], device: torch.device) -> _Draws:
    """The same in every frame: a GPU gets them once."""
    return _draws(torch.Generator().manual_seed(seed), size, device)


def _hypotheses(
    problem: _Problem, settings: RegistrationSettings, draws: Tensor
) -> tuple[Tensor, Tensor]:
    """Rotations (B, H, 3, 3) and translations (B, H, 3) of the most consistent samples."""
    source, target, valid, order, threshold = problem
    batch = len(source)
    count = valid.sum(-1).clamp_min(3)[:, None]
    # Three distinct ranks: draw from one fewer each time, then skip the ranks already drawn.
    first = (draws[..., 0] * count).long().minimum(count - 1)
    second = (draws[..., 1] * (count - 1)).long().minimum(count - 2)
    second = second + (second >= first)
    third = (draws[..., 2] * (count - 2)).long().minimum(count - 3)
    third = third + (third >= torch.minimum(first, second))
    third = third + (third >= torch.maximum(first, second))
    ranks = torch.stack((first, second, third), dim=-1).clamp_max(source.shape[1] - 1)
    chosen = order.gather(1, ranks.flatten(1)).unflatten(1, ranks.shape[1:])
    rows = torch.arange(batch, device=source.device)[:, None, None]
    s, z = source[rows, chosen], target[rows, chosen]

    quality = _consistency(s, z, threshold)
    best = quality.topk(min(settings.hypotheses, settings.triples), dim=-1, largest=False).indices
    s, z = s[rows[..., 0], best], z[rows[..., 0], best]
    rotation = _triad(z) @ _triad(s).transpose(-1, -2)
    translation = z.mean(-2) - (rotation @ s.mean(-2)[..., None]).squeeze(-1)
    return rotation, translation


def _consistency(s: Tensor, z: Tensor, threshold: Tensor) -> Tensor:
    """Disagreement (B, M) of the edges of triangles (B, M, 3, 3) for their size; low is good.

    A common factor between the two sides is allowed: networks shrink their coordinates.
    """
    s_edges = (s - s.roll(1, dims=-2)).norm(dim=-1)
    z_edges = (z - z.roll(1, dims=-2)).norm(dim=-1)
    factor = z_edges.sum(-1) / s_edges.sum(-1).clamp_min(1e-9)
    factor = factor.clamp(0.7, 1.1)[..., None]
    disagreement = (z_edges - factor * s_edges).abs().amax(-1)
    area = torch.linalg.cross(s[..., 1, :] - s[..., 0, :], s[..., 2, :] - s[..., 0, :]).norm(dim=-1)
    height = area / s_edges.amax(-1).clamp_min(1e-9)
    return (disagreement + 0.1 * threshold[:, None]) / height.clamp_min(1e-9)


def _triad(triangle: Tensor) -> Tensor:
    """The right-handed frame (..., 3, 3), in columns, of a triangle (..., 3, 3) of row points."""
    a = triangle[..., 1, :] - triangle[..., 0, :]
    b = triangle[..., 2, :] - triangle[..., 0, :]
    x = torch.nn.functional.normalize(a, dim=-1, eps=1e-12)
    z = torch.nn.functional.normalize(torch.linalg.cross(a, b), dim=-1, eps=1e-12)
    return torch.stack((x, torch.linalg.cross(z, x), z), dim=-1)


def _distances(rotation: Tensor, translation: Tensor, source: Tensor, target: Tensor) -> Tensor:
    """||R s + t - z|| as (B, H, N) for rotations (B, H, 3, 3) and points (B, N, 3)."""
    moved = rotation.flatten(1, 2) @ source.transpose(-1, -2)
    moved = moved.unflatten(1, rotation.shape[1:3]) + translation[..., None]
    return (moved - target.transpose(-1, -2)[:, None]).square().sum(-2).sqrt()


def _truncated(distances: Tensor, valid: Tensor, threshold: Tensor) -> Tensor:
    """The score (B, H), low is good: the mean over valid points of min(d / threshold, 1)^2."""
    loss = (distances / threshold[:, None, None]).clamp_max(1.0).square()
    return (loss * valid[:, None]).sum(-1) / valid.sum(-1).clamp_min(1)[:, None]


def _refine_starts(
    rotation: Tensor, translation: Tensor, problem: _Problem, settings: RegistrationSettings
) -> tuple[Tensor, Tensor]:
    """Refine the best hypotheses on all points, and return the best pose (B, 3, 3), (B, 3)."""
    source, target, valid, order, threshold = problem
    batch = len(valid)
    rows = torch.arange(batch, device=source.device)[:, None]
    scored = order[:, : settings.scored_points]
    distances = _distances(rotation, translation, source[rows, scored], target[rows, scored])
    scores = _truncated(distances, valid[rows, scored], threshold)
    best = scores.topk(min(settings.starts, scores.shape[1]), dim=-1, largest=False).indices
    plain = _aligned(source, target, valid.to(source.dtype))
    rotation = torch.cat((rotation[rows, best], plain.rotation[:, None]), dim=1)
    translation = torch.cat((translation[rows, best], plain.translation[:, None]), dim=1)

    starts = rotation.shape[1]
    repeated_source = source[:, None].expand(-1, starts, -1, -1).flatten(0, 1)
    repeated_target = target[:, None].expand(-1, starts, -1, -1).flatten(0, 1)
    scale = threshold[:, None].expand(-1, starts)
    reach = scale
    for step in range(settings.refits + 1):
        distances = _distances(rotation, translation, source, target)
        if step == settings.refits:
            break
        # The spread of the residuals is measured within a reach that grows with it: a network's
        # errors are smooth and wide, and trimming their tails would bias the pose.
        near = valid[:, None] & (distances < reach[..., None])
        spread = torch.where(near, distances, torch.nan).nanmedian(dim=-1).values.nan_to_num(0.0)
        reach = torch.maximum(
            threshold[:, None], (_REACH_SPREADS * spread).minimum(_MAX_REACH * threshold[:, None])
        )
        if step > 0:
            scale = (_TUKEY_SPREADS * spread).clamp_min(1e-6)
        weights = (1 - (distances / scale[..., None]).square()).clamp_min(0).square()
        weights = (weights * valid[:, None]).flatten(0, 1)
        refit = _aligned(repeated_source, repeated_target, weights)
        rotation = refit.rotation.unflatten(0, (batch, starts))
        translation = refit.translation.unflatten(0, (batch, starts))
    # Compared at the largest reach: a smaller one favours poses that fit one patch perfectly.
    winner = _truncated(distances, valid, _MAX_REACH * threshold).argmin(-1)
    return rotation[rows[:, 0], winner], translation[rows[:, 0], winner]
