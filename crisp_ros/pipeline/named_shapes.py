"""Search for the shapes that the network names, where its coordinates lead to no certificate.

The network's code is right more often than its coordinates: it names a box whose pose it cannot
read from the narrow side, or takes one of two similar clamps for the other, whose object frame is
a different one. The few shapes with the nearest codes are then registered globally. What is found
counts only with a certificate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from crisp_ros.correction.batch import take_rows
from crisp_ros.correction.empty_space_refinement import (
    EmptySpaceRefinementSettings,
    refine_against_empty_space,
)
from crisp_ros.correction.global_registration import (
    GlobalFit,
    GlobalRegistrationSettings,
    register_globally,
)
from crisp_ros.correction.hypotheses import Hypotheses
from crisp_ros.correction.prepared_library import PreparedLibrary
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
from crisp_ros.pipeline.solution import PlacedObjects
from crisp_ros.validation import check_ranges, ranged


@dataclass(frozen=True)
class NamedShapeSettings:
    """Settings of `NamedShapeSearch`.

    Attributes:
        registration: of the named shapes.
        most_shapes: shapes that are tried on an object, those with the nearest codes.
        most_objects: objects of a batch that are searched for.
        agreed_share: nothing is tried on an object of whose points this share agrees with the
            coordinates, if these agree on the size too: the network knows its pose.
        searched_detections: an object is searched for in so many frames, and then followed, as one
            whose shape was certified.
        searched_every: and again each time that it was seen in so many frames more.
    """

    registration: GlobalRegistrationSettings = field(default_factory=GlobalRegistrationSettings)
    most_shapes: int = ranged(3, low=1)
    most_objects: int = ranged(8, low=1)
    agreed_share: float = ranged(0.7, low=0.0, high=1.0)
    searched_detections: int = ranged(3, low=0)
    searched_every: int = ranged(30, low=1)

    def __post_init__(self) -> None:
        check_ranges(self)


class NamedShapeSearch:
    """Tries the shapes that the network names on objects without a certificate."""

    def __init__(
        self,
        field: ShapeField,
        library: PreparedLibrary,
        verifier: Verifier,
        settings: NamedShapeSettings,
        empty_space: EmptySpaceRefinementSettings | None,
    ) -> None:
        """Take a library into use.

        Args:
            field: f_d.
            library: the known shapes.
            verifier: of the estimates.
            settings: see `NamedShapeSettings`.
            empty_space: of the refinement of what is found; None leaves it out.
        """
        self._field, self._library = field, library
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
    ) -> PlacedObjects | None:
        """Place named shapes where they get a certificate; None where nothing changes.

        Args:
            placed: B objects.
            labels: (B,) of the objects in the label image.
            codes: (B, C) of the network.
            images: that they were seen in.
            certified: (B,) bool, the objects that have a certificate and stay.
            expected: objects of the frames before; without them every object is new.
        """
        fits: dict[int, GlobalFit] = {}
        hypotheses = placed.hypotheses(labels)
        evidence = self._verifier.settings.evidence
        agreed = coordinates_agree(hypotheses, self._settings.agreed_share, evidence)
        left = (~(certified | agreed)).tolist()
        unexplained = [row for row, is_left in enumerate(left) if is_left]
        for row in unexplained[: self._settings.most_objects]:
            one = slice(row, row + 1)
            fit = self._fit(hypotheses.rows(one), codes[one], images, expected)
            if fit is not None:
                fits[row] = fit
        if not fits:
            return None
        rows = torch.tensor(list(fits), device=labels.device)
        observed = placed.correspondences.rows(rows)
        found = corrected_fits(self._field, observed, list(fits.values()))
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
            found = PlacedObjects(moved.correspondences, placed.registration, found)
            found = found.with_poses(refined).correction
        verification = self._verifier.verify(moved, images, surfaces=surfaces)
        better = verification.certificate.certified.nonzero().squeeze(-1)
        if len(better) == 0:
            return None
        return with_correction(placed, rows[better], take_rows(found, better))

    def _fit(
        self,
        hypotheses: Hypotheses,
        codes: Tensor,
        images: Images,
        expected: Sequence[ExpectedObject],
    ) -> GlobalFit | None:
        """The best named shape for one object at its best pose; None where none is tried."""
        settings, observed = self._settings, hypotheses.correspondences
        last = expected_at(observed, expected)
        if last is not None and not self._is_searched(last):
            # Others, and shapes that were added after the training, are not followed here.
            is_known = 0 <= last.shape_index < len(self._library)
            return last_fit(last, self._library, observed) if is_known else None
        count = min(settings.most_shapes, len(self._library))
        candidates = self._library.distances(codes)[0].topk(count, largest=False).indices
        return register_globally(
            self._field,
            self._library,
            candidates,
            observed,
            hypotheses.labels,
            images,
            settings.registration,
        )

    def _is_searched(self, last: ExpectedObject) -> bool:
        """Whether an object of earlier frames is searched for in this one."""
        settings, seen = self._settings, last.detections
        is_new = seen < settings.searched_detections
        return not last.shape_certified and (is_new or seen % settings.searched_every == 0)
