"""Sources of shapes: known, combined and new shapes, each explained by the simplest source."""

import dataclasses

import numpy as np
import pytest
import torch
from analytic import AnalyticShape, sphere
from analytic_scene import Rendered, TruthfulNetwork, analytic_library, rendered
from counting import CountingField
from pipeline.three_objects import BOX, BRACKET, MUG, POSES, SETTINGS, SHAPES, estimator, pose

from crisp_ros.network.checkpoint import Model
from crisp_ros.network.library import ShapeLibrary
from crisp_ros.pipeline import Estimator, EstimatorSettings, ObjectEstimate

SMALL, MIDDLE, LARGE = sphere(0.035, "small"), sphere(0.045, "middle"), sphere(0.055, "large")


def without(shapes: tuple[AnalyticShape, ...], index: int) -> ShapeLibrary:
    """The library of shapes without one of them, whose decoder still has it."""
    library = analytic_library(shapes)
    kept = [i for i in range(len(shapes)) if i != index]
    rows = torch.tensor(kept)
    return ShapeLibrary(
        tuple(library.names[i] for i in kept),
        library.codes[rows],
        library.lower[rows],
        library.upper[rows],
    )


def seen(shape: AnalyticShape) -> Rendered:
    return rendered([shape], [pose(0.0, 0.0, 0.6, 5)], [3])


def estimated(
    model: Model, scene: Rendered, code: torch.Tensor | None = None, **changes
) -> ObjectEstimate:
    """Estimate the one object of a scene with a network that gives this code, or its own."""
    tested = Estimator(model, dataclasses.replace(SETTINGS, **changes))
    if code is not None:
        tested._network.spoil = lambda output: output._replace(code=code.expand_as(output.code))
    (found,) = tested.estimate(scene.frame).objects
    return found


def test_named_shapes_are_the_librarys_and_cost_nothing_more(scene) -> None:
    counts = []
    for mode in ("library", "auto"):
        tested = estimator(settings=dataclasses.replace(SETTINGS, shape_mode=mode))
        tested.warm_up()
        counted = CountingField(tested.field)
        tested._solver._field = counted
        counted.for_library = lambda counted=counted: counted
        found = tested.estimate(scene.frame).objects
        counts.append((counted.distances, counted.gradients))
        assert [e.shape_source for e in found] == ["library"] * 3
        assert [e.shape_index for e in found] == [0, 1, 2] and all(e.certified for e in found)
    assert counts[0] == counts[1] and counts[0][1]


@pytest.mark.parametrize("index", [0, 1, 2])
def test_a_left_out_shape_is_the_networks_own(index) -> None:
    scene = seen(SHAPES[index])
    model = Model(TruthfulNetwork(SHAPES, (index,)), without(SHAPES, index), {})
    found = estimated(model, scene)
    assert found.shape_source == "network" and found.certified and found.shape_index == -1
    assert not found.unknown and found.code.argmax() == index
    truth = scene.poses[3]
    assert np.linalg.norm(found.T_camera_object[:3, 3] - truth[:3, 3]) < 2e-3
    np.testing.assert_allclose(found.lower, SHAPES[index].lower, atol=0.012)
    library = estimated(model, scene, shape_mode="library")
    assert library.shape_source == "library" and library.residual_m > 1.2 * found.residual_m


def test_a_size_in_between_is_a_combination() -> None:
    """Whose signed distances are those of the two known sizes, mixed; its code is another's."""
    shapes = (SMALL, LARGE, BOX)
    scene = seen(MIDDLE)
    model = Model(TruthfulNetwork(shapes, (2,)), without(shapes, 2), {})
    found = estimated(model, scene)
    assert found.shape_source == "active" and found.certified
    np.testing.assert_allclose(found.code, [0.5, 0.5, 0.0], atol=0.05)
    np.testing.assert_allclose(found.upper - found.lower, 0.09, atol=0.012)
    active = estimated(model, scene, shape_mode="active")
    assert active.shape_source == "active" and active.certified
    library = estimated(model, scene, shape_mode="library")
    assert library.shape_source == "library" and library.residual_m > 3 * found.residual_m


def test_a_known_shape_that_the_network_does_not_name_stays() -> None:
    """The simpler source wins where no other is clearly better."""
    shapes = (*SHAPES, sphere(0.05))
    scene = seen(MUG)
    model = Model(TruthfulNetwork(shapes, (1,)), without(shapes, 3), {})
    code = torch.tensor([0.1, 0.5, 0.3, 0.1])
    found = estimated(model, scene, code)
    assert found.shape_source == "library" and found.shape_index == 1 and found.certified


def test_the_networks_shape_on_request(scene) -> None:
    for e in estimator(settings=dataclasses.replace(SETTINGS, shape_mode="network")).estimate(
        scene.frame
    ).objects:  # fmt: skip
        assert e.shape_source == "network" and e.certified and e.shape_index == -1


def test_objects_of_one_frame_have_their_own_sources() -> None:
    scene = rendered((BOX, BRACKET), [POSES[0], POSES[1]], (4, 7))
    model = Model(TruthfulNetwork(SHAPES, (0, 2)), without(SHAPES, 2), {})
    found = Estimator(model, SETTINGS).estimate(scene.frame).objects
    assert [e.shape_source for e in found] == ["library", "network"]
    assert all(e.certified for e in found)


def test_bad_modes_are_refused() -> None:
    with pytest.raises(ValueError, match="shape_mode is 'mesh': expected one of library, active"):
        EstimatorSettings(shape_mode="mesh")
