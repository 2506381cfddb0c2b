"""The corrector: pose and shape of a batch of objects so that their depth points lie on them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from crisp_ros.correction.active_shape import (
    ActiveShapeSettings,
    LibraryFits,
    least_squares,
    library_fits,
)
from crisp_ros.correction.pose_gradient import GradientSettings, PoseStep, descend
from crisp_ros.correction.pose_lm import SecondOrderSettings, refine
from crisp_ros.correction.residuals import (
    ANY_FALL,
    clearly_better,
    contradiction,
    usable,
    where_rows,
)
from crisp_ros.correction.shape_projected_gradient import (
    ProjectedGradientSettings,
    projected_gradient,
)
from crisp_ros.geometry.registration import Registration, register
from crisp_ros.geometry.se3 import transform
from crisp_ros.network.decoder import ShapeDecoder
from crisp_ros.network.library import ShapeLibrary


class Correction(NamedTuple):
    """Corrected poses and shapes of a batch of objects.

    T_object_camera: (B, 4, 4). codes: (B, C). pnc: (B, N, 3) the corrected Z* = R x + t of Lemma 5,
    metres, zero where a point is not valid. objective: (B,) square metres, `surface_objective` over
    all valid points. iterations: (B,) steps of the pose solver, all rounds together.
    """

    T_object_camera: Tensor
    codes: Tensor
    pnc: Tensor
    objective: Tensor
    iterations: Tensor


@dataclass(frozen=True)
class CorrectorSettings:
    """Settings of `correct`.

    Attributes:
        solver: of the pose: Adam through the pose layer (Algorithm 1) or Levenberg-Marquardt.
        shape: "none" keeps the codes; "projected_gradient" is the h step of Algorithm 1; "lsq" is
            Algorithm 2, with the pose of the promising library shapes refined before they are
            compared.
        rounds: alternations of pose and shape, at most; an object stops before
        round_tolerance: ... where one lowered its objective by no more than this share.
        restarts: the second-order solver starts anew, at most so often, from where it ended, for
            objects that it got nearer to their shape but not to
        restart_above_m: ... within this root mean square distance, metres.
        gradient, second_order, projected_gradient, active_shape: settings of the solvers.
        shape_ratio: with "lsq", library shapes whose codes are at most this many times as far from
            the network's code as the nearest one's may explain the depth; infinity admits all.
        unexplained_above_m: where the shape found so leaves more than this root mean square
            distance, metres, all library shapes may. What the coordinates say against the way to
            its pose counts as distance (see `residuals.contradiction`).
        shape_significance: the library shape nearest to the network's code is kept unless another
            one's objective is lower by this share of itself plus the squared surface error.
    """

    solver: Literal["gradient", "second_order"] = "second_order"
    shape: Literal["none", "projected_gradient", "lsq"] = "lsq"
    rounds: int = 1
    round_tolerance: float = 1e-3
    restarts: int = 2
    restart_above_m: float = 2.2e-3
    gradient: GradientSettings = field(default_factory=GradientSettings)
    second_order: SecondOrderSettings = field(default_factory=SecondOrderSettings)
    projected_gradient: ProjectedGradientSettings = field(default_factory=ProjectedGradientSettings)
    active_shape: ActiveShapeSettings = field(default_factory=ActiveShapeSettings)
    shape_ratio: float = 2.0
    unexplained_above_m: float = 4.3e-3
    shape_significance: float = 0.2

    def __post_init__(self) -> None:
        if self.solver not in ("gradient", "second_order"):
            raise ValueError(f"solver is {self.solver!r}: expected 'gradient' or 'second_order'")
        if self.shape not in ("none", "projected_gradient", "lsq"):
            raise ValueError(
                f"shape is {self.shape!r}: expected 'none', 'projected_gradient' or 'lsq'"
            )
        if self.rounds < 1:
            raise ValueError(f"rounds is {self.rounds}: expected at least 1")
        if not self.shape_ratio >= 1.0:
            raise ValueError(f"shape_ratio is {self.shape_ratio}: expected at least 1")


class _Objects(NamedTuple):
    """The observations of a batch of objects, without anything that is not finite."""

    points: Tensor  # (B, N, 3) camera frame
    pnc: Tensor  # (B, N, 3)
    weights: Tensor  # (B, N) of the correspondences
    valid: Tensor  # (B, N) bool


@torch.no_grad()
def correct(
    decoder: ShapeDecoder,
    points: Tensor,
    pnc: Tensor,
    valid: Tensor,
    codes: Tensor,
    library: ShapeLibrary | None,
    settings: CorrectorSettings | None = None,
    registration: Registration | None = None,
) -> Correction:
    """Solves eq. (5) for pose and shape, starting from the network's answer.

    An object without a usable registration keeps the pose that the registration gave.

    Args:
        decoder: f_d.
        points: (B, N, 3) depth points, camera frame, metres.
        pnc: (B, N, 3) their predicted object coordinates, metres.
        valid: (B, N) bool; points that are not finite are left out as well.
        codes: (B, C) the network's shape codes.
        library: the known shapes; needed unless `settings.shape` is "none".
        settings: see `CorrectorSettings`.
        registration: of the same points and coordinates; computed here where left out.

    Raises:
        ValueError: a shape solver is asked for without a library, or shapes do not fit together.
    """
    settings = settings or CorrectorSettings()
    _check(points, pnc, valid, codes, library, settings)
    valid = usable(points, valid)
    if registration is None:
        registration = register(points, pnc, valid)
    objects = _Objects(
        torch.where(valid[..., None], points, 0.0),
        pnc,
        registration.inliers.to(points.dtype),
        valid,
    )
    T = registration.T_object_camera.to(points.dtype)
    iterations = torch.zeros(len(points), dtype=torch.long, device=points.device)
    if len(points) == 0:
        return Correction(T, codes, torch.zeros_like(points), points.new_zeros(0), iterations)
    own, registered = codes, T
    if settings.shape == "lsq":
        T, codes = _library_start(decoder, objects, codes, library, T, settings)
    objective = points.new_full((len(points),), torch.inf)
    active = torch.arange(len(points), device=points.device)
    for turn in range(settings.rounds):
        some = _Objects(*(part[active] for part in objects))
        step = _pose_step(decoder, some, codes[active], T[active], settings, turn)
        if turn == 0 and settings.shape == "lsq" and math.isfinite(settings.shape_ratio):
            step, codes = _reconsidered(decoder, some, codes, library, T, step, settings)
        if turn == 0 and settings.shape == "lsq" and settings.active_shape.own_code:
            other = _pose_step(decoder, some, own, registered, settings, turn)
            better = other.objective < step.objective
            codes = where_rows(better, own, codes)
            step = PoseStep(*(where_rows(better, *pair) for pair in zip(other, step, strict=True)))
        iterations = iterations.index_add(0, active, step.iterations)
        found, after = _shape_step(
            decoder, some, codes[active], own[active], library, step, settings
        )
        T = T.index_copy(0, active, step.T_object_camera)
        codes = codes.index_copy(0, active, found)
        going = objective[active] - after > settings.round_tolerance * after
        objective = objective.index_copy(0, active, after)
        active = active[going]
        if len(active) == 0:
            break
    z = torch.where(valid[..., None], transform(T, objects.points), 0.0)
    return Correction(T, codes, z, objective, iterations)


def _shape_step(
    decoder: ShapeDecoder,
    objects: _Objects,
    codes: Tensor,
    own: Tensor,
    library: ShapeLibrary | None,
    step: PoseStep,
    settings: CorrectorSettings,
) -> tuple[Tensor, Tensor]:
    """Codes (B, C) and objectives (B,) of the objects after the shape's turn at their new poses.

    `own` (B, C) are the network's, a column too where that is asked for.
    """
    if settings.shape == "none" or (settings.shape == "lsq" and settings.active_shape.one_hot):
        return codes, step.objective
    z = transform(step.T_object_camera, objects.points)
    if settings.shape == "projected_gradient":
        shape = projected_gradient(
            decoder, z, objects.valid, codes, library.codes, settings.projected_gradient
        )
        return shape.codes, shape.objective
    shape = least_squares(decoder, z, objects.valid, own, library, settings.active_shape)
    better = shape.objective < step.objective
    return (
        torch.where(better[:, None], shape.codes, codes),
        torch.minimum(shape.objective, step.objective),
    )


def _pose_step(
    decoder: ShapeDecoder,
    objects: _Objects,
    codes: Tensor,
    T: Tensor,
    settings: CorrectorSettings,
    turn: int,
) -> PoseStep:
    if settings.solver == "second_order":
        return _refined(decoder, objects, codes, T, settings)
    # Later rounds go on from the last Z, which by Lemma 5 is R x + t.
    z, weights = objects.pnc, objects.weights
    if turn > 0 or settings.shape == "lsq":
        z, weights = transform(T, objects.points), objects.valid.to(z.dtype)
    return descend(decoder, objects.points, z, weights, objects.valid, codes, settings.gradient)


def _refined(
    decoder: ShapeDecoder,
    objects: _Objects,
    codes: Tensor,
    T: Tensor,
    settings: CorrectorSettings,
) -> PoseStep:
    """The second-order solver, started anew for the few objects that need a longer way."""
    step = refine(decoder, *objects, codes, T, settings.second_order)
    start = step.start_objective
    # That they must move is settled.
    onwards = replace(settings.second_order, move=ANY_FALL)
    for _ in range(settings.restarts):
        far = (step.objective > settings.restart_above_m**2) & (step.objective < start)
        rows = far.nonzero().squeeze(-1)
        if len(rows) == 0:
            break
        start = step.objective
        some = _Objects(*(part[rows] for part in objects))
        again = refine(decoder, *some, codes[rows], step.T_object_camera[rows], onwards)
        step = PoseStep(
            step.T_object_camera.index_copy(0, rows, again.T_object_camera),
            step.objective.index_copy(0, rows, again.objective),
            step.start_objective,
            step.iterations.index_add(0, rows, again.iterations),
        )
    return step


def _library_start(
    decoder: ShapeDecoder,
    objects: _Objects,
    codes: Tensor,
    library: ShapeLibrary,
    T: Tensor,
    settings: CorrectorSettings,
) -> tuple[Tensor, Tensor]:
    """The chosen library shape's pose (B, 4, 4) and code (B, C) of each object.

    The network's code has seen the colours, the depth only what every box has: a side. So a shape
    that the network clearly named stays, and where it was in doubt, the depth decides.
    """
    distances = torch.cdist(codes, library.codes)
    nearest = distances.min(-1)
    chosen = nearest.indices
    floor = nearest.values[:, None].clamp_min(torch.finfo(distances.dtype).tiny)
    admitted = distances <= settings.shape_ratio * floor
    doubtful = (admitted.sum(-1) > 1).nonzero().squeeze(-1)
    if len(doubtful) > 0:
        some = _Objects(*(part[doubtful] for part in objects))
        fits = library_fits(
            decoder, *some, library, T[doubtful], settings.active_shape, settings.second_order
        )
        found = chosen_shape(fits, admitted[doubtful], chosen[doubtful], settings)
        rows = torch.arange(len(doubtful), device=codes.device)
        chosen = chosen.index_copy(0, doubtful, found)
        T = T.index_copy(0, doubtful, fits.T_object_camera[rows, found])
    return T, library.codes[chosen]


def _reconsidered(
    decoder: ShapeDecoder,
    objects: _Objects,
    codes: Tensor,
    library: ShapeLibrary,
    T: Tensor,
    step: PoseStep,
    settings: CorrectorSettings,
) -> tuple[PoseStep, Tensor]:
    """The pose step and codes (B, C), with any other library shape where the one that the network
    named leaves the depth unexplained, or explains it only against the network's own coordinates,
    and another does not: then its code was wrong."""
    start, end = transform(T, objects.points), transform(step.T_object_camera, objects.points)
    against = contradiction(start, end, objects.pnc, objects.weights, settings.second_order.move)
    cost = _with_contradiction(step.objective, against, settings)
    rows = (cost > settings.unexplained_above_m**2).nonzero().squeeze(-1)
    if len(rows) == 0:
        return step, codes
    some = _Objects(*(part[rows] for part in objects))
    fits = library_fits(
        decoder, *some, library, T[rows], settings.active_shape, settings.second_order
    )
    named = torch.cdist(codes[rows], library.codes).argmin(-1)
    found = chosen_shape(fits, torch.ones_like(fits.tried), named, settings)
    other = found != named
    if not other.any():
        return step, codes
    rows, found, some = rows[other], found[other], _Objects(*(part[other] for part in some))
    posed = fits.T_object_camera[other, found]
    again = _pose_step(decoder, some, library.codes[found], posed, settings, 0)
    taken = again.objective < step.objective[rows]
    rows, again = rows[taken], PoseStep(*(part[taken] for part in again))
    step = PoseStep(
        step.T_object_camera.index_copy(0, rows, again.T_object_camera),
        step.objective.index_copy(0, rows, again.objective),
        step.start_objective,
        step.iterations.index_add(0, rows, again.iterations),
    )
    return step, codes.index_copy(0, rows, library.codes[found[taken]])


def chosen_shape(
    fits: LibraryFits, admitted: Tensor, named: Tensor, settings: CorrectorSettings
) -> Tensor:
    """The library index (B,) of each object's shape.

    A shape that explains the depth only where the correspondences do not have it counts as that
    much worse: from one side many shapes fit, if they may be moved.

    Args:
        fits: of the K library shapes.
        admitted: (B, K) bool, the shapes to choose from.
        named: (B,) index of the library shape that the network named.
        settings: see `CorrectorSettings`.
    """
    floor_m = settings.second_order.move.surface_error_m
    cost = _with_contradiction(fits.objective, fits.contradiction, settings)
    cost = cost.masked_fill(~admitted, torch.inf)
    best = cost.argmin(-1)
    before = cost.gather(-1, named[:, None]).squeeze(-1)
    after = cost.gather(-1, best[:, None]).squeeze(-1)
    better = clearly_better(before, after, settings.shape_significance, floor_m)
    return torch.where(better, best, named)


def _with_contradiction(objective: Tensor, against: Tensor, settings: CorrectorSettings) -> Tensor:
    floor_m = settings.second_order.move.surface_error_m
    return objective + against * (objective + floor_m**2)


def _check(
    points: Tensor,
    pnc: Tensor,
    valid: Tensor,
    codes: Tensor,
    library: ShapeLibrary | None,
    settings: CorrectorSettings,
) -> None:
    if library is None and settings.shape != "none":
        raise ValueError(
            f"shape solver {settings.shape!r} needs a shape library: use a model that has one, "
            "or set shape to 'none'"
        )
    if points.ndim != 3 or points.shape[-1] != 3 or pnc.shape != points.shape:
        raise ValueError(
            f"points {tuple(points.shape)} and pnc {tuple(pnc.shape)}: expected both (B, N, 3)"
        )
    if valid.shape != points.shape[:2] or len(codes) != len(points):
        raise ValueError(
            f"valid {tuple(valid.shape)} and codes {tuple(codes.shape)}: expected (B, N) and "
            f"(B, C) with B, N = {tuple(points.shape[:2])}"
        )
