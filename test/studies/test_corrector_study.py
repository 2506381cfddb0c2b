"""All methods of the corrector's study begin with the network's answer as it is."""

from types import SimpleNamespace

from analytic_scene import truthful_model
from pipeline.three_objects import SHAPES

from crisp_ros.pipeline import EstimatorSettings
from crisp_ros.studies.corrector_study import CorrectorStudy


def test_nothing_moves_objects_before_the_methods(monkeypatch) -> None:
    """The search for named shapes would take the weight from the coordinates."""
    study, seen = CorrectorStudy(truthful_model(SHAPES, (0, 1, 2)), {}), []
    used = study._estimator

    def traced(frame: object) -> SimpleNamespace:
        seen.append(used.settings)
        return SimpleNamespace(solutions=())

    monkeypatch.setattr(used, "trace", traced)
    assert study._single_view(None) == {}
    (settings,) = seen
    moving = ("symmetry_search", "named_shapes", "empty_space", "orientation")
    assert all(getattr(settings, name) is None for name in moving)
    assert settings.masks == EstimatorSettings().masks
    assert used.settings == EstimatorSettings()
