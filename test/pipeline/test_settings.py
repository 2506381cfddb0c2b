import numpy as np
import pytest
from analytic_scene import TruthfulNetwork
from pipeline.three_objects import SETTINGS, SHAPES

from crisp_ros.network.checkpoint import Model
from crisp_ros.pipeline import Estimator, EstimatorSettings


@pytest.mark.parametrize("name", ["network_batch", "cached_meshes"])
def test_bad_settings_are_refused(name):
    with pytest.raises(ValueError, match=f"{name} 0"):
        EstimatorSettings(**{name: 0})


@pytest.mark.parametrize("replaced", [False, True])
def test_a_model_without_library_keeps_the_networks_shape(scene, replaced):
    tested = Estimator(Model(TruthfulNetwork(SHAPES, (0, 1, 2)), None, {}), SETTINGS)
    if replaced:
        tested.settings = SETTINGS
    result = tested.estimate(scene.frame)
    assert [e.code.argmax() for e in result.objects] == [0, 1, 2]
    assert [e.shape_index for e in result.objects] == [-1, -1, -1]
    for e, shape in zip(result.objects, SHAPES, strict=True):
        assert e.certified
        np.testing.assert_allclose(e.lower, shape.lower, atol=0.012)
        np.testing.assert_allclose(e.upper, shape.upper, atol=0.012)
