"""Global registration of library shapes to the depth points of an object, without coordinates.

The network does not know a shape that was added to the library after the training: its coordinates
lead nowhere. Here the shapes nearest in size are tried in every orientation on their signed
distances, and the best poses are refined.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from crisp_ros.correction.batch import replace_rows, take_rows
from crisp_ros.correction.correspondences import Correspondences, Shapes
from crisp_ros.correction.pose_lm import PoseLmSettings, refine_pose
from crisp_ros.correction.prepared_library import PreparedLibrary
from crisp_ros.correction.residuals import ANY_FALL, surface_objective
from crisp_ros.correction.shape_field import ShapeField
from crisp_ros.correction.surface import SurfacePoints
from crisp_ros.correction.visibility import Images, VisibilitySettings, exposed
from crisp_ros.geometry.rotation_grid import rotation_grid
from crisp_ros.geometry.se3 import from_rotation_translation
from crisp_ros.validation import check_ranges, ranged

_EDGE_SHARE = 0.02  # of the points, that do not count for the size seen
_LEAST_SLOPE = 0.1  # of the signed distances, squared
_AWAY_COSINE = 0.3  # of outward normal and viewing ray, on a side that no camera sees


@dataclass(frozen=True)
class GlobalRegistrationSettings:
    """Settings of `register_globally`.

    Attributes:
        most_shapes: shapes that are tried on an object, those nearest in size.
        size_ratios: least and usual size of these over the size seen, of which they show a part.
        screening_rotations: of each of these shapes, to find the ones that fit best.
        kept_shapes: number of these.
        rotations: of each shape kept, see `rotation_grid`.
        points: depth points while rotations are compared.
        shifts: Newton steps of the translation of each rotation.
        starts: poses of an object, equally many of each shape, that are refined.
        coarse: of that refinement.
        finalists: poses of these that are refined to the end.
        visibility: what the camera would have seen.
        robust_scale_m: of the depth points' distances, metres.
        exposed_m: a surface point that the camera would have seen, or has seen past, counts as a
            depth point at this distance from the surface, metres.
    """

    most_shapes: int = ranged(16, low=1)
    size_ratios: tuple[float, float] = (0.85, 1.2)
    screening_rotations: int = ranged(144, low=1)
    kept_shapes: int = ranged(5, low=1)
    rotations: int = ranged(576, low=1)
    points: int = ranged(40, low=3)
    shifts: int = ranged(2, low=0)
    starts: int = ranged(24, low=1)
    coarse: PoseLmSettings = field(
        default_factory=lambda: PoseLmSettings(
            evaluations=10, points=64, ray_offsets_m=(), move=ANY_FALL
        )
    )
    finalists: int = ranged(6, low=1)
    visibility: VisibilitySettings = field(default_factory=VisibilitySettings)
    robust_scale_m: float = ranged(0.01, low=1e-6)
    exposed_m: float = ranged(0.01, low=0.0)

    def __post_init__(self) -> None:
        check_ranges(self)


class GlobalFit(NamedTuple):
    """Shapes for one object, each at its best pose, the best one first.

    Attributes:
        T_object_camera: (M, 4, 4).
        shapes: (M,) different ones.
        cost: (M,) square metres, of the depth points and of the space seen to be empty.
    """

    T_object_camera: Tensor
    shapes: Shapes
    cost: Tensor


class _Starts(NamedTuple):
    """Poses (P, 4, 4) of shapes (P,) for one object, with their costs (P,), square metres."""

    T_object_camera: Tensor
    index: Tensor
    cost: Tensor


@torch.no_grad()
def register_globally(
    field: ShapeField,
    library: PreparedLibrary,
    candidates: Tensor,
    observed: Correspondences,
    label: Tensor,
    images: Images,
    settings: GlobalRegistrationSettings | None = None,
) -> GlobalFit | None:
    """Find the poses at which library shapes explain an object's depth points best.

    Args:
        field: f_d.
        library: the known shapes.
        candidates: (K,) indices of the shapes to try.
        observed: of one object, leading dimension 1; its coordinates do not count.
        label: (1,) of the object in the label image.
        images: that it was seen in.
        settings: see `GlobalRegistrationSettings`.

    Returns:
        The best pose of each shape that was tried in all rotations; None where no shape has the
        size of the object.
    """
    settings = settings or GlobalRegistrationSettings()
    observed = observed.sanitized()
    observed = Correspondences.of_points(observed.points, observed.valid)
    points = observed.points[observed.valid]
    if len(points) < settings.points:
        return None
    near = _nearest_in_size(library, candidates, points, settings)
    if len(near) == 0:
        return None
    if len(near) > settings.kept_shapes:
        screened = _starts(field, library, near, points, settings.screening_rotations, settings)
        least = screened.cost.view(len(near), -1).amin(-1)
        near = near[least.topk(settings.kept_shapes, largest=False).indices]
    starts = _starts(field, library, near, points, settings.rotations, settings)
    starts = take_rows(starts, _best_of_each(starts.cost.view(len(near), -1), settings.starts))

    def refined(starts: _Starts, pose: PoseLmSettings) -> _Starts:
        fit = _refined(field, library, observed, starts, pose)
        exposed = _exposed_cost(library, fit, label, images, settings)
        return fit._replace(cost=fit.cost + exposed)

    starts = refined(starts, settings.coarse)
    best = starts.cost.topk(min(settings.finalists, len(starts.cost)), largest=False).indices
    final = refined(take_rows(starts, best), PoseLmSettings(move=ANY_FALL))
    starts = replace_rows(starts, best, final)
    best = _best_of_each(starts.cost.view(len(near), -1), len(near))
    starts = take_rows(starts, best)
    starts = take_rows(starts, starts.cost.argsort())
    return GlobalFit(starts.T_object_camera, library.shapes(starts.index), starts.cost)


def seen_size(points: Tensor) -> Tensor:
    """The diagonal () of the box, along their principal axes, of points (N, 3), metres."""
    centred = points - points.mean(0)
    axes = torch.linalg.eigh((centred.T @ centred).double()).eigenvectors.to(points.dtype)
    edges = torch.tensor([_EDGE_SHARE, 1.0 - _EDGE_SHARE]).to(points)
    low, high = (centred @ axes).quantile(edges, dim=0)
    return torch.linalg.norm(high - low)


def _nearest_in_size(
    library: PreparedLibrary,
    candidates: Tensor,
    points: Tensor,
    settings: GlobalRegistrationSettings,
) -> Tensor:
    """The candidates (M,) that are not smaller than the object, the nearest in size."""
    least, usual = settings.size_ratios
    ratio = library.diameters[candidates] / seen_size(points).clamp_min(1e-6)
    unlike = (ratio / usual).log().abs().masked_fill(ratio < least, torch.inf)
    order = unlike.topk(min(settings.most_shapes, len(unlike)), largest=False)
    return candidates[order.indices[order.values.isfinite()]]


def _best_of_each(cost: Tensor, count: int) -> Tensor:
    """Indices into the flattened costs (M, G) of about `count`, equally many of each row."""
    each = min(max(1, count // len(cost)), cost.shape[1])
    columns = cost.topk(each, dim=-1, largest=False).indices
    first = torch.arange(len(cost), device=cost.device)[:, None] * cost.shape[1]
    return (first + columns).flatten()


def _starts(
    field: ShapeField,
    library: PreparedLibrary,
    index: Tensor,
    points: Tensor,
    rotations: int,
    settings: GlobalRegistrationSettings,
) -> _Starts:
    """Every rotation of every shape (M,), at the translation where the points fit best."""
    shapes = library.shapes(index)
    surfaces = library.surfaces_of(shapes, outside=())
    step = torch.linspace(0, len(points) - 1, settings.points).round().long()
    few = points[step.to(points.device)]
    rays = torch.nn.functional.normalize(few, dim=-1)
    rotation = rotation_grid(rotations).to(points)
    view = rotation @ torch.nn.functional.normalize(points.mean(0), dim=0)
    middle = _seen_middle(field, shapes, surfaces, view)
    shift = middle - rotation @ points.mean(0)
    x = few @ rotation.transpose(-1, -2) + shift[..., None, :]
    rays = rays @ rotation.transpose(-1, -2)
    of_poses = shapes.unsqueeze(1)
    scale = x.new_full((), settings.robust_scale_m)
    for _ in range(settings.shifts):
        sdf, gradient = field.sdf_and_gradient(x, of_poses)
        weight = (1.0 / (1.0 + (sdf / (2.0 * scale)).square())).square()
        slope = (weight[..., None] * gradient).transpose(-1, -2)
        normal = slope @ gradient + _LEAST_SLOPE * torch.eye(3).to(x)
        move = torch.linalg.solve(normal, -(slope @ sdf[..., None])).squeeze(-1)
        x, shift = x + move[..., None, :], shift + move
    sdf, gradient = field.sdf_and_gradient(x, of_poses)
    away = (gradient * rays).sum(-1) > _AWAY_COSINE
    cost = surface_objective(sdf.masked_fill(away, 1.0), torch.ones_like(away), scale)
    T = from_rotation_translation(rotation.expand(len(index), -1, -1, -1), shift)
    of_pose = index[:, None].expand(-1, len(rotation))
    return _Starts(T.flatten(0, 1), of_pose.flatten(), cost.flatten())


def _seen_middle(
    field: ShapeField, shapes: Shapes, surfaces: SurfacePoints, view: Tensor
) -> Tensor:
    """The middle (M, G, 3) of the side of shapes (M,) that is seen along views (G, 3)."""
    points, valid = surfaces
    normals = field.sdf_and_gradient(points, shapes).gradient
    facing = (-(normals @ view.T)).clamp_min(0.0) * valid[..., None]
    total = facing.sum(1).clamp_min(1e-6)
    return (facing.transpose(-1, -2) @ points) / total[..., None]


def _refined(
    field: ShapeField,
    library: PreparedLibrary,
    observed: Correspondences,
    starts: _Starts,
    settings: PoseLmSettings,
) -> _Starts:
    """The poses (P,) refined; motions that depth leaves free stay as they are."""
    shapes, T = library.shapes(starts.index), starts.T_object_camera
    repeated = observed.repeated(len(T)).aligned_to(T)
    step = refine_pose(field, repeated, shapes, T, settings)
    return starts._replace(T_object_camera=step.T_object_camera, cost=step.objective)


def _exposed_cost(
    library: PreparedLibrary,
    starts: _Starts,
    label: Tensor,
    images: Images,
    settings: GlobalRegistrationSettings,
) -> Tensor:
    """Cost (P,) of the space seen to be empty that poses fill, square metres."""
    surfaces = library.surfaces_of(library.shapes(starts.index), outside=())
    labels = label.expand(len(starts.index))
    seen = exposed(surfaces, starts.T_object_camera, labels, images, settings.visibility)
    wrong = (seen.before | seen.outside).sum(-1) / seen.known.sum(-1).clamp_min(1)
    return wrong * settings.exposed_m**2
