import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crisp_ros.geometry.decimation import is_closed
from crisp_ros.geometry.marching_cubes import triangulate


def volume(vertices, faces):
    a, b, c = vertices[faces].transpose(1, 0, 2)
    return (a * np.cross(b, c)).sum() / 6


@given(seed=st.integers(0, 2**31), shape=st.tuples(*[st.integers(3, 7)] * 3))
@settings(max_examples=60, deadline=None)
def test_any_values_give_a_closed_outward_surface(seed, shape):
    """Random signs hit every one of the 256 patterns and all ambiguous faces."""
    values = np.random.default_rng(seed).standard_normal(shape)
    core = tuple(slice(1, -1) for _ in shape)
    closed = np.full(shape, 1.0)
    closed[core] = values[core]
    vertices, faces = triangulate(closed)
    if not (closed < 0).any():
        assert len(faces) == 0
        return
    assert is_closed(faces)
    assert len(np.unique(faces)) == len(vertices)
    assert volume(vertices, faces) > 0


@given(seed=st.integers(0, 2**31))
@settings(max_examples=30, deadline=None)
def test_vertices_are_the_zeros_of_grid_edges(seed):
    values = np.random.default_rng(seed).standard_normal((5, 4, 6))
    vertices, _ = triangulate(values)
    lower = np.floor(vertices).astype(int)
    fraction = vertices - lower
    axis = fraction.argmax(1)
    assert ((fraction > 0).sum(1) == 1).all()
    upper = lower.copy()
    upper[np.arange(len(axis)), axis] += 1
    a, b = values[tuple(lower.T)], values[tuple(upper.T)]
    np.testing.assert_allclose(fraction.max(1), np.clip(a / (a - b), 1e-3, 1 - 1e-3))
    naive = sum(int((np.diff(np.sign(values), axis=k) != 0).sum()) for k in range(3))
    assert len(vertices) == naive


@pytest.mark.parametrize("pattern", range(256))
def test_every_sign_pattern_of_one_cell(pattern):
    """Each inside corner ends up inside: winding number by solid angle."""
    values = np.ones((4, 4, 4))
    for corner in range(8):
        if pattern >> corner & 1:
            values[1 + (corner & 1), 1 + (corner >> 1 & 1), 1 + (corner >> 2 & 1)] = -1
    vertices, faces = triangulate(values)
    for point in np.ndindex(2, 2, 2):
        corner = np.array(point) + 1
        if len(faces) == 0:
            assert pattern == 0
            continue
        a, b, c = (vertices[faces] - corner).transpose(1, 0, 2)
        la, lb, lc = (np.linalg.norm(x, axis=1) for x in (a, b, c))
        numerator = (a * np.cross(b, c)).sum(1)
        denominator = la * lb * lc + (a * b).sum(1) * lc + (b * c).sum(1) * la + (c * a).sum(1) * lb
        winding = 2 * np.arctan2(numerator, denominator).sum() / (4 * np.pi)
        np.testing.assert_allclose(winding, float(values[tuple(corner)] < 0), atol=1e-9)


def test_an_exact_zero_counts_as_outside():
    values = np.ones((3, 3, 3))
    values[1, 1, 1] = -1
    values[2, 1, 1] = 0
    vertices, faces = triangulate(values)
    assert is_closed(faces)
    np.testing.assert_allclose(vertices[:, 0].max(), 2 - 1e-3)


def test_no_surface():
    vertices, faces = triangulate(np.ones((4, 5, 6)))
    assert vertices.shape == (0, 3) and faces.shape == (0, 3)
