"""Choice between the shape of the library, a combination of its shapes, and the network's own.

A shape that the network names is not questioned: its code is much nearer to that of one library
shape than to all others. Neither is one that explains the depth and the space seen to be empty as
well as depth is measured. For the other objects several sources compete on that, each at its best
pose; combinations only where the network's own shape explains it less well than it could. The
simpler one stays unless another is clearly better.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from crisp_ros.correction.active_shape import ActiveShapeSettings, least_squares
from crisp_ros.correction.batch import replace_rows, select_rows, take_rows
from crisp_ros.correction.box_search import decoded_bodies
from crisp_ros.correction.corrector import Correction, CorrectorSettings, correct
from crisp_ros.correction.correspondences import ObjectPoints, Shapes
from crisp_ros.correction.hypotheses import Hypotheses
from crisp_ros.correction.pose_lm import refine_pose
from crisp_ros.correction.prepared_library import PreparedLibrary
from crisp_ros.correction.residuals import ANY_FALL, clearly_better, surface_objective
from crisp_ros.correction.shape_field import ShapeField, captured_sdf
from crisp_ros.correction.shape_source import ShapeSource
from crisp_ros.correction.surface import SurfacePoints
from crisp_ros.correction.surface_evidence import EvidenceSettings, surface_evidence
from crisp_ros.correction.visibility import Images, VisibilitySettings, exposed
from crisp_ros.geometry.se3 import transform

ShapeMode = Literal["library", "active", "network", "prior", "auto"]


class _Fit(NamedTuple):
    """Corrected objects.

    Attributes:
        correction: of B objects.
        misfit: (B,) square metres, what depth and free space contradict; infinite if not known.
        cost: (B,) the same, infinite where too little of a new shape is seen to accept it.
    """

    correction: Correction
    misfit: Tensor
    cost: Tensor


@dataclass(frozen=True)
class ShapeChoiceSettings:
    """Settings of `ShapeChooser`.

    Attributes:
        named_share: the network names a library shape whose code is nearer to its own than this
            share of the distance to the nearest other code of the library.
        doubted_above_m: a library shape whose cost is below the square of this, metres, is kept.
        explained_m: where the misfit of the network's own shape is below the square of this,
            metres, no combination is tried.
        active: of the combinations; few columns, those with the nearest codes.
        rounds: alternations of combination and pose.
        robust_scale_m: of the depth points' distances, metres.
        exposed_m: a surface point that the camera would have seen, or has seen past, counts as a
            depth point at this distance from the surface, metres.
        significance: share of itself plus the squared surface error by which the cost of a less
            simple shape must be lower.
        surface_error_m: of the decoder, metres.
        visibility: what the camera would have seen.
        evidence: a shape from elsewhere than the library needs its `seen_share`: from a small part
            of a surface its size is not known.
    """

    named_share: float = 0.5
    doubted_above_m: float = 1e-3
    explained_m: float = 2.5e-3
    active: ActiveShapeSettings = field(
        default_factory=lambda: ActiveShapeSettings(one_hot=False, most_shapes=8)
    )
    rounds: int = 2
    robust_scale_m: float = 0.01
    exposed_m: float = 0.01
    significance: float = 0.2
    surface_error_m: float = 1.5e-3
    visibility: VisibilitySettings = field(default_factory=VisibilitySettings)
    evidence: EvidenceSettings = field(default_factory=EvidenceSettings)


def with_shape_mode(settings: CorrectorSettings, mode: ShapeMode) -> CorrectorSettings:
    """The settings of a corrector whose shapes come from a source.

    Args:
        settings: of a corrector.
        mode: "auto" leaves the settings as they are; "library" leaves the network's own shape out;
            "active" combines shapes, as Algorithm 1 does in any mode but "network" and "prior".
    """
    if mode in ("network", "prior"):
        return replace(settings, shape="none")
    active, hull = settings.active_shape, settings.projected_gradient
    if mode == "library" and settings.shape == "projected_gradient":
        return replace(settings, projected_gradient=replace(hull, own_code=False))
    if mode == "library":
        return replace(settings, active_shape=replace(active, own_code=False))
    if mode == "active" and settings.shape == "lsq":
        combined = replace(active, one_hot=False)
        return replace(settings, active_shape=combined, rounds=max(2, settings.rounds))
    return settings


def is_named(library: PreparedLibrary, codes: Tensor, shapes: Shapes, share: float) -> Tensor:
    """Whether the network's codes (B, C) name the library shapes (B,) that objects were given.

    Args:
        library: the known shapes; a library of one names it always.
        codes: of the network.
        shapes: of the objects; those outside the library are not named.
        share: see `ShapeChoiceSettings.named_share`.
    """
    distances = library.distances(codes)
    row = shapes.index.clamp_min(0)[:, None]
    own = distances.gather(-1, row).squeeze(-1)
    others = distances.scatter(-1, row, torch.inf).amin(-1)
    return (shapes.index >= 0) & (own <= share * others)


@torch.no_grad()
def name_doubts(library: PreparedLibrary, codes: Tensor) -> Tensor:
    """Measure how doubtful the names are that the network's codes (B, C) give.

    Returns:
        (B,) the distance of a code from that of the nearest shape, or from the line between this
        and the code of a shape similar to it, over the distance from the nearest code of all other
        shapes. Zero where there are no others.
    """
    distances = library.distances(codes)
    doubts = []
    for code, row, first in zip(codes, distances, distances.argmin(-1).tolist(), strict=True):
        similar = list(library.similar(first))
        start, along = library.codes[first], library.codes[similar] - library.codes[first]
        share = (along @ (code - start)) / along.square().sum(-1)
        off = (code - start - share.clamp(0, 1)[:, None] * along).norm(dim=-1)
        others = row.clone()
        others[[first, *similar]] = torch.inf
        doubts.append(torch.cat((off, row[first : first + 1])).min() / others.min())
    return torch.stack(doubts) if doubts else distances.new_zeros(0)


class ShapeChooser:
    """Chooses between the sources of a shape.

    Attributes:
        library: the known shapes.
        settings: see `ShapeChoiceSettings`.
    """

    def __init__(
        self,
        field: ShapeField,
        library: PreparedLibrary,
        corrector: CorrectorSettings,
        settings: ShapeChoiceSettings | None = None,
    ) -> None:
        """Take a library into use.

        Args:
            field: f_d.
            library: the known shapes.
            corrector: which returns library shapes.
            settings: see `ShapeChoiceSettings`.
        """
        self._field, self.library, self._corrector = field, library, corrector
        self.settings = settings or ShapeChoiceSettings()

    @torch.no_grad()
    def choose(
        self, hypotheses: Hypotheses, codes: Tensor, images: Images, correction: Correction
    ) -> Correction:
        """The correction, with another source of the shape where that explains an object better.

        Args:
            hypotheses: B of them, of the correction.
            codes: (B, C) of the network.
            images: that the objects were seen in.
            correction: with library shapes.
        """
        shapes, share = correction.shapes, self.settings.named_share
        named = is_named(self.library, codes, shapes, share)
        rows = (~named).nonzero().squeeze(-1)
        if len(rows) == 0:
            return correction
        some, kept = hypotheses.rows(rows), take_rows(correction, rows)
        surfaces = self.library.surfaces_of(kept.shapes, outside=())
        library = self._fit(some, images, kept, surfaces, is_library=True)
        doubted = (library.cost > self.settings.doubted_above_m**2).nonzero().squeeze(-1)
        if len(doubted) == 0:
            return correction
        rows, some, library = rows[doubted], some.rows(doubted), take_rows(library, doubted)
        own = Shapes.of_codes(codes[rows])
        network = self._decoded_fit(some, images, self._own_shape(some, own), library)
        chosen = self._best((library, network))
        left = (network.misfit > self.settings.explained_m**2).nonzero().squeeze(-1)
        if len(left) > 0:
            some, own = some.rows(left), own.rows(left)
            library, network = take_rows(library, left), take_rows(network, left)
            best = self._best_combined(some, own, images, library, network)
            chosen = replace_rows(chosen, left, best)
        return replace_rows(correction, rows, chosen)

    def _best_combined(
        self, hypotheses: Hypotheses, own: Shapes, images: Images, library: _Fit, network: _Fit
    ) -> Correction:
        """The simplest of the sources that no other is clearly better than."""
        # A single shape that was fitted to the points seen may have slid along them.
        fitted = select_rows(
            network.cost < library.cost, network.correction, library.correction
        ).T_object_camera
        combined = [
            self._decoded_fit(hypotheses, images, self._combination(hypotheses, own, T), library)
            for T in (hypotheses.T_registered, fitted)
        ]
        return self._best((library, *combined, network))

    def cost(
        self,
        hypotheses: Hypotheses,
        images: Images,
        correction: Correction,
        within_mask: bool = True,
    ) -> Tensor:
        """Cost (B,) of what depth and free space contradict of corrected objects, square metres.

        Args:
            hypotheses: B of them.
            images: that the objects were seen in.
            correction: of the same objects.
            within_mask: what is off the mask with nothing in front of it counts as well; otherwise
                only what is in space seen to be empty, as part of the mask may be missing.
        """
        surfaces = self.library.surfaces_of(correction.shapes)
        return self._fit(hypotheses, images, correction, surfaces, within_mask=within_mask).cost

    def _own_shape(self, hypotheses: Hypotheses, own: Shapes) -> Correction:
        """The network's shapes at their best poses."""
        kept = with_shape_mode(self._corrector, "network")
        return correct(
            self._field, hypotheses.correspondences, own, hypotheses.T_registered, None, kept
        )

    def _combination(self, hypotheses: Hypotheses, own: Shapes, T: Tensor) -> Correction:
        """Combinations of library shapes, from poses T (B, 4, 4); infinite objective for none."""
        observed = hypotheses.correspondences.sanitized()
        best = None
        pose = replace(self._corrector.second_order, move=ANY_FALL, ray_offsets_m=())
        for _ in range(self.settings.rounds):
            seen = ObjectPoints.of(transform(T, observed.points), observed.valid)
            found = least_squares(self._field, seen, own, self.library, self.settings.active).shapes
            step = refine_pose(self._field, observed, found, T, pose)
            T = step.T_object_camera
            pnc = torch.where(observed.valid[..., None], transform(T, observed.points), 0.0)
            active = torch.full_like(found.index, int(ShapeSource.ACTIVE))
            fit = Correction(T, found, pnc, step.objective, step.iterations, active)
            # A single library shape is no combination: it was compared already.
            fit = fit._replace(objective=step.objective.masked_fill(found.index >= 0, torch.inf))
            best = fit if best is None else select_rows(fit.objective < best.objective, fit, best)
        return best

    def _decoded_fit(
        self, hypotheses: Hypotheses, images: Images, correction: Correction, library: _Fit
    ) -> _Fit:
        """The correction with its cost, where it can be clearly better than the library's shape.

        The objective of the depth alone is a lower bound of the cost, and decoding bodies is dear.
        """
        none = torch.full_like(library.cost, torch.inf)
        rows = self._is_better(library.cost, correction.objective).nonzero().squeeze(-1)
        if len(rows) == 0:
            return _Fit(correction, none, none)
        some, found = hypotheses.rows(rows), take_rows(correction, rows)
        seen = ObjectPoints.of(found.pnc, some.correspondences.sanitized().valid)
        shapes, surfaces = decoded_bodies(self._field, found.shapes, seen)
        fit = self._fit(some, images, found._replace(shapes=shapes), surfaces)
        return replace_rows(_Fit(correction, none, none), rows, fit)

    def _fit(
        self,
        hypotheses: Hypotheses,
        images: Images,
        correction: Correction,
        surfaces: SurfacePoints,
        is_library: bool = False,
        within_mask: bool = True,
    ) -> _Fit:
        """The correction with its cost: what the depth and what the free space contradict.

        Shapes that are all of the library need not be seen from several sides.
        """
        settings, T = self.settings, correction.T_object_camera
        observed = hypotheses.correspondences.sanitized()
        field = self._field.for_library() if is_library else self._field
        sdf = captured_sdf(field, transform(T, observed.points), correction.shapes)
        scale = torch.full_like(correction.objective, settings.robust_scale_m)
        cost = surface_objective(sdf, observed.valid, scale)
        seen = exposed(surfaces, T, hypotheses.labels, images, settings.visibility)
        contradicted = seen.before | seen.outside if within_mask else seen.before
        wrong = contradicted.sum(-1) / seen.known.sum(-1).clamp_min(1)
        cost = cost + wrong * settings.exposed_m**2
        # The combination of an object may have been left out.
        refused = correction.objective.isinf()
        if not is_library:
            placed = hypotheses._replace(T_object_camera=T, shapes=correction.shapes)
            shown = surface_evidence(self._field, placed, surfaces, images, settings.evidence).seen
            is_new = correction.sources != int(ShapeSource.LIBRARY)
            refused = refused | (is_new & (shown < settings.evidence.seen_share))
        return _Fit(correction, cost, cost.masked_fill(refused, torch.inf))

    def _best(self, fits: Sequence[_Fit]) -> Correction:
        """The simplest of the fits that no other is clearly better than, in their order."""
        best = fits[0]
        for other in fits[1:]:
            best = select_rows(self._is_better(best.cost, other.cost), other, best)
        return best.correction

    def _is_better(self, before: Tensor, after: Tensor) -> Tensor:
        settings = self.settings
        return clearly_better(before, after, settings.significance, settings.surface_error_m)
