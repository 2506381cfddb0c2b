"""The inverse of small matrices against NumPy's."""

import numpy as np
import pytest
import torch
from counting import CountedOperations

from crisp_ros.geometry.fixed_shapes import force_fixed_shapes
from crisp_ros.geometry.spd_inverse import spd_inverse


def spd(batch: int, size: int, seed: int) -> torch.Tensor:
    """Matrices whose scales differ by six orders of magnitude from row to row."""
    g = torch.Generator().manual_seed(seed)
    root = torch.randn(batch, size, size + 2, generator=g, dtype=torch.float64)
    scale = 10.0 ** torch.linspace(-3, 3, size, dtype=torch.float64)
    return scale[:, None] * (root @ root.mT) * scale


@pytest.mark.parametrize("size", [1, 3, 6])
def test_agrees_with_numpy_on_every_path(size: int) -> None:
    for seed in range(20):
        matrices = spd(7, size, seed)
        expected = np.linalg.inv(matrices.numpy())
        with force_fixed_shapes():
            fixed = spd_inverse(matrices)
        np.testing.assert_allclose(spd_inverse(matrices).numpy(), expected, rtol=1e-6, atol=1e-12)
        np.testing.assert_allclose(fixed.numpy(), expected, rtol=1e-6, atol=1e-12)


def test_a_singular_matrix_harms_no_other() -> None:
    matrices = spd(3, 3, 0)
    matrices[1] = 0.0
    inverse = spd_inverse(matrices)
    with force_fixed_shapes():
        fixed = spd_inverse(matrices)
    for found in (inverse, fixed):
        assert not torch.isfinite(found[1]).any()
        torch.testing.assert_close(found[[0, 2]], torch.linalg.inv(matrices[[0, 2]]))


def test_fixed_shapes_wait_for_nothing() -> None:
    with force_fixed_shapes(), CountedOperations() as counted:
        spd_inverse(spd(4, 6, 1))
    assert counted.waits == []
