"""The paper's correctors run as the paper has them: nothing else touches masks, poses or shapes."""

import dataclasses

import pytest
import torch
from pipeline.three_objects import SETTINGS, estimator

from crisp_ros.correction.corrector import Correction, correct
from crisp_ros.correction.corrector_settings import CORRECTORS
from crisp_ros.correction.correspondences import Shapes
from crisp_ros.correction.shape_choice import with_shape_mode
from crisp_ros.observation.mask_refinement import MaskRefinementSettings
from crisp_ros.pipeline import EstimatorSettings
from crisp_ros.pipeline.paper_settings import (
    as_in_paper,
    beyond_paper,
    shape_mode_of_test_objects,
    with_corrector,
)


@pytest.mark.parametrize(
    ("name", "mode"),
    [("none", "auto"), ("alg1", "auto"), ("alg2", "auto"), ("alg2", "active"), ("alg2", "library")],
)
def test_estimates_are_those_of_the_corrector_alone(scene, name, mode) -> None:
    settings = dataclasses.replace(SETTINGS, masks=MaskRefinementSettings(), shape_mode=mode)
    tested = estimator(settings=with_corrector(settings, name))
    (solution,) = tested.trace(scene.frame).solutions
    as_given = estimator(settings=dataclasses.replace(settings, masks=None)).trace(scene.frame)
    torch.testing.assert_close(
        solution.observations.points, as_given.solutions[0].observations.points
    )
    own = Shapes.of_codes(solution.codes)
    registered = solution.registration.T_object_camera
    corrector = CORRECTORS[name]
    if corrector is None:
        alone = Correction.of_network(solution.correspondences, own, registered)
    else:
        corrector = with_shape_mode(corrector, mode)
        known = solution.correspondences, own, registered, tested.prepared_library
        alone = correct(tested.field, *known, corrector)
    found = solution.correction
    torch.testing.assert_close(found.T_object_camera, alone.T_object_camera)
    torch.testing.assert_close(found.shapes.codes, alone.shapes.codes)
    reasons = " ".join(solution.verification.certificate.reasons)
    assert not any(word in reasons for word in ("seen", "coverage", "unknown", "agree"))


def test_the_nodes_corrector_changes_nothing() -> None:
    settings = EstimatorSettings()
    assert with_corrector(settings, "second_order") == settings
    assert beyond_paper(as_in_paper(settings)) == settings


def test_algorithm_2_combines_shapes_outside_the_library() -> None:
    assert shape_mode_of_test_objects("alg2", "auto") == "active"
    assert shape_mode_of_test_objects("alg2", "library") == "library"
    assert shape_mode_of_test_objects("alg1", "auto") == "auto"
