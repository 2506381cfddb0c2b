"""Search for the shapes that the network names, where they have no certificate or are in doubt.

The network's code is right more often than its coordinates: it names a box whose pose it cannot
read from the narrow side. Where its code is between those of two similar clamps, its coordinates
may be in the wrong one's frame. The shapes that it may mean are then registered globally, and
compared on depth and on the space seen to be empty. What is found counts only with a certificate,
and none is given where two shapes explain an object alike.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from crisp_ros.correction.batch import take_rows
from crisp_ros.correction.certificate import Condition
from crisp_ros.correction.corrector import Correction
from crisp_ros.correction.correspondences import Shapes
from crisp_ros.correction.empty_space_refinement import (
    EmptySpaceRefinementSettings,
    refine_against_empty_space,
)
from crisp_ros.correction.global_registration import (
    GlobalFit,
    register_globally,
)
from crisp_ros.correction.hypotheses import Hypotheses
from crisp_ros.correction.prepared_library import PreparedLibrary
from crisp_ros.correction.residuals import clearly_better
from crisp_ros.correction.shape_choice import ShapeChooser, is_named, name_doubts
from crisp_ros.correction.shape_field import ShapeField
from crisp_ros.correction.surface_evidence import coordinates_agree
from crisp_ros.correction.verification import Verifier
from crisp_ros.correction.visibility import Images
from crisp_ros.pipeline.added_shapes import (
    NO_AGREEMENT,
    ExpectedObject,
    corrected_fits,
    expected_at,
    last_fit,
    with_correction,
)
from crisp_ros.pipeline.named_shape_settings import NamedShapeSettings
from crisp_ros.pipeline.solution import PlacedObjects

_NOT_COMPARED = "shape in doubt: not compared with similar ones in this frame"
_NOT_NAMED = "shape in doubt: the network names another one"


class NamedShapes(NamedTuple):
    """Changes that the search makes to B objects.

    Attributes:
        placed: the objects with the shapes found; None where nothing was found.
        found: their rows.
        decided: the condition that no two shapes explain an object alike; None where it holds for
            all.
    """

    placed: PlacedObjects | None
    found: tuple[int, ...]
    decided: Condition | None


class _Objects(NamedTuple):
    """B objects, codes (B, C) of the network, and which have a shape from the frames before."""

    placed: PlacedObjects
    hypotheses: Hypotheses
    codes: Tensor
    images: Images
    followed: Collection[int]


class _Candidates(NamedTuple):
    """F shapes at their best poses for objects of a batch, with costs (F,) in square metres."""

    rows: Tensor
    correction: Correction
    cost: Tensor
    certified: Tensor


class _Candidate(NamedTuple):
    """A shape for one object, on the host, by its place among all; -1 where it is there already."""

    place: int
    shape_index: int
    cost: float
    certified: bool


class NamedShapeSearch:
    """Tries the shapes that the network may mean on objects without a certificate, or in doubt."""

    def __init__(
        self,
        field: ShapeField,
        trained: PreparedLibrary,
        chooser: ShapeChooser,
        verifier: Verifier,
        settings: NamedShapeSettings,
        empty_space: EmptySpaceRefinementSettings | None,
    ) -> None:
        """Take a library into use.

        Args:
            field: f_d.
            trained: the shapes that the network knows.
            chooser: among all shapes.
            verifier: of the estimates.
            settings: see `NamedShapeSettings`.
            empty_space: of the refinement of what is found; None leaves it out.
        """
        self._field, self._library, self._chooser = field, trained, chooser
        self._verifier, self._settings = verifier, settings
        self._empty_space = empty_space

    @torch.no_grad()
    def apply(
        self,
        placed: PlacedObjects,
        labels: Tensor,
        codes: Tensor,
        images: Images,
        certified: Tensor,
        expected: Sequence[ExpectedObject] = (),
    ) -> NamedShapes:
        """Place named shapes where they get a certificate and explain an object better.

        Args:
            placed: B objects.
            labels: (B,) of the objects in the label image.
            codes: (B, C) of the network.
            images: that they were seen in.
            certified: (B,) bool, the objects that have a certificate; with a shape that the network
                names they stay.
            expected: objects of the frames before; without them every object is new.
        """
        settings = self._settings
        hypotheses = placed.hypotheses(labels)
        named = self._are_named(hypotheses.shapes, codes)
        evidence = self._verifier.settings.evidence
        agreed = coordinates_agree(hypotheses, settings.agreed_share, evidence)
        known = torch.where(certified, named, agreed)
        count = min(2, len(self._library))
        nearest = self._library.distances(codes).topk(count, largest=False).indices
        nearest, second = nearest[:, 0], nearest[:, -1]
        numbers = torch.stack((known, certified, nearest, second, hypotheses.shapes.index)).tolist()
        strangers = self._strangers(placed, hypotheses, images, numbers)
        was_certified = [bool(held) and r not in strangers for r, held in enumerate(numbers[1])]
        fits: dict[int, GlobalFit] = {}
        followed = set()
        reasons = [_NOT_NAMED * (row in strangers) for row in range(len(was_certified))]
        # A certified shape is in doubt where two similar ones have the nearest codes.
        left = [
            row
            for row, (flag, _, first, other, _) in enumerate(zip(*numbers, strict=True))
            if not flag and (not was_certified[row] or other in self._library.similar(first))
        ]
        for place, row in enumerate(left):
            one = hypotheses.rows(slice(row, row + 1))
            last = expected_at(one.correspondences, expected)
            if place < settings.most_objects and (last is None or self._is_searched(last)):
                fit = self._fit(one, codes[row : row + 1], images)
            elif was_certified[row]:
                fit = None
                if last is None or not last.shape_certified:
                    reasons[row] = _NOT_COMPARED
            else:
                fit = self._last_fit(one, last)
                followed.add(row)
            if fit is not None:
                fits[row] = fit
        changed, found = None, ()
        if fits:
            objects = _Objects(placed, hypotheses, codes, images, followed)
            changed, found = self._best(objects, fits, was_certified, reasons)
        return NamedShapes(changed, found, _condition(reasons, certified))

    def _strangers(
        self,
        placed: PlacedObjects,
        hypotheses: Hypotheses,
        images: Images,
        numbers: Sequence[Sequence[int]],
    ) -> set[int]:
        """The certified objects with a shape that the network does not name, and that fits poorly.

        Its code is nearest to that of a shape which is not similar to it.

        Args:
            placed: B objects.
            hypotheses: the same.
            images: that they were seen in.
            numbers: of B objects: whether their shapes are named, whether they are certified, the
                nearest and the second code in the library, and their shapes there.
        """
        rows = [
            row
            for row, (_, held, first, _, index) in enumerate(zip(*numbers, strict=True))
            if held and 0 <= index < len(self._library)
            if index != first and index not in self._library.similar(first)
        ]
        if not rows:
            return set()
        some = torch.tensor(rows, device=hypotheses.labels.device)
        correction = take_rows(placed.correction, some)
        costs = self._chooser.cost(hypotheses.rows(some), images, correction, within_mask=False)
        poor = (costs > self._chooser.settings.explained_m**2).tolist()
        return {row for row, is_poor in zip(rows, poor, strict=True) if is_poor}

    def _are_named(self, shapes: Shapes, codes: Tensor) -> Tensor:
        """Whether the network names the shapes (B,); of those that were added it knows nothing."""
        is_added = shapes.index >= len(self._library)
        known = shapes._replace(index=shapes.index.masked_fill(is_added, -1))
        share = 1 / self._settings.code_ratio
        return is_added | is_named(self._library, codes, known, share)

    def _best(
        self,
        objects: _Objects,
        fits: Mapping[int, GlobalFit],
        was_certified: Sequence[bool],
        reasons: list[str],
    ) -> tuple[PlacedObjects | None, tuple[int, ...]]:
        """All with the best certified shapes, None where nothing changes; and the rows of these.

        Where two shapes explain an object alike, this is added to the reasons.
        """
        tried = self._candidates(objects, fits)
        by_row: dict[int, list[_Candidate]] = {row: [] for row in fits}
        shapes = tried.correction.shapes.index
        numbers = (part.tolist() for part in (tried.rows, shapes, tried.cost, tried.certified))
        for place, (row, *candidate) in enumerate(zip(*numbers, strict=True)):
            by_row[row].append(_Candidate(place, *candidate))
        present = self._present(objects, {row: was_certified[row] for row in fits})
        taken = {}
        for row, candidates in by_row.items():
            best, rivals = self._compared(candidates, present[row])
            if best.certified and rivals:
                alike = sorted({candidate.shape_index for candidate in (best, *rivals)})
                names = [self._chooser.library.names[index] for index in alike]
                reasons[row] = f"{' and '.join(names)} explain the object alike"
            elif best.certified and best.place >= 0:
                taken[row], reasons[row] = best.place, ""
        if not taken:
            return None, ()
        places = torch.tensor(list(taken.values()), device=tried.rows.device)
        correction = take_rows(tried.correction, places)
        return with_correction(objects.placed, tried.rows[places], correction), tuple(taken)

    def _compared(
        self, candidates: Sequence[_Candidate], present: _Candidate
    ) -> tuple[_Candidate, list[_Candidate]]:
        """The best candidate for an object, and other library shapes that explain it alike."""
        if present.certified:
            best = self._replacing(candidates, present)
        else:
            best = min(candidates, key=lambda candidate: candidate.cost)
        rivals = [
            other
            for other in (*candidates, present)
            if other.shape_index not in (-1, best.shape_index)
            and best.shape_index >= 0
            and not self._is_better(other, best)
        ]
        return best, rivals

    def _replacing(self, candidates: Sequence[_Candidate], present: _Candidate) -> _Candidate:
        """The candidate in the place of a certified shape, or that shape.

        It stays unless a certified one is clearly better. But one from elsewhere than the library,
        which has been fitted to the points, must itself be clearly better to stay.
        """
        certified = [candidate for candidate in candidates if candidate.certified]
        if not certified:
            return present
        best = min(certified, key=lambda candidate: candidate.cost)
        if present.shape_index < 0:
            return present if self._is_better(best, present) else best
        return best if self._is_better(present, best) else present

    def _is_better(self, before: _Candidate, after: _Candidate) -> bool:
        """Whether the second of two candidates is clearly better."""
        settings = self._chooser.settings
        limits = settings.significance, settings.surface_error_m
        return clearly_better(before.cost, after.cost, *limits)

    def _candidates(self, objects: _Objects, fits: Mapping[int, GlobalFit]) -> _Candidates:
        """The fits that can be the best of their object, refined and judged.

        A shape that is similar to the one named, but that the network clearly does not mean, has to
        explain the object well when it is found: a part of a bottle is also a part of a box. So has
        any shape where the network's code is near to none: its name is then often wrong. A code
        that is farther off names nothing.
        """
        placed, hypotheses, codes, images, followed = objects
        promising = {row: self._promising(fit) for row, fit in fits.items()}
        places = [row for row, fit in promising.items() for _ in fit.cost]
        rows = torch.tensor(places, device=hypotheses.labels.device)
        observed = placed.correspondences.rows(rows)
        found = corrected_fits(self._field, observed, list(promising.values()))
        # The coordinates no longer count: they belong to the pose that was refused.
        weights = torch.zeros_like(observed.weights)
        moved = hypotheses.rows(rows)._replace(
            correspondences=observed._replace(weights=weights),
            T_object_camera=found.T_object_camera,
            shapes=found.shapes,
            inlier_share=torch.full_like(hypotheses.inlier_share[rows], NO_AGREEMENT),
        )
        surfaces = self._library.surfaces_of(found.shapes)
        if self._empty_space is not None:
            refined = refine_against_empty_space(
                self._field, moved, surfaces, images, self._empty_space
            )
            moved = moved._replace(T_object_camera=refined.T_object_camera)
            there = PlacedObjects(moved.correspondences, placed.registration, found)
            found = there.with_poses(refined).correction
        verification = self._verifier.verify(moved, images, surfaces=surfaces)
        cost = self._chooser.cost(moved, images, found, within_mask=False)
        settings, explained_m = self._settings, self._chooser.settings.explained_m
        doubts = name_doubts(self._library, codes[rows])
        likely = self._are_within(settings.similar_ratio, codes)[rows, found.shapes.index]
        likely &= doubts <= settings.name_doubt
        likely |= (cost < explained_m**2) & (doubts <= settings.most_doubt)
        likely |= torch.tensor([row in followed for row in places], device=rows.device)
        return _Candidates(rows, found, cost, verification.certificate.certified & likely)

    def _promising(self, fit: GlobalFit) -> GlobalFit:
        """The best shape for an object, and those that are not clearly worse."""
        settings = self._chooser.settings
        limits = settings.significance, settings.surface_error_m
        return take_rows(fit, ~clearly_better(fit.cost, fit.cost[:1], *limits))

    def _present(self, objects: _Objects, certified: Mapping[int, bool]) -> dict[int, _Candidate]:
        """The shapes that objects of a batch have, by row; whether each is certified is given."""
        placed, hypotheses, _, images, _ = objects
        rows = torch.tensor(list(certified), device=hypotheses.labels.device)
        some, correction = hypotheses.rows(rows), take_rows(placed.correction, rows)
        costs = self._chooser.cost(some, images, correction, within_mask=False).tolist()
        numbers = some.shapes.index.tolist(), costs, certified.values()
        candidates = (_Candidate(-1, *number) for number in zip(*numbers, strict=True))
        return dict(zip(certified, candidates, strict=True))

    def _fit(self, hypotheses: Hypotheses, codes: Tensor, images: Images) -> GlobalFit | None:
        """The shapes that the network may mean, for one object; None where none has its size."""
        return register_globally(
            self._field,
            self._library,
            self._meant(codes),
            hypotheses.correspondences,
            hypotheses.labels,
            images,
            self._settings.registration,
        )

    def _are_within(self, ratio: float, codes: Tensor) -> Tensor:
        """The shapes (B, K) bool at most so many times as far from codes (B, C) as the nearest."""
        distances = self._library.distances(codes)
        return distances <= ratio * distances.amin(-1, keepdim=True)

    def _meant(self, codes: Tensor) -> Tensor:
        """The shapes (M,) that codes (1, C) of the network may mean, the likeliest first.

        Those that are similar to the likeliest one are the last.
        """
        count = min(self._settings.most_shapes, len(self._library))
        nearest = self._library.distances(codes)[0].topk(count, largest=False).indices
        meant = nearest[self._are_within(self._settings.code_ratio, codes)[0, nearest]].tolist()
        similar = self._library.similar(meant[0])
        meant += [index for index in similar if index not in meant]
        return torch.tensor(meant[:count], device=codes.device)

    def _last_fit(self, hypotheses: Hypotheses, last: ExpectedObject | None) -> GlobalFit | None:
        """The shape of an object of earlier frames at its last pose.

        Others, and shapes that were added after the training, are not followed here.
        """
        if last is None or not 0 <= last.shape_index < len(self._library):
            return None
        return last_fit(last, self._library, hypotheses.correspondences)

    def _is_searched(self, last: ExpectedObject) -> bool:
        """Whether an object of earlier frames is searched for in this one."""
        settings, seen = self._settings, last.detections
        is_new = seen < settings.searched_detections
        return not last.shape_certified and (is_new or seen % settings.searched_every == 0)


def _condition(reasons: Sequence[str], like: Tensor) -> Condition | None:
    """The condition that there is no reason; None where it holds for all objects."""
    if not any(reasons):
        return None
    held = torch.tensor([reason == "" for reason in reasons], device=like.device)
    return Condition("decided", held, held, tuple(reasons))
