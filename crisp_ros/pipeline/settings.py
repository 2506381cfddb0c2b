"""Settings of the estimator, one part a stage."""

from __future__ import annotations

from dataclasses import dataclass, field

from crisp_ros.correction.certificate import CertificateSettings
from crisp_ros.correction.corrector import CorrectorSettings
from crisp_ros.correction.covariance import CovarianceSettings
from crisp_ros.correction.library_tests import LibraryCheckSettings
from crisp_ros.correction.symmetry_search import TurnSettings
from crisp_ros.correction.visibility import VisibilitySettings
from crisp_ros.geometry.isosurface import IsosurfaceSettings
from crisp_ros.geometry.registration import RegistrationSettings
from crisp_ros.observation.observe import ObservationSettings


@dataclass(frozen=True)
class EstimatorSettings:
    """Settings of the `Estimator`, one part a stage.

    Attributes:
        observation, registration, certificate, isosurface: of the stages.
        corrector: None leaves the network's answer as it is. Where a model has no shape library
            the corrector keeps the network's shapes.
        turns: corrected poses are compared with those that leave most of the shape in place; None
            leaves that out, as the paper does.
        visibility: the certificate also demands that the shape stays out of space seen to be empty;
            None leaves that out, as the paper does.
        known_shapes: an object that no library shape explains is named as unknown; None leaves that
            out.
        alternatives: every certified object is compared with all library shapes: is it degenerate?
            This takes a multiple of all the rest; trackers do it now and then, from all views.
        covariance: of the poses; None leaves them unknown.
        network_batch: crops in one pass of the network.
        bfloat16: the network's convolutions run in bfloat16, nearly twice as fast on a CPU or GPU
            that has it and slower on one that has not.
        cached_meshes: most meshes that are kept.
    """

    observation: ObservationSettings = field(default_factory=ObservationSettings)
    registration: RegistrationSettings = field(default_factory=RegistrationSettings)
    corrector: CorrectorSettings | None = field(default_factory=CorrectorSettings)
    turns: TurnSettings | None = field(default_factory=TurnSettings)
    certificate: CertificateSettings = field(default_factory=CertificateSettings)
    visibility: VisibilitySettings | None = field(default_factory=VisibilitySettings)
    known_shapes: LibraryCheckSettings | None = field(default_factory=LibraryCheckSettings)
    alternatives: LibraryCheckSettings | None = None
    covariance: CovarianceSettings | None = field(default_factory=CovarianceSettings)
    isosurface: IsosurfaceSettings = field(default_factory=IsosurfaceSettings)
    network_batch: int = 16
    bfloat16: bool = False
    cached_meshes: int = 64

    def __post_init__(self) -> None:
        if self.network_batch < 1 or self.cached_meshes < 1:
            raise ValueError(
                f"network_batch {self.network_batch}, cached_meshes {self.cached_meshes}: "
                "expected at least 1"
            )
