"""Objects that only a shape explains that was added to the library after the training.

The network does not know such a shape, so that its coordinates lead to no pose. Where neither the
shapes of the training nor the other sources explain an object, the added shapes are registered
globally, and compared with what was found before. An object that has been seen in earlier frames is
not searched again: its pose is followed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crisp_ros.correction.batch import concatenate, replace_rows, take_rows
from crisp_ros.correction.corrector import Correction
from crisp_ros.correction.correspondences import Correspondences
from crisp_ros.correction.global_registration import (
    GlobalFit,
    GlobalRegistrationSettings,
    register_globally,
)
from crisp_ros.correction.hypotheses import Hypotheses
from crisp_ros.correction.pose_lm import PoseLmSettings, refine_pose
from crisp_ros.correction.prepared_library import PreparedLibrary
from crisp_ros.correction.residuals import ANY_FALL, clearly_better
from crisp_ros.correction.shape_choice import ShapeChooser, is_named
from crisp_ros.correction.shape_field import ShapeField
from crisp_ros.correction.shape_source import ShapeSource
from crisp_ros.correction.surface_evidence import coordinates_agree
from crisp_ros.correction.verification import Verifier
from crisp_ros.correction.visibility import Images
from crisp_ros.geometry.se3 import invert, transform, transform_point
from crisp_ros.pipeline.solution import PlacedObjects

NO_AGREEMENT = 1e-3
"""Share of the coordinates that agree with a pose that does not come from them; zero: no pose."""


class ExpectedObject(NamedTuple):
    """An object of the frames before.

    Attributes:
        T_camera_object: (4, 4) the last pose.
        lower: (3,) lower corner of its shape's box, object frame, metres.
        upper: (3,) upper corner.
        shape_index: in the library; -1 where not one of the library.
        detections: frames in which it was seen.
        shape_certified: a frame before certified its shape.
        of_prior_model: the shape is one of the estimator's second model.
    """

    T_camera_object: NDArray[np.float64]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    shape_index: int
    detections: int
    shape_certified: bool = False
    of_prior_model: bool = False

    def of_library(self) -> ExpectedObject:
        """The same without a certificate that the library has not given."""
        return self._replace(shape_certified=False) if self.of_prior_model else self


@dataclass(frozen=True)
class AddedShapeSettings:
    """Settings of `AddedShapeSearch`.

    Attributes:
        registration: of the added shapes.
        searched_detections: an object is searched for in so many frames, and then followed.
        agreed_share: the network knows an object of whose points this share agrees with its
            coordinates, if these agree on the size too; no added shape is tried on it.
    """

    registration: GlobalRegistrationSettings = field(default_factory=GlobalRegistrationSettings)
    searched_detections: int = 3
    agreed_share: float = 0.5


class AddedShapeSearch:
    """Tries the shapes that were added to a library on the objects that nothing else explains."""

    def __init__(
        self,
        field: ShapeField,
        trained: PreparedLibrary,
        verifier: Verifier,
        chooser: ShapeChooser,
        settings: AddedShapeSettings,
    ) -> None:
        """Take a library into use.

        Args:
            field: f_d.
            trained: the shapes that the network knows.
            verifier: of the estimates.
            chooser: among all shapes.
            settings: see `AddedShapeSettings`.
        """
        self._field, self._trained, self._library = field, trained, chooser.library
        self._verifier, self._chooser, self._settings = verifier, chooser, settings
        count = len(self._library)
        self._added = torch.arange(len(trained), count, device=trained.codes.device)

    @torch.no_grad()
    def apply(
        self,
        placed: PlacedObjects,
        labels: Tensor,
        codes: Tensor,
        images: Images,
        expected: Sequence[ExpectedObject] = (),
    ) -> PlacedObjects:
        """All with added shapes where these explain an object better.

        Args:
            placed: B objects with shapes from other sources.
            labels: (B,) of the objects in the label image.
            codes: (B, C) of the network.
            images: that they were seen in.
            expected: objects of the frames before; without them every object is new.
        """
        hypotheses = placed.hypotheses(labels)
        certified = self._verifier.verify(hypotheses, images).certificate.certified
        unexplained = ~self._known_to_network(hypotheses, codes, certified)
        fits: dict[int, GlobalFit] = {}
        for row in unexplained.nonzero().squeeze(-1).tolist():
            fit = self._fit(hypotheses.rows(slice(row, row + 1)), images, expected)
            if fit is not None:
                fits[row] = fit
        if not fits:
            return placed
        rows = torch.tensor(list(fits), device=labels.device)
        found = corrected_fits(self._field, placed.correspondences.rows(rows), list(fits.values()))
        before = take_rows(placed.correction, rows)
        better = self._is_better(hypotheses.rows(rows), images, before, found, certified[rows])
        return with_correction(placed, rows[better], take_rows(found, better))

    def _known_to_network(self, hypotheses: Hypotheses, codes: Tensor, certified: Tensor) -> Tensor:
        """The objects (B,) bool whose shape the network names, where pose or depth agree."""
        share = self._chooser.settings.named_share
        named = is_named(self._trained, codes, hypotheses.shapes, share)
        evidence = self._verifier.settings.evidence
        agreed = coordinates_agree(hypotheses, self._settings.agreed_share, evidence)
        return named & (certified | agreed)

    def _fit(
        self, hypotheses: Hypotheses, images: Images, expected: Sequence[ExpectedObject]
    ) -> GlobalFit | None:
        """The best added shape for one object at its best pose; None where none is to be tried."""
        observed = hypotheses.correspondences
        last = expected_at(observed, expected)
        if last is not None and last.shape_index >= len(self._trained):
            return last_fit(last, self._library, observed)
        if last is not None and last.detections >= self._settings.searched_detections:
            return None
        found = register_globally(
            self._field,
            self._library,
            self._added,
            observed,
            hypotheses.labels,
            images,
            self._settings.registration,
        )
        return found and take_rows(found, slice(0, 1))

    def _is_better(
        self,
        hypotheses: Hypotheses,
        images: Images,
        before: Correction,
        found: Correction,
        was_certified: Tensor,
    ) -> Tensor:
        """Whether the fits found (M,) are certified, and explain depth and free space better than
        what was certified before. Others change no answer."""
        settings = self._chooser.settings
        better = clearly_better(
            self._chooser.cost(hypotheses, images, before),
            self._chooser.cost(hypotheses, images, found),
            settings.significance,
            settings.surface_error_m,
        )
        moved = hypotheses._replace(T_object_camera=found.T_object_camera, shapes=found.shapes)
        certified = self._verifier.verify(moved, images).certificate.certified
        return certified & (better | ~was_certified)


def last_fit(
    last: ExpectedObject, library: PreparedLibrary, observed: Correspondences
) -> GlobalFit:
    """The library shape of an object of the frames before, at its last pose."""
    index = torch.tensor([last.shape_index], device=observed.points.device)
    start = torch.from_numpy(invert(last.T_camera_object)).to(observed.points)[None]
    return GlobalFit(start, library.shapes(index), torch.zeros_like(start[:, 0, 0]))


def corrected_fits(
    field: ShapeField, observed: Correspondences, fits: Sequence[GlobalFit]
) -> Correction:
    """Refine global fits on all points; motions that depth leaves free stay as they are.

    Args:
        field: f_d.
        observed: of M objects; their coordinates do not count.
        fits: M of them.
    """
    fit = concatenate(fits)
    T = fit.T_object_camera
    observed = observed.sanitized().aligned_to(T)
    step = refine_pose(field, observed, fit.shapes, T, PoseLmSettings(move=ANY_FALL))
    T = step.T_object_camera
    pnc = torch.where(observed.valid[..., None], transform(T, observed.points), 0.0)
    sources = torch.full_like(step.iterations, int(ShapeSource.LIBRARY))
    return Correction(T, fit.shapes, pnc, step.objective, step.iterations, sources)


def expected_at(
    observed: Correspondences, expected: Sequence[ExpectedObject]
) -> ExpectedObject | None:
    """The object of earlier frames whose box is around the depth points of one object."""
    points = observed.points[observed.valid]
    if len(points) == 0 or not expected:
        return None
    middle = points.median(0).values.double().cpu().numpy()

    def distance(other: ExpectedObject) -> float:
        """Distance from its middle, in half diagonals of its box."""
        centre = transform_point(other.T_camera_object, (other.lower + other.upper) / 2.0)
        size = float(np.linalg.norm(other.upper - other.lower))
        return 2.0 * float(np.linalg.norm(centre - middle)) / max(size, 1e-6)

    nearest = min(expected, key=distance)
    return nearest if distance(nearest) <= 1.0 else None


def with_correction(placed: PlacedObjects, rows: Tensor, found: Correction) -> PlacedObjects:
    """All with the correction (M,) of some rows (M,), whose coordinates no longer count."""
    (observed, registration, correction), T = placed, found.T_object_camera
    weights = observed.weights.index_fill(0, rows, 0.0)
    first = registration.T_object_camera
    registration = registration._replace(
        T_object_camera=first.index_copy(0, rows, T.to(first)),
        inlier_share=registration.inlier_share.index_fill(0, rows, NO_AGREEMENT),
        converged=registration.converged.index_fill(0, rows, True),
    )
    correction = replace_rows(correction, rows, found)
    return PlacedObjects(observed._replace(weights=weights), registration, correction)
