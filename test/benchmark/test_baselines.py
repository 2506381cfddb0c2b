"""The baselines come to answers that ours can be compared with."""

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

from crisp_ros.benchmark.baselines import (
    BaselineSettings,
    baseline_alignment,
    baseline_h,
    baseline_lsq,
    baseline_mesh,
    baseline_z,
)
from crisp_ros.benchmark.decoded_views import DecodedViews, ViewNoise, decoded_views
from crisp_ros.correction.active_shape import least_squares
from crisp_ros.correction.correspondences import Correspondences, ObjectPoints, Shapes
from crisp_ros.correction.pose_lm import refine_pose
from crisp_ros.correction.prepared_library import PreparedLibrary
from crisp_ros.correction.residuals import surface_objective
from crisp_ros.correction.shape_field import DecoderField
from crisp_ros.correction.shape_projected_gradient import projected_gradient
from crisp_ros.geometry.isosurface import IsosurfaceSettings, extract_meshes
from crisp_ros.geometry.registration import align, register
from crisp_ros.geometry.se3 import transform

SHAPES = (0, 2, 4, 6)


@pytest.fixture(scope="module")
def views(known) -> DecodedViews:
    return decoded_views(known.decoder, known.library, SHAPES, ViewNoise(), 250, seed=2)


def distance(known, z: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
    sdf = known.decoder.sdf(z, codes)
    return surface_objective(sdf, torch.ones(z.shape[:2]), torch.tensor(0.01)).sqrt()


def test_alignment_finds_the_pose_among_outliers(views: DecodedViews) -> None:
    exact = transform(views.T_object_camera, views.points)
    generator = torch.Generator().manual_seed(0)
    off = torch.rand(exact.shape[:2], generator=generator) < 0.3
    wild = 0.1 * torch.randn(exact.shape, generator=generator)
    pnc = torch.where(off[..., None], wild, exact)
    T = baseline_alignment(views.points, pnc, 50, generator)
    # Its inlier distance is wide, so that some of the wild ones are left in.
    error = (transform(T, views.points) - exact).norm(dim=-1).mean(-1)
    plain = align(views.points, pnc, torch.ones(off.shape))
    unaware = views.points @ plain.rotation.transpose(-1, -2) + plain.translation[:, None]
    assert (error < 0.008).all()
    assert (error < 0.5 * (unaware - exact).norm(dim=-1).mean(-1)).all()


def test_pose_descends_and_ours_ends_no_higher(known, views: DecodedViews) -> None:
    codes = known.library.codes[views.shapes]
    T = baseline_z(known.decoder, views.points, views.pnc, codes)
    start = register(views.points, views.pnc, views.valid)
    before = distance(known, transform(start.T_object_camera, views.points), codes)
    after = distance(known, transform(T, views.points), codes)
    assert after.median() < 0.8 * before.median()
    field = DecoderField(known.decoder)
    seen = Correspondences(views.points, views.pnc, start.inliers.float(), views.valid)
    shapes = PreparedLibrary(field, known.library).shapes(views.shapes)
    ours = refine_pose(field, seen, shapes, start.T_object_camera).T_object_camera
    reached = distance(known, transform(ours, views.points), codes)
    assert reached.median() <= after.median()
    again = baseline_z(known.decoder, views.points, views.pnc, codes)
    assert torch.equal(again, T)


def test_pose_takes_all_its_iterations(known, views: DecodedViews, monkeypatch) -> None:
    codes = known.library.codes[views.shapes]
    calls = []
    forward = type(known.decoder).forward
    monkeypatch.setattr(
        type(known.decoder), "forward", lambda *a: (calls.append(len(a[1])), forward(*a))[1]
    )
    baseline_z(known.decoder, views.points, views.pnc, codes, BaselineSettings(pose_iterations=3))
    assert calls == [len(SHAPES)] * 6  # depth and coordinates, decoded in every iteration


def test_shape_stays_in_the_hull_and_ours_ends_no_higher(known, views: DecodedViews) -> None:
    z = transform(views.T_object_camera, views.points)
    library = known.library.codes
    start = 0.6 * library[(views.shapes + 1) % 8] + 0.4 * library[views.shapes]
    found = baseline_h(known.decoder, z, start, library)
    c = torch.linalg.lstsq(library.T, found.T).solution
    assert c.min() > -1e-3 and torch.allclose(c.sum(0), torch.ones(len(SHAPES)), atol=1e-3)
    # Here it stays where it starts, but for rounding: equal steps in all coefficients cancel.
    assert torch.allclose(distance(known, z, found), distance(known, z, start), atol=1e-6)
    field = DecoderField(known.decoder)
    prepared = PreparedLibrary(field, known.library)
    points = ObjectPoints.of(z, views.valid)
    ours = projected_gradient(field, points, Shapes.of_codes(start), prepared).shapes.codes
    assert distance(known, z, ours).median() <= distance(known, z, found).median() * 1.02


def test_an_off_surface_grid_is_decoded_in_every_iteration(known, monkeypatch) -> None:
    z = torch.zeros(2, 10, 3)
    calls = []
    forward = type(known.decoder).forward
    monkeypatch.setattr(
        type(known.decoder), "forward", lambda *a: (calls.append(len(a[1])), forward(*a))[1]
    )
    settings = BaselineSettings(shape_iterations=2)
    library = known.library.codes
    baseline_h(known.decoder, z, library[:2], library, grid_samples=4, settings=settings)
    assert calls == [10, 64] * 4


def test_least_squares_chooses_as_ours_does(known, views: DecodedViews) -> None:
    z = transform(views.T_object_camera, views.points)
    found = baseline_lsq(known.decoder, z, known.library.codes)
    torch.testing.assert_close(found.coefficients.sum(-1), torch.ones(len(SHAPES)))
    wrong = known.library.codes[(views.shapes + 3) % 8]
    field = DecoderField(known.decoder)
    points = ObjectPoints.of(z, views.valid)
    prepared = PreparedLibrary(field, known.library)
    ours = least_squares(field, points, Shapes.of_codes(wrong), prepared)
    assert torch.equal(found.chosen, views.shapes)
    assert torch.equal(ours.coefficients.argmax(-1), views.shapes)


@pytest.mark.parametrize("way", ["forward", "sdf"])
def test_dense_and_sparse_surface_are_the_same(known, way: str) -> None:
    library = known.library
    lower, upper, code = library.lower[6], library.upper[6], library.codes[6]
    dense = baseline_mesh(getattr(known.decoder, way), code, lower, upper, voxels=32)
    (sparse,) = extract_meshes(
        lambda points, _: known.decoder.sdf(points, code),
        lower[None],
        upper[None],
        IsosurfaceSettings(voxels=32),
    )
    edge = float((upper - lower).max()) * 1.1 / 32
    assert cKDTree(dense.vertices).query(sparse.vertices)[0].max() < 0.05 * edge
    assert len(dense.faces) > 100 and np.isfinite(dense.vertices).all()
