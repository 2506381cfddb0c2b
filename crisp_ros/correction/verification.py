"""Verification of pose and shape hypotheses: certificate, known shape and covariance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from crisp_ros.correction.certificate import (
    Certificate,
    CertificateSettings,
    Condition,
    certify,
    condition,
    eq12_conditions,
    first_of_each,
    with_condition,
)
from crisp_ros.correction.correspondences import Shapes
from crisp_ros.correction.covariance import CovarianceSettings, pose_covariance
from crisp_ros.correction.hypotheses import Hypotheses
from crisp_ros.correction.library_tests import LibraryTestSettings, unknown_object_condition
from crisp_ros.correction.prepared_library import PreparedLibrary
from crisp_ros.correction.reasons import Reasons
from crisp_ros.correction.shape_field import ShapeField
from crisp_ros.correction.surface import SurfacePoints, surface_points
from crisp_ros.correction.surface_evidence import (
    EvidenceSettings,
    FitOfShapes,
    evidence_condition,
    sizes_agree,
)
from crisp_ros.correction.visibility import Images, VisibilitySettings, visibility_conditions

_NOTHING_AGREES = (
    "unknown object: no shape is certified, and the coordinates do not agree on pose and size"
)


@dataclass(frozen=True)
class VerificationSettings:
    """Tests of pose and shape.

    Attributes:
        certificate: eq. (12) and the coverage.
        visibility: free space and silhouette; None leaves them out, as the paper does.
        evidence: what else a shape needs, above all where the coordinates do not agree with it;
            tested along with the visibility.
        known_shapes: an object that nothing explains is unknown; None leaves that out.
        covariance: of the poses; None leaves them unknown.
    """

    certificate: CertificateSettings = field(default_factory=CertificateSettings)
    visibility: VisibilitySettings | None = field(default_factory=VisibilitySettings)
    evidence: EvidenceSettings = field(default_factory=EvidenceSettings)
    known_shapes: LibraryTestSettings | None = field(default_factory=LibraryTestSettings)
    covariance: CovarianceSettings | None = field(default_factory=CovarianceSettings)


class Verification(NamedTuple):
    """The verdict on B hypotheses.

    Attributes:
        certificate: with all conditions.
        known: the condition that something explains the object, a library shape or coordinates
            that agree; None where not tested.
        size_ratios: (B,) of the objects, see `Correspondences`.
    """

    certificate: Certificate
    known: Condition | None
    size_ratios: Tensor

    @property
    def unknown(self) -> Tensor:
        """Mask of the objects that nothing explains, (B,) bool."""
        if self.known is None:
            return torch.zeros_like(self.certificate.certified)
        return ~self.known.held


class Verifier:
    """Verifies hypotheses, for the estimator and the tracker by the same conditions.

    Attributes:
        settings: may be replaced between frames.
    """

    def __init__(
        self, field: ShapeField, library: PreparedLibrary | None, settings: VerificationSettings
    ) -> None:
        """Take a field and a library into use.

        Args:
            field: f_d.
            library: the known shapes; without it nothing is called unknown.
            settings: see `VerificationSettings`.
        """
        self.settings = settings
        self._field, self._library = field, library
        self._trained = library and library.trained

    def surfaces(self, shapes: Shapes) -> SurfacePoints:
        """Points on shapes (B,) with boxes."""
        if self._library is None:
            return surface_points(self._field, shapes)
        return self._library.surfaces_of(shapes)

    def verify(
        self,
        hypotheses: Hypotheses,
        images: Images | None,
        known: Condition | None = None,
        surfaces: SurfacePoints | None = None,
        conditions: Sequence[Condition] = (),
    ) -> Verification:
        """Test all conditions.

        Args:
            hypotheses: B of them.
            images: that the objects were seen in; None leaves free space and silhouette out.
            known: the condition of an earlier verification of the same objects from the same data,
                which is not tested again: a hypothesis that is certified shows them to be known.
            surfaces: points on the shapes, if they are at hand.
            conditions: further ones that must hold too.
        """
        settings = self.settings
        sees = settings.visibility is not None and images is not None
        if sees and surfaces is None:
            surfaces = self.surfaces(hypotheses.shapes)
        conditions = (*conditions, *self._visibility(hypotheses, images, surfaces))
        certificate = certify(self._field, hypotheses, settings.certificate, conditions)
        size_ratios = hypotheses.correspondences.size_ratios
        sized = sizes_agree(size_ratios, settings.evidence)
        if sees:
            certificate = self._with_evidence(certificate, sized, hypotheses, surfaces, images)
        if known is None:
            known = self._test_known_shapes(hypotheses, certificate, sized)
        else:
            known = known.unless(certificate.certified)
        if known is None:
            return Verification(certificate, None, size_ratios)
        return Verification(with_condition(certificate, known), known, size_ratios)

    def conditions(self, hypotheses: Hypotheses, images: Images | None) -> tuple[Condition, ...]:
        """All conditions of the certificate of B hypotheses, each by its name; none is combined.

        Whether the object is known is not among them: it depends on the others.
        """
        own = eq12_conditions(self._field, hypotheses, self.settings.certificate)
        return (*own, *self._visibility(hypotheses, images))

    def covariance(self, hypotheses: Hypotheses) -> Tensor | None:
        """Covariances (B, 6, 6) float64 of the poses, see `pose_covariance`; None if not wanted."""
        if self.settings.covariance is None:
            return None
        return pose_covariance(self._field, hypotheses, self.settings.covariance)

    def _visibility(
        self, hypotheses: Hypotheses, images: Images | None, surfaces: SurfacePoints | None = None
    ) -> tuple[Condition, ...]:
        """Free space and silhouette; nothing where they are not wanted or cannot be tested."""
        if self.settings.visibility is None or images is None:
            return ()
        return visibility_conditions(
            self.surfaces(hypotheses.shapes) if surfaces is None else surfaces,
            hypotheses.T_object_camera,
            hypotheses.labels,
            images,
            self.settings.visibility,
        )

    def _with_evidence(
        self,
        certificate: Certificate,
        sized: Tensor,
        hypotheses: Hypotheses,
        surfaces: SurfacePoints,
        images: Images,
    ) -> Certificate:
        """The certificate, without those that accidental fits would get."""
        found = evidence_condition(
            self._field,
            hypotheses,
            surfaces,
            images,
            FitOfShapes(certificate.residual, certificate.threshold, sized),
            self.settings.evidence,
        )
        # Reasons of the certificate come first.
        found = found.unless(~certificate.certified)
        return with_condition(certificate, found)

    def _test_known_shapes(
        self, hypotheses: Hypotheses, certificate: Certificate, sized: Tensor
    ) -> Condition | None:
        """The condition that something explains each object with enough points.

        Where the coordinates agree on a pose, the shapes that the network knows are tried from it;
        where they do not, only a certificate shows the object to be known.
        """
        settings = self.settings.known_shapes
        if settings is None or self._library is None:
            return None
        tested = hypotheses.inlier_share >= settings.inlier_share
        count = hypotheses.correspondences.valid.sum(-1)
        tested &= count >= self.settings.certificate.minimum_points
        found = unknown_object_condition(
            self._field, hypotheses, tested, self._trained, certificate.threshold, settings
        )
        agreed = sized & (hypotheses.inlier_share >= settings.agreed_share)
        doubted = ~(certificate.certified | agreed)
        doubted &= count >= self.settings.certificate.minimum_points
        nothing = condition("known shape", ~doubted, found.value, lambda _: _NOTHING_AGREES)
        reasons = Reasons.combined((found.reasons, nothing.reasons), first_of_each)
        return found._replace(held=found.held & ~doubted, reasons=reasons)


def registration_condition(hypotheses: Hypotheses) -> Condition:
    """The condition that the network's coordinates agree on a pose."""
    share = hypotheses.inlier_share
    reason = "no pose: too few points agree with the network"
    return condition("registration", share > 0, share, lambda _: reason)
