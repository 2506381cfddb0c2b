import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from crisp_ros.geometry import se3
from crisp_ros.geometry.registration import RegistrationSettings, align, register

SEMI_AXES = np.array([0.08, 0.05, 0.11])


def half_ellipsoids(batch, points, seed=0, noise=0.002, outliers=0.0):
    """Visible halves: camera points (B, N, 3), noisy PNC (B, N, 3), true T_object_camera."""
    rng = np.random.default_rng(seed)
    directions = rng.standard_normal((batch, points, 3))
    directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
    view = rng.standard_normal((batch, 1, 3))
    directions *= np.where((directions * view).sum(-1, keepdims=True) < 0, -1, 1)
    surface = directions * SEMI_AXES
    rotation = Rotation.random(batch, random_state=seed).as_matrix()
    translation = rng.uniform(-0.3, 0.3, (batch, 3)) + [0, 0, 1.0]
    camera = (surface - translation[:, None]) @ rotation  # x = R^T (z - t)
    pnc = surface + rng.normal(0, noise, surface.shape)
    wild = rng.random((batch, points)) < outliers
    pnc[wild] = rng.uniform(-1, 1, (wild.sum(), 3)) * SEMI_AXES
    T = se3.from_rotation_translation(torch.tensor(rotation), torch.tensor(translation))
    return torch.tensor(camera).float(), torch.tensor(pnc).float(), T


def pose_errors(T, T_true):
    """Rotation errors in degrees and errors of the object's position in the camera, metres."""
    relative = T[:, :3, :3].double() @ T_true[:, :3, :3].transpose(1, 2)
    chord = (relative - torch.eye(3, dtype=torch.float64)).flatten(1).norm(dim=1)
    angle = 2 * torch.asin((chord / math.sqrt(8)).clamp_max(1)) * 180 / math.pi
    position = se3.invert(T.double())[:, :3, 3] - se3.invert(T_true)[:, :3, 3]
    return angle, position.norm(dim=1)


def naive_align(source, target, weights):
    mean_s = np.average(source, axis=0, weights=weights)
    mean_z = np.average(target, axis=0, weights=weights)
    rotation = Rotation.align_vectors(target - mean_z, source - mean_s, weights=weights)[0]
    return rotation.as_matrix(), mean_z - rotation.as_matrix() @ mean_s


def test_align_agrees_with_scipy():
    rng = np.random.default_rng(3)
    source, target = rng.standard_normal((2, 4, 20, 3))
    weights = rng.uniform(0.1, 1, (4, 20))
    result = align(torch.tensor(source), torch.tensor(target), torch.tensor(weights))
    for i in range(4):
        rotation, translation = naive_align(source[i], target[i], weights[i])
        np.testing.assert_allclose(result.rotation[i].numpy(), rotation, atol=1e-7)
        np.testing.assert_allclose(result.translation[i].numpy(), translation, atol=1e-7)


def test_align_never_reflects():
    source = torch.randn(1, 30, 3, dtype=torch.float64, generator=torch.manual_seed(0))
    mirrored = source * torch.tensor([1.0, 1.0, -1.0])
    rotation = align(source, mirrored, torch.ones(1, 30, dtype=torch.float64)).rotation
    torch.testing.assert_close(torch.linalg.det(rotation), torch.ones(1, dtype=torch.float64))


def test_align_ignores_whatever_has_no_weight():
    camera, pnc, _ = half_ellipsoids(2, 50)
    weights = torch.ones(2, 50)
    weights[:, 40:] = 0
    expected = align(camera[:, :40], pnc[:, :40], weights[:, :40])
    camera[:, 40:45], pnc[:, 45:] = torch.nan, torch.inf
    result = align(camera, pnc.requires_grad_(), weights)
    torch.testing.assert_close(result.rotation, expected.rotation)
    torch.testing.assert_close(result.translation, expected.translation)
    result.rotation.sum().backward()
    assert torch.isfinite(pnc.grad[:, :40]).all() and (pnc.grad[:, 40:] == 0).all()


@pytest.mark.parametrize("kind", ["generic", "sphere", "cube corners", "plane", "noisy"])
def test_align_gradient_agrees_with_finite_differences(kind):
    """Also where singular values repeat (sphere, cube) or vanish (plane)."""
    generator = torch.Generator().manual_seed(1)
    corners = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=torch.float64)] * 3)
    cloud = torch.randn(8, 3, dtype=torch.float64, generator=generator)
    source = {
        "generic": cloud,
        "noisy": cloud,
        "sphere": corners / corners.norm(dim=1, keepdim=True),
        "cube corners": corners,
        "plane": cloud * torch.tensor([1.0, 1.0, 0.0]),
    }[kind]
    R = torch.tensor(Rotation.random(random_state=5).as_matrix())
    target = source @ R.T + torch.tensor([0.1, 0.2, 0.3])
    if kind == "noisy":
        target = target + 0.3 * torch.randn(8, 3, dtype=torch.float64, generator=generator)
    weights = torch.rand(1, 8, dtype=torch.float64, generator=generator) + 0.5
    inputs = tuple(t.clone().requires_grad_() for t in (source[None], target[None], weights))
    assert torch.autograd.gradcheck(lambda s, z, w: align(s, z, w), inputs, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("scale", [1.0, 1e-3])
def test_align_gradient_does_not_depend_on_the_unit(scale):
    """Small objects: the damping of the derivative is relative to the covariance."""
    camera, pnc, _ = half_ellipsoids(1, 20)
    source, target = camera.double() * scale, (pnc.double() * scale).requires_grad_()
    align(source, target, torch.ones(1, 20, dtype=torch.float64)).rotation[0, 0, 1].backward()
    reference = pnc.double().requires_grad_()
    ones = torch.ones(1, 20, dtype=torch.float64)
    align(camera.double(), reference, ones).rotation[0, 0, 1].backward()
    torch.testing.assert_close(target.grad * scale, reference.grad, rtol=1e-6, atol=0)


@pytest.mark.parametrize("points", ["none", "one", "coincident", "line"])
def test_align_of_degenerate_input_is_a_finite_rotation(points):
    source = torch.randn(1, 6, 3)
    if points == "coincident":
        source = source[:, :1].expand(1, 6, 3)
    if points == "line":
        source = torch.linspace(0, 1, 6)[None, :, None] * torch.tensor([1.0, 2.0, 3.0])
    weights = torch.zeros(1, 6) if points == "none" else torch.ones(1, 6)
    if points == "one":
        weights[:, 1:] = 0
    target = (source + 1).requires_grad_()
    result = align(source, target, weights)
    torch.testing.assert_close(
        result.rotation @ result.rotation.transpose(1, 2), torch.eye(3)[None], atol=1e-5, rtol=0
    )
    (result.rotation.sum() + result.translation.sum()).backward()
    assert torch.isfinite(target.grad).all()
    assert torch.isfinite(result.translation).all()
    if points == "none":
        assert (result.translation == 0).all()


@pytest.mark.parametrize(
    "outliers, degrees, metres",
    [(0.0, 0.25, 0.3e-3), (0.2, 0.25, 0.35e-3), (0.4, 0.3, 0.4e-3), (0.6, 0.4, 0.6e-3)],
)
def test_register_shrugs_off_outliers(outliers, degrees, metres):
    camera, pnc, T_true = half_ellipsoids(12, 1000, seed=7, outliers=outliers)
    result = register(camera, pnc, torch.ones(12, 1000, dtype=torch.bool))
    angle, position = pose_errors(result.T_object_camera, T_true)
    assert angle.median() < degrees and position.median() < metres
    assert angle.max() < 2.5 * degrees and position.max() < 4 * metres
    assert result.converged.all()
    assert ((result.inlier_share - (1 - outliers)).abs() < 0.08).all()


def test_register_keeps_the_whole_of_smooth_wide_errors():
    """A network's error has no outliers to trim: the result must be near least squares."""
    camera, pnc, T_true = half_ellipsoids(12, 1000, seed=2, noise=0.0)
    surface = pnc.clone()
    pnc = surface + 0.016 * torch.sin(surface.flip(-1) * 40 + 1)
    valid = torch.ones(12, 1000, dtype=torch.bool)
    plain = align(camera, pnc, valid.float())
    T_plain = se3.from_rotation_translation(plain.rotation, plain.translation)
    reference, _ = pose_errors(T_plain, T_true)
    angle, _ = pose_errors(register(camera, pnc, valid).T_object_camera, T_true)
    assert angle.mean() < 1.15 * reference.mean()


@given(seed=st.integers(0, 10_000))
@settings(max_examples=15, deadline=None)
def test_register_is_equivariant(seed):
    """Moving the camera points by T moves the pose by the inverse of T, and nothing else."""
    camera, pnc, _ = half_ellipsoids(2, 200, seed=seed, outliers=0.2)
    valid = torch.ones(2, 200, dtype=torch.bool)
    xi = torch.tensor(np.random.default_rng(seed).standard_normal((2, 6))).float()
    move = se3.exp(xi)
    before = register(camera, pnc, valid).T_object_camera
    after = register(se3.transform(move, camera), pnc, valid).T_object_camera
    torch.testing.assert_close(after @ move, before, atol=2e-4, rtol=0)


def test_register_is_deterministic_and_seeded():
    camera, pnc, _ = half_ellipsoids(3, 300, outliers=0.5)
    valid = torch.ones(3, 300, dtype=torch.bool)
    first, second = register(camera, pnc, valid), register(camera, pnc, valid)
    torch.testing.assert_close(first.T_object_camera, second.T_object_camera, rtol=0, atol=0)
    seeded = [
        register(camera, pnc, valid, None, torch.Generator().manual_seed(4)) for _ in range(2)
    ]
    assert torch.equal(seeded[0].T_object_camera, seeded[1].T_object_camera)


def test_register_ignores_padding_and_what_is_not_finite():
    camera, pnc, T_true = half_ellipsoids(3, 400, outliers=0.2)
    valid = torch.ones(3, 400, dtype=torch.bool)
    valid[:, 300:] = False
    camera[:, 300:] = 0
    pnc[:, 300:] = 5.0
    camera[0, :20], pnc[1, :20], pnc[2, 5, 0] = torch.nan, torch.inf, -torch.inf
    result = register(camera, pnc, valid)
    angle, position = pose_errors(result.T_object_camera, T_true)
    assert angle.max() < 1 and position.max() < 2e-3
    assert result.converged.all()
    assert not result.inliers[:, 300:].any() and not result.inliers[0, :20].any()


@pytest.mark.parametrize("count", [0, 1, 2, 3, 9])
def test_register_does_not_converge_on_too_few_points(count):
    camera, pnc, T_true = half_ellipsoids(2, 300)
    valid = torch.ones(2, 300, dtype=torch.bool)
    valid[0, count:] = False
    result = register(camera, pnc, valid)
    assert result.converged.tolist() == [False, True]
    assert torch.isfinite(result.T_object_camera).all()
    assert pose_errors(result.T_object_camera, T_true)[0][1] < 1


def test_register_reports_points_without_any_structure():
    camera, _, _ = half_ellipsoids(1, 500)
    noise = torch.rand(1, 500, 3, generator=torch.Generator().manual_seed(0)) - 0.5
    result = register(camera, noise, torch.ones(1, 500, dtype=torch.bool))
    assert not result.converged.any()


def test_register_threshold_does_not_follow_one_wild_point():
    camera, pnc, _ = half_ellipsoids(1, 500, outliers=0.3)
    valid = torch.ones(1, 500, dtype=torch.bool)
    before = register(camera, pnc, valid).inliers
    pnc[0, 0] = 100.0
    after = register(camera, pnc, valid).inliers
    assert (before ^ after)[0, 1:].float().mean() < 0.01


def test_register_of_a_single_point_padding_width():
    """Fewer columns than a minimal sample needs must not break the sampling."""
    result = register(torch.zeros(2, 1, 3), torch.zeros(2, 1, 3), torch.ones(2, 1).bool())
    assert not result.converged.any() and torch.isfinite(result.T_object_camera).all()


def test_register_of_no_objects():
    result = register(torch.zeros(0, 50, 3), torch.zeros(0, 50, 3), torch.ones(0, 50).bool())
    assert result.T_object_camera.shape == (0, 4, 4)


def test_settings_reach_the_solver():
    camera, pnc, _ = half_ellipsoids(1, 400)
    valid = torch.ones(1, 400, dtype=torch.bool)
    strict = RegistrationSettings(threshold=0.005, min_threshold_m=0.0)
    assert register(camera, pnc, valid, strict).inlier_share < 0.2


@pytest.mark.parametrize(
    "bad", [{"threshold": 0.0}, {"triples": 0}, {"min_points": 2}, {"min_inlier_share": 1.5}]
)
def test_bad_settings_are_refused(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        RegistrationSettings(**bad)


def test_register_escapes_a_bad_start():
    """Half the points are predicted in one spot, as a leaking mask's are: least squares fails."""
    camera, pnc, T_true = half_ellipsoids(8, 600, seed=11)
    generator = torch.Generator().manual_seed(2)
    wild = torch.rand(8, 600, 1, generator=generator) < 0.55
    spot = 0.1 + 0.01 * torch.rand(8, 600, 3, generator=generator)
    pnc = torch.where(wild, spot, pnc)
    valid = torch.ones(8, 600, dtype=torch.bool)
    angle, position = pose_errors(register(camera, pnc, valid).T_object_camera, T_true)
    assert angle.max() < 1 and position.max() < 2e-3
