import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import expm
from scipy.spatial.transform import Rotation

from crisp_ros.geometry import se3


def twist_matrix(xi):
    x, y, z = xi[3:]
    matrix = np.zeros((4, 4))
    matrix[:3, :3] = [[0, -z, y], [z, 0, -x], [-y, x, 0]]
    matrix[:3, 3] = xi[:3]
    return matrix


def random_poses(seed, *batch):
    rng = np.random.default_rng(seed)
    count = int(np.prod(batch, dtype=int))
    rotation = Rotation.random(count, random_state=seed).as_matrix().reshape(*batch, 3, 3)
    translation = rng.uniform(-1, 1, (*batch, 3))
    return se3.from_rotation_translation(torch.tensor(rotation), torch.tensor(translation))


@given(seed=st.integers(0, 2**31), log_angle=st.floats(-9, 0.5))
@settings(max_examples=60, deadline=None)
def test_exp_is_the_matrix_exponential(seed, log_angle):
    rng = np.random.default_rng(seed)
    xi = rng.standard_normal(6)
    xi[3:] *= 10.0**log_angle / np.linalg.norm(xi[3:])
    expected = expm(twist_matrix(xi))
    np.testing.assert_allclose(se3.exp(torch.tensor(xi)).numpy(), expected, atol=1e-12)
    single = se3.exp(torch.tensor(xi, dtype=torch.float32))
    np.testing.assert_allclose(single.numpy(), expected, atol=2e-6)


@pytest.mark.parametrize("angle", [0.0, 1e-9, 1e-3, 0.2499, 0.2501, 1.0, 3.1])
def test_exp_gradient_agrees_with_finite_differences(angle):
    xi = torch.tensor([0.3, -0.2, 0.5, 0.0, 0.6 * angle, -0.8 * angle], dtype=torch.float64)
    assert torch.autograd.gradcheck(se3.exp, (xi.requires_grad_(),))


def test_exp_takes_any_batch():
    xi = torch.randn(2, 3, 6)
    torch.testing.assert_close(se3.exp(xi)[1, 2], se3.exp(xi[1, 2]))


def test_transform_agrees_with_homogeneous_coordinates():
    poses = random_poses(0, 4, 1)
    points = torch.randn(4, 5, 7, 3, dtype=torch.float64)
    moved = se3.transform(poses, points)
    homogeneous = torch.cat((points, torch.ones_like(points[..., :1])), dim=-1)
    expected = torch.einsum("buij,bvnj->bvni", poses, homogeneous)[..., :3]
    torch.testing.assert_close(moved, expected)


def test_invert_undoes_the_transform():
    poses = random_poses(1, 6)
    identity = torch.eye(4, dtype=torch.float64).expand(6, 4, 4)
    torch.testing.assert_close(se3.invert(poses) @ poses, identity)
    torch.testing.assert_close(poses @ se3.invert(poses), identity)


@pytest.mark.parametrize("kind", [torch.tensor, np.array])
def test_from_rotation_translation_broadcasts(kind):
    T = se3.from_rotation_translation(kind(np.eye(3)), kind(np.arange(6.0).reshape(2, 3)))
    assert T.shape == (2, 4, 4)
    assert T[1, :3, 3].tolist() == [3.0, 4.0, 5.0]
    assert T[1, 3].tolist() == [0.0, 0.0, 0.0, 1.0]


def test_arrays_give_the_same_as_tensors():
    poses, points = random_poses(2, 4, 1), torch.randn(4, 5, 7, 3, dtype=torch.float64)
    centre = points[..., 0, :]
    for function, *arguments in (
        (se3.invert, poses),
        (se3.transform, poses, points),
        (se3.transform_point, poses, centre),
        (se3.rotation_about, poses[..., :3, :3], centre),
    ):
        found = function(*(argument.numpy() for argument in arguments))
        assert isinstance(found, np.ndarray)
        np.testing.assert_allclose(found, function(*arguments).numpy(), atol=1e-14)


def test_one_point_is_moved_by_many_transforms():
    T, point = random_poses(3, 6).numpy(), np.array([0.1, -0.2, 0.3])
    found = se3.transform_point(T, point)
    np.testing.assert_allclose(found, T[:, :3, :3] @ point + T[:, :3, 3], atol=1e-15)


def test_a_rotation_about_a_point_leaves_or_moves_that_point():
    rotation, centre = random_poses(4, 5)[:, :3, :3], torch.tensor([0.3, 0.1, -0.7]).double()
    target = torch.tensor([1.0, 2.0, 3.0]).double()
    for expected, found in (
        (centre, se3.rotation_about(rotation, centre)),
        (target, se3.rotation_about(rotation, centre, target)),
    ):
        torch.testing.assert_close(found[:, :3, :3], rotation)
        torch.testing.assert_close(se3.transform_point(found, centre), expected.expand(5, 3))


def test_gradients_pass_through_the_composed_matrix():
    rotation = random_poses(5, 2)[:, :3, :3].requires_grad_()
    translation = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(se3.from_rotation_translation, (rotation, translation))
