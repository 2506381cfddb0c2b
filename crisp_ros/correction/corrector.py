"""The corrector: pose and shape of a batch of objects so that their depth points lie on them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from crisp_ros.correction.active_shape import (
    ActiveShapeSettings,
    LibraryFits,
    least_squares,
    library_fits,
)
from crisp_ros.correction.h_step import ProjectedGradientSettings, projected_gradient
from crisp_ros.correction.residuals import clearly_better, usable
from crisp_ros.correction.second_order import SecondOrderSettings, refine
from crisp_ros.correction.z_step import GradientSettings, PoseStep, descend
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
        rounds: alternations of pose and shape.
        gradient, second_order, projected_gradient, active_shape: settings of the solvers.
        shape_significance: the library shape nearest to the network's code is kept unless another
            one's objective is lower by this share of itself plus the squared surface error.
    """

    solver: Literal["gradient", "second_order"] = "second_order"
    shape: Literal["none", "projected_gradient", "lsq"] = "lsq"
    rounds: int = 1
    gradient: GradientSettings = field(default_factory=GradientSettings)
    second_order: SecondOrderSettings = field(default_factory=SecondOrderSettings)
    projected_gradient: ProjectedGradientSettings = field(default_factory=ProjectedGradientSettings)
    active_shape: ActiveShapeSettings = field(default_factory=ActiveShapeSettings)
    shape_significance: float = 0.1

    def __post_init__(self) -> None:
        if self.solver not in ("gradient", "second_order"):
            raise ValueError(f"solver is {self.solver!r}: expected 'gradient' or 'second_order'")
        if self.shape not in ("none", "projected_gradient", "lsq"):
            raise ValueError(
                f"shape is {self.shape!r}: expected 'none', 'projected_gradient' or 'lsq'"
            )
        if self.rounds < 1:
            raise ValueError(f"rounds is {self.rounds}: expected at least 1")


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
    if settings.shape == "lsq":
        T, codes = _library_start(decoder, objects, codes, library, T, settings)
    for turn in range(settings.rounds):
        step = _pose_step(decoder, objects, codes, T, settings, turn)
        T, objective = step.T_object_camera, step.objective
        iterations = iterations + step.iterations
        if settings.shape == "projected_gradient":
            shape = projected_gradient(
                decoder,
                transform(T, objects.points),
                valid,
                codes,
                library.codes,
                settings.projected_gradient,
            )
            codes, objective = shape.codes, shape.objective
        elif settings.shape == "lsq" and not settings.active_shape.one_hot:
            shape = least_squares(
                decoder, transform(T, objects.points), valid, codes, library, settings.active_shape
            )
            better = shape.objective < objective
            codes = torch.where(better[:, None], shape.codes, codes)
            objective = torch.minimum(shape.objective, objective)
    z = torch.where(valid[..., None], transform(T, objects.points), 0.0)
    return Correction(T, codes, z, objective, iterations)


def _pose_step(
    decoder: ShapeDecoder,
    objects: _Objects,
    codes: Tensor,
    T: Tensor,
    settings: CorrectorSettings,
    turn: int,
) -> PoseStep:
    if settings.solver == "second_order":
        return refine(
            decoder,
            objects.points,
            objects.pnc,
            objects.weights,
            objects.valid,
            codes,
            T,
            settings.second_order,
        )
    # Later rounds go on from the last Z, which by Lemma 5 is R x + t.
    z, weights = objects.pnc, objects.weights
    if turn > 0 or settings.shape == "lsq":
        z, weights = transform(T, objects.points), objects.valid.to(z.dtype)
    return descend(decoder, objects.points, z, weights, objects.valid, codes, settings.gradient)


def _library_start(
    decoder: ShapeDecoder,
    objects: _Objects,
    codes: Tensor,
    library: ShapeLibrary,
    T: Tensor,
    settings: CorrectorSettings,
) -> tuple[Tensor, Tensor]:
    """The chosen library shape's pose (B, 4, 4) and code (B, C) of each object.

    The network's code has seen the colours; so the shape nearest to it stays unless the depth
    clearly prefers another.
    """
    fits = library_fits(decoder, *objects, library, T, settings.active_shape, settings.second_order)
    named = torch.cdist(codes, library.codes).argmin(-1)
    chosen = chosen_shape(fits, named, settings)
    rows = torch.arange(len(codes), device=codes.device)
    return fits.T_object_camera[rows, chosen], library.codes[chosen]


def chosen_shape(fits: LibraryFits, named: Tensor, settings: CorrectorSettings) -> Tensor:
    """The library index (B,) of each object's shape.

    Args:
        fits: of `library_fits`.
        named: (B,) index of the library shape that the network named.
        settings: see `CorrectorSettings`.
    """
    best = fits.objective.argmin(-1)
    before = fits.objective.gather(-1, named[:, None]).squeeze(-1)
    after = fits.objective.gather(-1, best[:, None]).squeeze(-1)
    better = clearly_better(
        before, after, settings.shape_significance, settings.second_order.surface_error_m
    )
    return torch.where(better, best, named)


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
