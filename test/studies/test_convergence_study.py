"""Curves of the solvers: down to the truth's level, errors against ones computed apart."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.spatial import cKDTree

from crisp_ros.benchmark.decoded_views import decoded_views
from crisp_ros.correction.prepared_library import PreparedLibrary
from crisp_ros.correction.shape_field import DecoderField
from crisp_ros.correction.surface import surface_points
from crisp_ros.geometry.registration import register
from crisp_ros.geometry.se3 import invert, transform
from crisp_ros.studies.convergence_study import (
    ConvergenceStudy,
    ConvergenceStudySettings,
    convergence_study,
)

SETTINGS = ConvergenceStudySettings(
    views=1,
    points=200,
    surface_points=256,
    pose_iterations=(0, 4, 30),
    newton_iterations=(0, 2, 8),
    shape_iterations=(0, 3, 12),
)


@pytest.fixture(scope="module")
def study(known) -> ConvergenceStudy:
    return convergence_study(known.decoder, known.library, SETTINGS)


def test_solvers_come_down_and_second_order_comes_lowest(study: ConvergenceStudy) -> None:
    gradient, newton = study.pose
    assert gradient.distance_m.shape == newton.error_m.shape == (3, 8)
    for curve in study.pose:
        distance, error = curve.distance_m.median(-1).values, curve.error_m.median(-1).values
        assert distance[-1] < 0.7 * distance[0] and error[-1] < error[0]
    assert newton.distance_m[-1].median() <= gradient.distance_m[-1].median()
    assert newton.distance_m[-1].median() < 1.2 * study.true_distance_m.median()
    projected, from_vertex, one_hot, mixed = study.shape
    for curve in (projected, from_vertex):
        assert curve.distance_m[-1].median() < curve.distance_m[0].median()
    assert projected.error_m[-1].median() < from_vertex.error_m[-1].median()
    assert one_hot.iterations == mixed.iterations == (1,)
    assert one_hot.error_m.median() < 1e-4 < projected.error_m[-1].median()
    assert study.right_shape["LSQ, one-hot"] >= 0.75


def test_errors_are_those_computed_apart(known, study: ConvergenceStudy) -> None:
    args = known.decoder, known.library, range(8), SETTINGS.noise, SETTINGS.points
    views = decoded_views(*args, SETTINGS.seed)
    start = register(views.points, views.pnc, views.valid)
    T = torch.linalg.inv(start.T_object_camera)
    field = DecoderField(known.decoder)
    everything = PreparedLibrary(field, known.library).all_shapes
    surfaces = surface_points(field, everything, SETTINGS.surface_points)
    for i in range(8):
        points = surfaces.points[i][surfaces.valid[i]]
        true = transform(invert(views.T_object_camera[i]), points)
        way = cKDTree(transform(T[i], points).numpy()).query(true.numpy())[0].mean()
        # Without iterations gradient descent gives the weighted alignment, near the registration.
        assert study.pose[0].error_m[0, i] == pytest.approx(way, abs=0.004)
    # From the wrong code itself, another shape: their surfaces' distance by closed form.
    none = dict.fromkeys(("pose_iterations", "newton_iterations", "shape_iterations"), (0,))
    start = convergence_study(known.decoder, known.library, replace(SETTINGS, **none))
    wrong = (torch.arange(8) + 2) % 8
    for i in range(8):
        a, b = (surfaces.points[k][surfaces.valid[k]].double() for k in (i, wrong[i]))
        ways = known.shapes[wrong[i]].sdf(a).abs().mean(), known.shapes[i].sdf(b).abs().mean()
        expected = 0.5 * float(ways[0] + ways[1])
        assert start.shape[1].error_m[0, i] == pytest.approx(expected, rel=0.3, abs=0.002)


def test_json_holds_the_curves(study: ConvergenceStudy) -> None:
    written = study.to_json()
    assert written["objects"] == 8
    curve = written["pose"][1]
    assert curve["name"] == "second order" and curve["iterations"] == [0, 2, 8]
    values = study.pose[1].error_m.double()
    assert curve["error_m"]["mean"] == pytest.approx(values.mean(-1).tolist())
    assert curve["error_m"]["median"] == pytest.approx(np.median(values.numpy(), axis=-1))


def test_the_figure_is_a_picture(study: ConvergenceStudy, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from crisp_ros.reports.convergence_figure import draw_convergence

    path = tmp_path / "new" / "corrector.png"
    draw_convergence(study, path)
    with Image.open(path) as picture:
        assert picture.width > 800 and len(set(picture.convert("L").getdata())) > 50
