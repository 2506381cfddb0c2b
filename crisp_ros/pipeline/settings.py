"""Settings of the estimator, one part a stage."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import get_args

from crisp_ros.correction.certificate import CertificateSettings
from crisp_ros.correction.corrector import CorrectorSettings
from crisp_ros.correction.covariance import CovarianceSettings
from crisp_ros.correction.empty_space_refinement import EmptySpaceRefinementSettings
from crisp_ros.correction.library_tests import LibraryTestSettings
from crisp_ros.correction.orientation import OrientationSettings
from crisp_ros.correction.prior_shape import PriorShapeSettings
from crisp_ros.correction.shape_choice import ShapeChoiceSettings, ShapeMode
from crisp_ros.correction.surface_evidence import EvidenceSettings
from crisp_ros.correction.symmetry_search import SymmetrySearchSettings
from crisp_ros.correction.verification import VerificationSettings
from crisp_ros.correction.visibility import VisibilitySettings
from crisp_ros.geometry.isosurface import IsosurfaceSettings
from crisp_ros.geometry.registration import RegistrationSettings
from crisp_ros.network.precision import PRECISIONS, Precision
from crisp_ros.observation.mask_refinement import MaskRefinementSettings
from crisp_ros.observation.observe import ObservationSettings
from crisp_ros.pipeline.added_shapes import AddedShapeSettings
from crisp_ros.pipeline.named_shape_settings import NamedShapeSettings
from crisp_ros.pipeline.observed_hull import ObservedHullSettings


@dataclass(frozen=True)
class EstimatorSettings:
    """Settings of the `Estimator`, one part a stage.

    Attributes:
        masks: of the refinement of given masks; None takes them as they are.
        observation: of the crops and depth points.
        registration: of the poses from the network's coordinates.
        corrector: None leaves the network's answer as it is. Where a model has no shape library
            the corrector keeps the network's shapes.
        shape_mode: where shapes come from: "library", the known shapes; "active", a combination of
            them; "network", the network's own code; "prior", fitted to what was seen under the
            model's prior over shapes, a second of a core for each object; "auto", the library, and
            where the network does not name one of its shapes, the first three compete; with a model
            that has a prior and no library, the prior. Algorithms 1 and 2 have the library's shapes
            and the network's own in "auto"; see `with_shape_mode` for the others.
        shape_choice: of "auto".
        added_shapes: of the search, in "library" and "auto", for shapes that were added to the
            library after the training.
        named_shapes: of the search for the shapes that the network names, where nothing is
            certified; None leaves that out, as the paper does.
        prior_shapes: of "prior", and of a second model's prior.
        prior_searches: in "auto", unknown objects whose search under the prior of a second model,
            if the estimator has one, begins in a frame, a second of a core each; more wait for a
            later frame, and those of a lone image are all searched. 0: none.
        symmetry_search: corrected poses are compared with their near symmetries; None leaves that
            out, as the paper does.
        empty_space: poses with a part of the shape where the camera has seen that nothing is are
            refined against that; None leaves that out, as the paper does.
        orientation: the print of a shape decides between orientations that depth cannot tell
            apart; None leaves that out, as the paper does.
        certificate: eq. (12) and the coverage.
        visibility: the certificate also demands that the shape stays out of space seen to be empty;
            None leaves that out, as the paper does.
        evidence: what else a shape needs where the coordinates do not agree with it; tested along
            with `visibility`.
        known_shapes: objects that nothing explains are unknown, see `ObjectEstimate.unknown`; None
            leaves that out.
        observed_hull: of the hulls of unknown objects; None leaves them out.
        ambiguity: every certified object is compared with all library shapes: is it degenerate?
            This takes a multiple of all the rest; trackers do it now and then, from all views.
        covariance: of the poses; None leaves them unknown.
        isosurface: of the meshes.
        shape_tables: signed distances of library shapes are looked up in tables, see
            `TabulatedField`, which are kept under the user's cache folder; otherwise the decoder
            computes them, some hundred times slower.
        network_batch: crops in one pass of the network.
        precision: of the network's arithmetic. bfloat16 and, on a GPU, float16 are about twice as
            fast where the processor has them, and slower where it has not; "auto" measures that in
            `Estimator.warm_up`, and is float32 without it.
        cached_meshes: most meshes that are kept.
    """

    masks: MaskRefinementSettings | None = field(default_factory=MaskRefinementSettings)
    observation: ObservationSettings = field(default_factory=ObservationSettings)
    registration: RegistrationSettings = field(default_factory=RegistrationSettings)
    corrector: CorrectorSettings | None = field(default_factory=CorrectorSettings)
    shape_mode: ShapeMode = "auto"
    shape_choice: ShapeChoiceSettings = field(default_factory=ShapeChoiceSettings)
    added_shapes: AddedShapeSettings = field(default_factory=AddedShapeSettings)
    named_shapes: NamedShapeSettings | None = field(default_factory=NamedShapeSettings)
    prior_shapes: PriorShapeSettings = field(default_factory=PriorShapeSettings)
    prior_searches: int = 1
    symmetry_search: SymmetrySearchSettings | None = field(default_factory=SymmetrySearchSettings)
    empty_space: EmptySpaceRefinementSettings | None = field(
        default_factory=EmptySpaceRefinementSettings
    )
    orientation: OrientationSettings | None = field(default_factory=OrientationSettings)
    certificate: CertificateSettings = field(default_factory=CertificateSettings)
    visibility: VisibilitySettings | None = field(default_factory=VisibilitySettings)
    evidence: EvidenceSettings = field(default_factory=EvidenceSettings)
    known_shapes: LibraryTestSettings | None = field(default_factory=LibraryTestSettings)
    observed_hull: ObservedHullSettings | None = field(default_factory=ObservedHullSettings)
    ambiguity: LibraryTestSettings | None = None
    covariance: CovarianceSettings | None = field(default_factory=CovarianceSettings)
    isosurface: IsosurfaceSettings = field(default_factory=IsosurfaceSettings)
    shape_tables: bool = True
    network_batch: int = 16
    precision: Precision = "float32"
    cached_meshes: int = 64

    def __post_init__(self) -> None:
        modes = get_args(ShapeMode)
        if self.shape_mode not in modes:
            raise ValueError(
                f"shape_mode is {self.shape_mode!r}: expected one of {', '.join(modes)}"
            )
        if self.network_batch < 1 or self.cached_meshes < 1:
            raise ValueError(
                f"network_batch {self.network_batch}, cached_meshes {self.cached_meshes}: "
                "expected at least 1"
            )
        if self.prior_searches < 0:
            raise ValueError(f"prior_searches is {self.prior_searches}: expected at least 0")
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision is {self.precision!r}: expected one of {PRECISIONS}")

    @property
    def verification(self) -> VerificationSettings:
        """The settings of what is tested of pose and shape."""
        return VerificationSettings(
            self.certificate, self.visibility, self.evidence, self.known_shapes, self.covariance
        )
