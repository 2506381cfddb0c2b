"""The paper's algorithms by name, with the numbers of its appendix."""

import dataclasses

import pytest
import torch
from observed import Noise, add_s, observe

from crisp_ros.correction.corrector import correct
from crisp_ros.correction.corrector_settings import CORRECTORS, CorrectorSettings
from crisp_ros.correction.correspondences import ObjectPoints, Shapes
from crisp_ros.correction.residuals import surface_objective
from crisp_ros.correction.shape_source import ShapeSource
from crisp_ros.geometry.se3 import transform

NAMES = ("box", "mug", "bracket", "bar")


def test_the_numbers_are_those_of_the_appendix() -> None:
    first, second = CORRECTORS["alg1"], CORRECTORS["alg2"]
    for settings in (first, second):
        assert settings.solver == "gradient"
        assert (settings.gradient.learning_rate, settings.gradient.iterations) == (1e-3, 50)
    descent = first.projected_gradient
    assert (descent.learning_rate, descent.iterations, descent.own_code) == (1e-2, 25, True)
    assert (second.active_shape.one_hot, second.active_shape.own_code) == (True, True)
    assert second.active_shape.diameter_weights and not second.fit_poses
    assert CORRECTORS["none"] is None and CORRECTORS["second_order"] == CorrectorSettings()


@pytest.mark.parametrize("name", ["alg1", "alg2"])
def test_final_pose_and_final_shape_are_tested_together(known, name: str) -> None:
    """The objective returned is that of pose and shape together, and the pose has been refined."""
    seen = observe(known.named(*NAMES), Noise(0.001, 0.0, 0.002, along_ray=0.01), seed=1, count=200)
    own = Shapes.of_codes(known.codes(*NAMES) + 0.02)
    start = seen.register().T_object_camera
    settings = CORRECTORS[name]
    given = known.field, seen.correspondences(), own, start, known.prepared
    found = correct(*given, settings)
    sdf = known.field.sdf(transform(found.T_object_camera, seen.points), found.shapes)
    plain = surface_objective(sdf, seen.valid, torch.full((len(NAMES),), 1e3))
    torch.testing.assert_close(found.objective, plain, rtol=1e-3, atol=1e-9)
    kept = dataclasses.replace(settings, shape="none")
    again = correct(*given[:2], found.shapes, found.T_object_camera, None, kept)
    assert (again.objective > 0.8 * found.objective).all()
    errors = add_s(found.T_object_camera, seen.T_object_camera, known.named(*NAMES))
    before = add_s(start, seen.T_object_camera, known.named(*NAMES))
    assert errors.mean() < 0.5 * before.mean()


def test_algorithm_2_finds_the_column_at_the_pose_of_the_object(known) -> None:
    seen = observe(known.named(*NAMES), Noise(0.0005, 0.0, 0.001), seed=2, count=200)
    wrong = Shapes.of_codes(known.codes("bar", "bracket", "box", "mug"))
    found = correct(
        known.field,
        seen.correspondences(),
        wrong,
        seen.T_object_camera.float(),
        known.prepared,
        dataclasses.replace(CORRECTORS["alg2"], gradient=dataclasses.replace(
            CORRECTORS["alg2"].gradient, iterations=0
        )),
    )  # fmt: skip
    assert torch.equal(found.shapes.index, known.shapes_of(*NAMES).index)


@pytest.mark.parametrize("one_hot", [True, False])
def test_without_its_column_the_networks_shape_is_replaced(known, one_hot: bool) -> None:
    """Even where no library shape explains the object as well as the network's does."""
    lacking = known.without("bracket")
    seen = observe(known.named("bracket"), Noise(0.0005, 0.0, 0.001), seed=5, count=200)
    own = Shapes.of_codes(known.codes("bracket"))
    start = seen.register().T_object_camera
    settings, found = CORRECTORS["alg2"], {}
    for column in (True, False):
        active = dataclasses.replace(settings.active_shape, one_hot=one_hot, own_code=column)
        found[column] = correct(
            known.field,
            seen.correspondences(),
            own,
            start,
            lacking.prepared,
            dataclasses.replace(settings, active_shape=active),
        )
    assert found[True].sources.tolist() == [ShapeSource.NETWORK]
    assert found[False].sources.tolist() != [ShapeSource.NETWORK]
    assert found[False].objective > 2 * found[True].objective


def test_points_of_an_object_are_pooled_by_their_mean(known) -> None:
    """With plain squares every point counts the same, however far it is."""
    settings = CORRECTORS["alg1"].gradient
    points = ObjectPoints(torch.full((1, 1, 3), 0.5), torch.ones(1, 1))
    sdf = known.field.sdf(points.points, known.shapes_of("box"))
    scale = torch.tensor([settings.robust_scale_m])
    found = surface_objective(sdf, points.valid, scale)
    torch.testing.assert_close(found, sdf.square().mean(-1))
