import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist

from crisp_ros.geometry.chamfer import nearest_distances, sampled_chamfer


def point_sets(seed: int, *shape: int, distance_m: float = 0.0) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.uniform(-0.1, 0.1, (*shape, 3)) + (0, 0, distance_m)).float()


def test_identical_sets_far_from_the_camera_have_distance_zero():
    """Float32 at 30 m; a distance by matrix products says 1.2 mm."""
    x = point_sets(0, 3, 128, distance_m=30.0)
    assert (nearest_distances(x, x.clone()) == 0.0).all()


def test_sets_agree_with_a_search_tree_and_ignore_invalid_points():
    a, b = point_sets(1, 4, 60), point_sets(2, 4, 45)
    generator = torch.Generator().manual_seed(0)
    b_valid = torch.rand(b.shape[:2], generator=generator) < 0.7
    nearest = nearest_distances(a, b, b_valid)
    for i in range(4):
        expected = cKDTree(b[i, b_valid[i]].numpy()).query(a[i].numpy())[0]
        np.testing.assert_allclose(nearest[i], expected, rtol=1e-4)


def test_leading_dimensions_broadcast():
    a, b = point_sets(3, 2, 5, 30), point_sets(4, 2, 1, 40)
    found = nearest_distances(a, b)
    assert found.shape == (2, 5, 30)
    assert (found[1, 3] == nearest_distances(a[1, 3], b[1, 0])).all()


def test_an_empty_set_is_infinitely_far():
    x, none = point_sets(5, 30), torch.zeros(30, dtype=torch.bool)
    assert nearest_distances(x, x, none).isinf().all()


def test_sampled_chamfer_is_the_mean_of_both_directions():
    a, b = point_sets(1, 300).numpy(), point_sets(2, 200).numpy()
    distances = cdist(a, b)
    expected = (distances.min(axis=1).mean() + distances.min(axis=0).mean()) / 2
    assert sampled_chamfer(a, b) == pytest.approx(expected)
    assert sampled_chamfer(a, b) == pytest.approx(sampled_chamfer(b, a))
    assert sampled_chamfer([[0, 0, 0]], [[3, 4, 0], [0, 0, 1]]) == pytest.approx(2.0)
