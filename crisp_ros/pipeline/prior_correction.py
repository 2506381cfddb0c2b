"""Poses and shapes under a model's prior, as a corrector returns them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import torch
from torch import Tensor

from crisp_ros.correction.box_search import with_boxes
from crisp_ros.correction.certificate import Condition, condition
from crisp_ros.correction.corrector import Correction
from crisp_ros.correction.correspondences import Correspondences, ObjectPoints, Shapes
from crisp_ros.correction.hidden_outline import open_outline_shares
from crisp_ros.correction.latent_field import PriorField
from crisp_ros.correction.network_starts import NetworkGuess
from crisp_ros.correction.prior_shape import (
    PriorFit,
    PriorShapeSettings,
    fit_prior_shapes,
    observe_for_prior,
)
from crisp_ros.correction.residuals import surface_objective
from crisp_ros.correction.shape_field import ShapeField
from crisp_ros.correction.shape_mixture import ShapeMixture
from crisp_ros.correction.shape_source import ShapeSource
from crisp_ros.correction.shape_starts import Support
from crisp_ros.correction.surface import SurfacePoints, surface_points
from crisp_ros.correction.visibility import Images
from crisp_ros.geometry.chamfer import nearest_distances
from crisp_ros.geometry.registration import Registration
from crisp_ros.geometry.se3 import transform
from crisp_ros.network.shape_prior import ShapePrior

from .prior_fits import is_found
from .prior_memory import PriorMemory
from .support_planes import support_planes

_NOT_FOUND_YET = "unknown object: its shape is still searched"
_KEPT = 64  # shapes whose box and surface are kept
_COMPARED = 256  # depth points whose nearest surface is looked for
_MOST_POINTS = 0.95  # share of them that need one
_HIGHEST = 0.95  # quantile of the heights of an object's points
_LEAST_HEIGHT_M = 0.01  # of an object: the support itself explains less, as exactly as certified
_NO_SUPPORT = "the plane that the object stands on was not seen, and it may go on towards it"

T = TypeVar("T")


class _LatestValues(Generic[T]):
    """The latest values that were asked for, by key."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._values: OrderedDict[bytes, T] = OrderedDict()

    def get(self, key: bytes, make: Callable[[], T]) -> T:
        """The value of a key, made where it is not kept."""
        if key not in self._values:
            self._values[key] = make()
        self._values.move_to_end(key)
        while len(self._values) > self._most:
            self._values.popitem(last=False)
        return self._values[key]


class PriorShapes:
    """Shapes of a model's prior, with a memory of the objects of earlier frames.

    Attributes:
        memory: of these objects.
        conditions: of a certificate, of the objects of the last `correct`: that the search for a
            shape has ended, that no other solution explains an object nearly as well with another
            surface, that little of its outline is hidden, that its surface goes on beyond little of
            it, that there is a surface where its points are, that its support is known, and that
            they rise above it. Empty before it.
        awaited: that the search for its shape has ended, of the same objects; None where all have.
    """

    def __init__(self, field: ShapeField, prior: ShapePrior) -> None:
        """Take a prior into use.

        Args:
            field: f_d.
            prior: over shapes of its decoder.
        """
        self._field, self._prior = field, prior
        self._shapes = PriorField(field.decoder, prior)
        self._mixture = ShapeMixture.of_prior(prior)
        self.memory = PriorMemory()
        self.conditions: tuple[Condition, ...] = ()
        self.awaited: Condition | None = None
        self._kept_boxes: _LatestValues[Shapes] = _LatestValues(_KEPT)
        self._kept_surfaces: _LatestValues[SurfacePoints] = _LatestValues(_KEPT)

    def correct(
        self,
        correspondences: Correspondences,
        objects: Tensor,
        images: Images,
        settings: PriorShapeSettings,
        T_fixed_camera: Tensor | None,
        guesses: Sequence[NetworkGuess | None] | None = None,
    ) -> Correction:
        """Fit poses and shapes of objects to their depth points; the shapes have boxes.

        Args:
            correspondences: of B objects, whose coordinates do not count.
            objects: (B,) their labels in the label image.
            images: that they were seen in.
            settings: see `PriorShapeSettings`.
            T_fixed_camera: (4, 4) of the camera in the frame in which objects rest; None searches
                each object, and remembers none.
            guesses: see `guesses`; None without a network.
        """
        points, _, _, valid = correspondences
        support = support_planes(correspondences, images)
        what = correspondences, objects.to(points.device), images, support, settings
        fit = self._fit(what, T_fixed_camera, guesses)
        pnc = torch.where(valid[..., None], transform(fit.T_object_camera, points), 0.0)
        shapes = self._with_boxes(self._prior.code(fit.latents), ObjectPoints.of(pnc, valid))
        scale = torch.full_like(fit.objective, settings.solver.robust_scale_m)
        objective = surface_objective(self._field.sdf(pnc, shapes), valid, scale)
        sources = torch.full_like(fit.iterations, int(ShapeSource.PRIOR))
        away = _distance_of_surface(pnc, valid, self.surfaces(shapes))
        heights = _heights(correspondences, support)
        is_open = open_outline_shares(objects, images, support)
        limit, farthest, most = (
            settings.spread_limit_m,
            settings.surface_limit_m,
            settings.hidden_limit,
        )
        found = is_found(fit) | ~valid.any(1)
        searched = condition("searched", found, fit.objective, lambda _: _NOT_FOUND_YET)
        self.awaited = None if bool(found.all()) else searched
        self.conditions = (
            searched,
            condition("determined", ~(fit.spread_m > limit), fit.spread_m, _reason_of_rival),
            condition("outline", ~(fit.hidden > most), fit.hidden, _reason_of_hidden),
            condition("mask", ~(is_open > settings.open_limit), is_open, _reason_of_open),
            condition("surface", ~(away > farthest), away, _reason_of_no_surface),
            condition("support", support.known, support.known, lambda _: _NO_SUPPORT),
            condition("height", ~(heights < _LEAST_HEIGHT_M), heights, _reason_of_height),
        )
        return Correction(fit.T_object_camera, shapes, pnc, objective, fit.iterations, sources)

    def guesses(self, codes: Tensor, registration: Registration) -> list[NetworkGuess | None]:
        """A network's answers for B objects, None for those that have no pose from it.

        Args:
            codes: (B, C).
            registration: of its coordinates.
        """
        latents = self._prior.latents(codes)
        return [
            NetworkGuess(registration.T_object_camera[k], latents[k]) if found else None
            for k, found in enumerate(registration.converged.tolist())
        ]

    def surfaces(self, shapes: Shapes) -> SurfacePoints:
        """Points on shapes (B,) with boxes; those of shapes of the last frames are kept."""
        parts = [
            self._kept_surfaces.get(
                key, lambda row=row: surface_points(self._field, shapes.rows(slice(row, row + 1)))
            )
            for row, key in enumerate(_keys(shapes.codes))
        ]
        return SurfacePoints(*(torch.cat(part) for part in zip(*parts, strict=True)))

    def _with_boxes(self, codes: Tensor, seen: ObjectPoints) -> Shapes:
        """Shapes (B,) of codes with their boxes; those of shapes of the last frames are kept."""
        found = [
            self._kept_boxes.get(
                key,
                lambda row=row: with_boxes(
                    self._field,
                    Shapes.of_codes(codes[row : row + 1]),
                    ObjectPoints(*(part[row : row + 1] for part in seen)),
                ),
            )
            for row, key in enumerate(_keys(codes))
        ]
        return Shapes(*(torch.cat(part) for part in zip(*found, strict=True)))

    def record(self, certified: Tensor, T_fixed_camera: Tensor | None) -> None:
        """Take the verdicts on the objects of the last `correct`, (B,) bool."""
        if T_fixed_camera is not None:
            self.memory.record(certified.tolist())

    def _fit(
        self,
        what: tuple[Correspondences, Tensor, Images, Support, PriorShapeSettings],
        T_fixed_camera: Tensor | None,
        guesses: Sequence[NetworkGuess | None] | None,
    ) -> PriorFit:
        """The fits of objects, see `fit_prior_shapes`; those remembered are not searched."""
        correspondences, objects, *_, settings = what
        if len(objects) == 0:
            none = correspondences.points.new_zeros((0, self._prior.dimensions))
            empty = none.sum(1)
            poses, count = none.new_zeros((0, 4, 4)), empty.long()
            return PriorFit(poses, none, count, empty, count, empty, empty)
        if T_fixed_camera is None:
            return fit_prior_shapes(self._shapes, self._mixture, *what, guesses)
        seen = observe_for_prior(*what, guesses)
        return self.memory.fit(self._shapes, self._mixture, seen, T_fixed_camera, settings)


def _reason_of_rival(spread_m: float) -> str:
    return f"another shape, {1e3 * spread_m:.0f} mm away, explains the depth nearly as well"


def _reason_of_hidden(share: float) -> str:
    return f"{100 * share:.0f} % of the outline is hidden, and the object may go on there"


def _reason_of_open(share: float) -> str:
    return f"beyond {100 * share:.0f} % of the mask's outline the surface goes on"


def _reason_of_no_surface(away_m: float) -> str:
    return f"the shape has no surface within {1e3 * away_m:.0f} mm of some depth points"


def _reason_of_height(height_m: float) -> str:
    return f"the points rise {1e3 * height_m:.0f} mm above their support, and may be a part of it"


def _heights(observed: Correspondences, support: Support) -> Tensor:
    """Heights (B,) of objects above the planes that they stand on, infinite where none is known.

    A patch of a table or a wall, labelled as an object, is explained by a plate on it or inside it.
    """
    points, _, _, valid = observed.sanitized()
    heights = (points * support.normal[:, None]).sum(-1) + support.offset[:, None]
    heights = torch.where(valid, heights, torch.nan).nanquantile(_HIGHEST, dim=1)
    return torch.where(support.known, heights, torch.inf)


def _distance_of_surface(points: Tensor, valid: Tensor, surfaces: SurfacePoints) -> Tensor:
    """Quantile (B,) of the distances from points on objects to points on their surfaces, metres.

    A signed distance that is small everywhere need not have a surface: thin parts may vanish.
    """
    few = ObjectPoints.of(points, valid).subsample(_COMPARED)
    nearest = nearest_distances(few.points, surfaces.points, surfaces.valid)
    nearest = torch.where(few.valid, nearest, torch.nan)
    return nearest.nanquantile(_MOST_POINTS, dim=1).nan_to_num(torch.inf)


def _keys(codes: Tensor) -> list[bytes]:
    """A key for each code (B, C)."""
    return [code.tobytes() for code in codes.detach().cpu().numpy()]
