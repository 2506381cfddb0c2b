import numpy as np
import pytest
import torch
from analytic import box, household, mug, sphere
from scipy.spatial.transform import Rotation

from crisp_ros.geometry.decimation import is_closed
from crisp_ros.geometry.isosurface import IsosurfaceSettings, extract_meshes
from crisp_ros.geometry.marching_cubes import triangulate

COARSE = IsosurfaceSettings(voxels=40)


def boxes(shapes):
    return torch.tensor([s.lower for s in shapes]), torch.tensor([s.upper for s in shapes])


def chosen(shapes, calls=None):
    """The signed distance function of a list of shapes, as `extract_meshes` calls it."""

    def sdf(points, shape_index):
        assert points.shape == (len(shape_index), 3)
        assert (shape_index.diff() >= 0).all()
        if calls is not None:
            calls.append(len(points))
        distances = torch.stack([s.sdf(points) for s in shapes])
        return distances.gather(0, shape_index[None])[0]

    return sdf


def dense_mesh(sdf, lower, upper, voxels, margin):
    """The oracle: every grid point evaluated, one shape."""
    lower, upper = np.asarray(lower, float), np.asarray(upper, float)
    longest = (upper - lower).max()
    edge = longest * (1 + 2 * margin) / voxels
    cells = np.ceil((upper - lower + 2 * margin * longest) / edge / 8 - 1e-4) * 8
    origin = (lower + upper) / 2 - edge * cells / 2
    index = np.stack(np.meshgrid(*[np.arange(n + 1) for n in cells], indexing="ij"), -1)
    points = torch.tensor(origin + edge * index, dtype=torch.float32)
    values = sdf(points.flatten(0, 2)).reshape(points.shape[:-1]).numpy()
    vertices, faces = triangulate(values)
    return origin + edge * vertices, faces, edge


def volume(mesh):
    a, b, c = mesh.vertices[mesh.faces].astype(float).transpose(1, 0, 2)
    return (a * np.cross(b, c)).sum() / 6


@pytest.mark.parametrize("shape", household(), ids=lambda s: s.name)
def test_sparse_sampling_gives_the_dense_mesh(shape):
    mesh = extract_meshes(chosen([shape]), *boxes([shape]), COARSE)[0]
    vertices, faces, _ = dense_mesh(shape.sdf, shape.lower, shape.upper, 40, COARSE.margin)
    np.testing.assert_allclose(mesh.vertices, vertices, atol=2e-6)
    np.testing.assert_array_equal(mesh.faces, faces)


@pytest.mark.parametrize("gain", [0.5, 1.0, 2.0])
def test_slopes_other_than_one_lose_nothing(gain):
    """A learned function's gradient is not exactly 1; the mug is not aligned with the grid."""
    shape = mug(0.04, 0.045, 0.008, 0.03)
    rotation = torch.tensor(Rotation.random(random_state=4).as_matrix()).float()

    def rotated(points, _=None):
        return gain * shape.sdf(points @ rotation)

    lower, upper = torch.full((1, 3), -0.09), torch.full((1, 3), 0.09)
    mesh = extract_meshes(rotated, lower, upper, COARSE)[0]
    vertices, faces, _ = dense_mesh(rotated, lower[0], upper[0], 40, COARSE.margin)
    np.testing.assert_allclose(mesh.vertices, vertices, atol=2e-6)
    assert len(mesh.faces) == len(faces)


def test_sparse_sampling_is_sparse():
    shape = sphere(0.05)
    calls = []
    extract_meshes(chosen([shape], calls), *boxes([shape]))
    assert sum(calls) < 65**3 / 8
    calls.clear()
    extract_meshes(chosen([shape] * 3, calls), *boxes([shape] * 3))
    assert len(calls) < 20, "all shapes share one call of the function a step"


def test_vertices_are_on_the_surface_and_faces_look_outwards():
    shapes = household()
    meshes = extract_meshes(chosen(shapes), *boxes(shapes), COARSE)
    for shape, mesh in zip(shapes, meshes, strict=True):
        edge = max(np.subtract(shape.upper, shape.lower)) * 1.1 / 40
        assert is_closed(mesh.faces), shape.name
        assert mesh.vertices.dtype == np.float32 and mesh.faces.dtype == np.int32
        assert shape.sdf(torch.tensor(mesh.vertices)).abs().max() < 0.5 * edge, shape.name
        corners = mesh.vertices[mesh.faces].astype(float)
        normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        middle = torch.tensor(corners.mean(1))
        ahead = middle + 0.2 * edge * torch.nn.functional.normalize(torch.tensor(normals), dim=1)
        rises = (shape.sdf(ahead) > shape.sdf(middle)).double()
        area = torch.tensor(np.linalg.norm(normals, axis=1))
        assert (rises * area).sum() / area.sum() > 0.97, shape.name


def test_the_batch_does_not_change_a_mesh():
    shapes = [sphere(0.05), box((0.1, 0.02, 0.03))]
    together = extract_meshes(chosen(shapes), *boxes(shapes), COARSE)
    for shape, mesh in zip(shapes, together, strict=True):
        alone = extract_meshes(chosen([shape]), *boxes([shape]), COARSE)[0]
        assert volume(mesh) == pytest.approx(volume(alone), rel=0.02)


def test_sphere_volume_and_position():
    centre = torch.tensor([0.3, -0.2, 0.7])
    mesh = extract_meshes(
        lambda p, _: (p - centre).norm(dim=-1) - 0.05,
        (centre - 0.05)[None],
        (centre + 0.05)[None],
    )[0]
    assert volume(mesh) == pytest.approx(4 / 3 * np.pi * 0.05**3, rel=3e-3)
    np.testing.assert_allclose(mesh.vertices.mean(0), centre.numpy(), atol=1e-5)


def test_a_surface_that_leaves_the_box_is_closed_there():
    lower, upper = torch.tensor([[-0.1, -0.1, 0.0]]), torch.tensor([[0.1, 0.1, 0.1]])
    mesh = extract_meshes(lambda p, _: p.norm(dim=-1) - 0.08, lower, upper, COARSE)[0]
    assert is_closed(mesh.faces)
    assert volume(mesh) > 0.5 * 4 / 3 * np.pi * 0.08**3


def test_a_function_that_is_inside_everywhere_fills_the_box():
    lower, upper = torch.full((1, 3), -0.1), torch.full((1, 3), 0.1)
    mesh = extract_meshes(lambda p, _: torch.full_like(p[:, 0], -0.05), lower, upper, COARSE)[0]
    assert is_closed(mesh.faces)
    assert volume(mesh) == pytest.approx(0.22**3, rel=0.2)


def test_specks_are_dropped_and_hollows_and_large_pieces_kept():
    speck = torch.tensor([0.085, 0.085, 0.085])
    second = torch.tensor([0.0, 0.08, 0.0])

    def sdf(points, _=None):
        shell = (points.norm(dim=-1) - 0.05).abs() - 0.01
        ball = (points - second).norm(dim=-1) - 0.015
        return torch.minimum(torch.minimum(shell, (points - speck).norm(dim=-1) - 0.006), ball)

    lower, upper = torch.full((1, 3), -0.1), torch.full((1, 3), 0.1)
    mesh = extract_meshes(sdf, lower, upper, COARSE)[0]
    assert is_closed(mesh.faces)
    radius = np.linalg.norm(mesh.vertices, axis=1)
    assert (np.linalg.norm(mesh.vertices - speck.numpy(), axis=1) > 0.02).all()
    assert (np.abs(radius - 0.04) < 0.002).sum() > 100, "the hollow"
    assert (np.linalg.norm(mesh.vertices - second.numpy(), axis=1) < 0.016).any()
    everything = extract_meshes(
        sdf, lower, upper, IsosurfaceSettings(voxels=40, min_component=0.0)
    )[0]
    assert len(everything.faces) > len(mesh.faces)


@pytest.mark.parametrize("value", [1.0, float("nan"), float("inf")])
def test_no_surface_is_an_empty_mesh(value):
    shape = sphere(0.05)
    lower, upper = boxes([shape, shape])

    def sdf(points, shape_index):
        return torch.where(shape_index == 0, value, shape.sdf(points))

    empty, full = extract_meshes(sdf, lower, upper, COARSE)
    assert empty.is_empty and empty.vertices.shape == (0, 3) and empty.faces.shape == (0, 3)
    assert not full.is_empty


def test_no_shapes():
    assert extract_meshes(lambda p, _: p[:, 0], torch.zeros(0, 3), torch.zeros(0, 3)) == []


@pytest.mark.parametrize(
    "lower, upper",
    [([0.0, 0.0, 0.0], [0.1, 0.0, 0.1]), ([0.0, 0.0, float("nan")], [1.0, 1.0, 1.0])],
)
def test_bad_boxes_are_refused(lower, upper):
    with pytest.raises(ValueError, match="lower < upper"):
        extract_meshes(lambda p, _: p[:, 0], torch.tensor([lower]), torch.tensor([upper]))


def test_bad_settings_are_refused():
    with pytest.raises(ValueError, match="voxels is 2"):
        IsosurfaceSettings(voxels=2)
    with pytest.raises(ValueError, match="band"):
        IsosurfaceSettings(band=0.0)
