"""The nearest rotation on the paths of a CPU and of a GPU against SciPy."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from counting import CountedOperations
from scipy.spatial.transform import Rotation

from crisp_ros.geometry.fixed_shapes import force_fixed_shapes
from crisp_ros.geometry.procrustes import nearest_rotation

Rotate = Callable[[torch.Tensor], torch.Tensor]


def normalized(matrices: torch.Tensor) -> torch.Tensor:
    return matrices / matrices.flatten(1).norm(dim=-1)[:, None, None]


def on_a_gpu(matrices: torch.Tensor) -> torch.Tensor:
    with force_fixed_shapes():
        return nearest_rotation(matrices)


@pytest.mark.parametrize("flat", [1.0, 0.05, 0.0], ids=["solid", "thin", "plane"])
def test_agrees_with_the_singular_value_decomposition(flat: float) -> None:
    """Correspondences of a body, also mirrored by noise."""
    rng = np.random.default_rng(0)
    found, expected = [], []
    for _ in range(200):
        x = rng.standard_normal((20, 3)) * (1.0, 0.6, flat)
        z = x @ Rotation.random(random_state=rng).as_matrix().T + 0.1 * rng.standard_normal((20, 3))
        M = torch.tensor((z - z.mean(0)).T @ (x - x.mean(0)))
        found.append(M)
        expected.append(Rotation.align_vectors(z - z.mean(0), x - x.mean(0))[0].as_matrix())
    matrices = normalized(torch.stack(found))
    np.testing.assert_allclose(on_a_gpu(matrices).numpy(), np.array(expected), atol=1e-5)
    np.testing.assert_allclose(nearest_rotation(matrices).numpy(), np.array(expected), atol=1e-6)
    torch.testing.assert_close(
        on_a_gpu(matrices.float()), nearest_rotation(matrices.float()), atol=1e-4, rtol=0
    )


@pytest.mark.parametrize("rotation", [on_a_gpu, nearest_rotation])
def test_a_mirror_image_is_not_rotated_into_a_reflection(rotation: Rotate) -> None:
    mirrored = torch.diag(torch.tensor([1.0, 0.8, -0.3]))[None]
    torch.testing.assert_close(rotation(normalized(mirrored)), torch.eye(3)[None])


@pytest.mark.parametrize("rotation", [on_a_gpu, nearest_rotation])
def test_degenerate_matrices_give_some_rotation(rotation: Rotate) -> None:
    """Nothing known gives the identity; a line may rotate about itself."""
    line = torch.zeros(1, 3, 3)
    line[0, 0, 0] = 1.0
    matrices = torch.cat((torch.zeros(1, 3, 3), line))
    R = rotation(matrices)
    torch.testing.assert_close(R[0], torch.eye(3))
    torch.testing.assert_close(R @ R.mT, torch.eye(3).expand(2, 3, 3))
    torch.testing.assert_close(R[1, :, 0], torch.tensor([1.0, 0.0, 0.0]))


def test_waits_for_nothing() -> None:
    with CountedOperations() as counted:
        on_a_gpu(torch.rand(5, 3, 3))
    assert counted.waits == []
