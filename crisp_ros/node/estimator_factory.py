"""Creation of the estimator from the parameters of the node."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from crisp_ros.correction.covariance import CovarianceSettings
from crisp_ros.network.checkpoint import load_model, load_prior_model
from crisp_ros.network.cpu_threads import set_own_cpu_threads
from crisp_ros.node.parameters.node_parameters import Parameters
from crisp_ros.node.parameters.parameter_values import find_device
from crisp_ros.pipeline import Estimator, EstimatorSettings
from crisp_ros.pipeline.paper_settings import beyond_paper, with_corrector
from crisp_ros.share import BUNDLED_MODELS, DEFAULT_CHECKPOINT, prior_path, share_directory


def make_estimator(parameters: Parameters) -> Estimator:
    """Create the estimator; also sets the number of CPU threads of the calling thread.

    Raises:
        crisp_ros.network.checkpoint.CheckpointError: unusable model file.
        ValueError: the device does not exist.
    """
    set_own_cpu_threads(parameters.threads)
    device = find_device(parameters.device)
    model = load_model(checkpoint_file(parameters), device)
    prior = prior_file(parameters)
    prior_model = None
    if prior is not None and model.library is not None:  # without one, nothing is unknown
        prior_model = load_prior_model(prior, device)
    estimator = Estimator(model, estimator_settings(parameters), device, prior_model)
    if parameters.background_searches:
        estimator.search_in_background()
    return estimator


def checkpoint_file(parameters: Parameters) -> Path:
    """Get the path of the model file."""
    bundled = BUNDLED_MODELS.get(parameters.model, DEFAULT_CHECKPOINT)
    return Path(parameters.checkpoint or share_directory() / bundled)


def prior_file(parameters: Parameters) -> Path | None:
    """Get the path of the file with the prior for unknown objects; None for none."""
    return prior_path(parameters.prior_checkpoint)


def estimator_settings(
    parameters: Parameters,
    settings: EstimatorSettings | None = None,
    with_covariance: bool = True,
) -> EstimatorSettings:
    """Apply the parameters to settings of the estimator.

    Args:
        parameters: of the node.
        settings: to start from; None for the defaults.
        with_covariance: whether covariances are needed.
    """
    # What "auto" has become stays from frame to frame; another corrector may have left parts out.
    settings = beyond_paper(settings or EstimatorSettings(precision=parameters.precision))
    left_out = {
        "symmetry_search": parameters.correct_turns,
        "visibility": parameters.certificate_visibility,
        "known_shapes": parameters.certificate_known_shapes,
        "observed_hull": parameters.observed_hulls,
    }
    settings = replace(
        settings,
        shape_mode=parameters.shape_mode,
        observation=replace(settings.observation, max_objects=parameters.max_objects),
        certificate=replace(
            settings.certificate,
            quantile=parameters.certificate_quantile,
            threshold_m=parameters.certificate_threshold,
        ),
        covariance=(settings.covariance or CovarianceSettings()) if with_covariance else None,
        shape_tables=parameters.shape_tables,
        **{name: None for name, is_on in left_out.items() if not is_on},
    )
    return with_corrector(settings, parameters.corrector)
