"""The paper's settings of self-training (section 5, appendix D.2), by name of the data set."""

from __future__ import annotations

from dataclasses import dataclass

from crisp_ros.adaptation.learner import LearnerSettings
from crisp_ros.correction.certificate import CertificateSettings
from crisp_ros.observation.observe import ObservationSettings
from crisp_ros.pipeline import EstimatorSettings
from crisp_ros.pipeline.paper_settings import as_in_paper


@dataclass(frozen=True)
class PaperRecipe:
    """Self-training as the paper has it: every certified sample once, without a guard.

    Attributes:
        corrector: of the pseudo-labels, a key of `CORRECTORS`.
        learner: rates, weight decay and batch.
        certificate: p and eps of eq. (12), the only condition of a pseudo-label.
        max_depth_m: larger depth is invalid, metres.
    """

    corrector: str
    learner: LearnerSettings
    certificate: CertificateSettings
    max_depth_m: float

    def estimator_settings(self, seed: int = 0) -> EstimatorSettings:
        """Settings of the estimator of pseudo-labels; the corrector is to be chosen.

        Args:
            seed: of the sampling of points.
        """
        settings = EstimatorSettings(
            observation=ObservationSettings(max_depth_m=self.max_depth_m, seed=seed),
            certificate=self.certificate,
            covariance=None,
        )
        return as_in_paper(settings)


RECIPES = {
    "ycbv": PaperRecipe(
        "alg2",
        LearnerSettings(pnc_rate=3e-4, shape_rate=4e-4, weight_decay=1e-5, batch=3),
        CertificateSettings(quantile=0.98, threshold_m=1e-2),
        10.0,
    ),
    "spe3r": PaperRecipe(
        "alg1",
        LearnerSettings(pnc_rate=3e-4, shape_rate=3e-4, weight_decay=1e-5, batch=10),
        CertificateSettings(quantile=0.97, threshold_m=2e-2),
        100.0,
    ),
}
