"""The paper's settings, against appendix D.2."""

import pytest

from crisp_ros.adaptation.recipes import RECIPES


@pytest.mark.parametrize(
    ("name", "shape_rate", "batch", "quantile", "threshold_m"),
    [("ycbv", 4e-4, 3, 0.98, 1e-2), ("spe3r", 3e-4, 10, 0.97, 2e-2)],
)
def test_recipes_are_those_of_the_paper(name, shape_rate, batch, quantile, threshold_m):
    recipe = RECIPES[name]
    learner, certificate = recipe.learner, recipe.certificate
    assert (learner.pnc_rate, learner.shape_rate, learner.batch) == (3e-4, shape_rate, batch)
    assert learner.weight_decay == 1e-5
    assert learner.clamp_quantile == 1.0 and learner.averaging == 0.0
    assert (certificate.quantile, certificate.threshold_m) == (quantile, threshold_m)


@pytest.mark.parametrize("name", list(RECIPES))
def test_pseudo_labels_need_the_papers_certificate_alone(name):
    settings = RECIPES[name].estimator_settings(7)
    assert settings.visibility is None and settings.known_shapes is None
    assert settings.orientation is None and settings.symmetry_search is None
    assert settings.empty_space is None and settings.named_shapes is None
    assert settings.masks is None
    assert settings.observation.seed == 7
    assert settings.certificate.minimum_coverage == 0
    # SPE3R's satellites are metres away.
    assert settings.observation.max_depth_m == {"ycbv": 10.0, "spe3r": 100.0}[name]
