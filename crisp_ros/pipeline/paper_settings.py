"""Settings of the estimator with the paper's correctors, without what goes beyond the paper."""

from __future__ import annotations

from dataclasses import replace

from crisp_ros.correction.corrector_settings import CORRECTORS, NODE_CORRECTOR
from crisp_ros.correction.shape_choice import ShapeMode
from crisp_ros.pipeline.settings import EstimatorSettings

_DEFAULTS = EstimatorSettings()
_BEYOND_PAPER = (
    "masks",
    "symmetry_search",
    "empty_space",
    "named_shapes",
    "orientation",
    "visibility",
    "known_shapes",
    "observed_hull",
)


def with_corrector(settings: EstimatorSettings, name: str) -> EstimatorSettings:
    """Settings with a corrector: the node's with all that supports it, the others as in the paper.

    Args:
        settings: of the estimator.
        name: a key of `CORRECTORS`.
    """
    settings = replace(settings, corrector=CORRECTORS[name])
    return settings if name == NODE_CORRECTOR else as_in_paper(settings)


def as_in_paper(settings: EstimatorSettings) -> EstimatorSettings:
    """Settings without what the paper does not have.

    Masks are taken as they are, poses are those of the corrector, and eq. (12) with its p and eps
    is the only condition of the certificate.
    """
    certificate = replace(settings.certificate, minimum_coverage=0.0)
    return replace(settings, certificate=certificate, **dict.fromkeys(_BEYOND_PAPER))


def beyond_paper(settings: EstimatorSettings) -> EstimatorSettings:
    """Settings with all parts that `as_in_paper` leaves out, by default where there is none."""
    parts = {name: getattr(settings, name) or getattr(_DEFAULTS, name) for name in _BEYOND_PAPER}
    coverage = _DEFAULTS.certificate.minimum_coverage
    certificate = replace(settings.certificate, minimum_coverage=coverage)
    return replace(settings, certificate=certificate, **parts)


def shape_mode_of_test_objects(corrector: str, mode: ShapeMode) -> ShapeMode:
    """The source of shapes for objects that are not in the library, as on SPE3R and NOCS.

    Algorithm 2 chooses one library shape on YCBV alone; otherwise it solves eq. (10) over the
    simplex, which `mode` "auto" selects here.

    Args:
        corrector: a key of `CORRECTORS`.
        mode: see `EstimatorSettings.shape_mode`.
    """
    return "active" if (corrector, mode) == ("alg2", "auto") else mode
