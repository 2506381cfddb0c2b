"""The renderer against rays intersected in closed form."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import binary_erosion
from scipy.spatial.transform import Rotation

from crisp_ros.observation.frame import Camera
from crisp_ros.synthesis.renderer import Light, Placement, Renderer, Scene

CAMERA = Camera(310.0, 290.0, 71.3, 50.2, 160, 120)
AS_PAINTED = (1.0, 1.0, 1.0)
HALF = np.array([0.06, 0.04, 0.025])
RADIUS = 0.07


def pose(degrees: tuple[float, float, float], place: tuple[float, float, float]) -> NDArray:
    T = np.eye(4)
    T[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
    T[:3, 3] = place
    return T


def rays(camera: Camera) -> NDArray:
    """(H, W, 3) directions with z = 1 through the pixel centres; row v, column u."""
    u, v = np.meshgrid(np.arange(camera.width), np.arange(camera.height))
    return np.stack([(u - camera.cx) / camera.fx, (v - camera.cy) / camera.fy, np.ones_like(u)], -1)


def box_depth(camera: Camera, T: NDArray) -> NDArray:
    """Return the depth at which rays enter the box, infinite where they miss it."""
    inverse = np.linalg.inv(T)
    direction, origin = rays(camera) @ inverse[:3, :3].T, inverse[:3, 3]
    a, b = (-HALF - origin) / direction, (HALF - origin) / direction
    enter, leave = np.minimum(a, b).max(-1), np.maximum(a, b).min(-1)
    return np.where(enter < leave, enter, np.inf)


def sphere_depth(camera: Camera, T: NDArray) -> NDArray:
    direction, centre = rays(camera), T[:3, 3]
    a, b = (direction**2).sum(-1), direction @ centre
    under = b**2 - a * (centre @ centre - RADIUS**2)
    return np.where(under > 0, (b - np.sqrt(np.maximum(under, 0))) / a, np.inf)


def box() -> trimesh.Trimesh:
    return trimesh.creation.box(2 * HALF)


def sphere() -> trimesh.Trimesh:
    return trimesh.creation.icosphere(5, radius=RADIUS)


@pytest.mark.parametrize(
    "degrees, place",
    [
        ((0, 0, 0), (0, 0, 0.5)),
        ((25, 40, -30), (0.05, -0.04, 0.45)),
        ((200, 5, 70), (-0.06, 0.05, 0.6)),
    ],
)
def test_depth_instances_and_pnc_of_a_box(make_renderer, degrees, place):
    T = pose(degrees, place)
    rendering = make_renderer([box()], 160, 120).render(Scene(CAMERA, (Placement(0, T),)))
    true = box_depth(CAMERA, T)
    seen = rendering.instances == 1

    assert np.count_nonzero(seen != np.isfinite(true)) <= 4  # rays that graze an edge
    assert np.count_nonzero(seen) > 500
    both = seen & np.isfinite(true)
    np.testing.assert_allclose(rendering.depth[both], true[both], atol=2e-5)
    local = true[both][:, None] * rays(CAMERA)[both]
    expected = trimesh.transform_points(local, np.linalg.inv(T))
    np.testing.assert_allclose(rendering.pnc[both], expected, atol=2e-5)
    assert not rendering.depth[~seen].any() and not rendering.pnc[~seen].any()
    assert not rendering.rgb[~seen].any()


def test_depth_of_a_sphere(make_renderer):
    T = pose((10, 20, 30), (0.02, -0.03, 0.5))
    rendering = make_renderer([sphere()], 160, 120).render(Scene(CAMERA, (Placement(0, T),)))
    true = sphere_depth(CAMERA, T)
    inside = binary_erosion(np.isfinite(true), iterations=2)
    assert np.count_nonzero(inside) > 3000
    assert (rendering.instances[inside] == 1).all()
    np.testing.assert_allclose(rendering.depth[inside], true[inside], atol=2e-4)
    radii = np.linalg.norm(rendering.pnc[inside], axis=-1)
    np.testing.assert_allclose(radii, RADIUS, atol=1e-4)


def test_the_nearer_of_two_objects_is_seen(make_renderer):
    poses = pose((15, 30, 0), (0.03, 0.0, 0.6)), pose((0, 0, 0), (-0.01, 0.01, 0.5))
    placements = Placement(1, poses[0]), Placement(0, poses[1])
    rendering = make_renderer([sphere(), box()], 160, 120).render(Scene(CAMERA, placements))
    layers = np.stack([box_depth(CAMERA, poses[0]), sphere_depth(CAMERA, poses[1])])
    expected = np.where(np.isfinite(layers).any(0), layers.argmin(0) + 1, 0)
    assert set(np.unique(rendering.instances)) == {0, 1, 2}
    assert (rendering.instances != expected).mean() < 0.01


def test_rows_run_downwards_and_columns_to_the_right(make_renderer):
    T = pose((0, 0, 0), (0.10, -0.05, 0.6))  # right of the axis and above it
    rendering = make_renderer([sphere()], 160, 120).render(Scene(CAMERA, (Placement(0, T),)))
    v, u = np.nonzero(rendering.instances)
    assert u.mean() == pytest.approx(CAMERA.cx + CAMERA.fx * 0.10 / 0.6, abs=2.5)
    assert v.mean() == pytest.approx(CAMERA.cy - CAMERA.fy * 0.05 / 0.6, abs=2.5)


def test_a_texture_keeps_its_upper_left_corner(make_renderer):
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[:32, :32], pixels[:32, 32:] = (255, 0, 0), (0, 255, 0)
    pixels[32:, :32], pixels[32:, 32:] = (0, 0, 255), (255, 255, 0)
    # A square that faces the camera, y up in the texture, y down in the camera frame.
    square = trimesh.Trimesh(
        [[-0.1, -0.1, 0], [0.1, -0.1, 0], [0.1, 0.1, 0], [-0.1, 0.1, 0]],
        [[0, 1, 2], [0, 2, 3]],
        visual=trimesh.visual.TextureVisuals(
            uv=[[0, 1], [1, 1], [1, 0], [0, 0]], image=Image.fromarray(pixels)
        ),
        process=False,
    )
    scene = Scene(CAMERA, (Placement(0, pose((0, 0, 0), (0, 0, 0.6)), 0.0),), AS_PAINTED, ())
    rgb = make_renderer([square], 160, 120).render(scene).rgb
    u, v, step = round(CAMERA.cx), round(CAMERA.cy), 20
    assert rgb[v - step, u - step].tolist() == [255, 0, 0]
    assert rgb[v - step, u + step].tolist() == [0, 255, 0]
    assert rgb[v + step, u - step].tolist() == [0, 0, 255]
    assert rgb[v + step, u + step].tolist() == [255, 255, 0]


def test_vertex_colours_blend_over_a_face(make_renderer):
    corners = np.array([[-0.1, -0.1, 0], [0.1, -0.1, 0], [0.1, 0.1, 0], [-0.1, 0.1, 0]])
    colours = np.array([[0, 0, 0], [240, 0, 0], [240, 120, 0], [0, 120, 0]], np.uint8)
    square = trimesh.Trimesh(corners, [[0, 1, 2], [0, 2, 3]], vertex_colors=colours, process=False)
    T = pose((0, 0, 0), (0, 0, 0.6))
    scene = Scene(CAMERA, (Placement(0, T, 0.0),), AS_PAINTED, ())
    rendering = make_renderer([square], 160, 120).render(scene)
    seen = rendering.instances > 0
    x, y = rendering.pnc[seen][:, 0], rendering.pnc[seen][:, 1]
    expected = np.stack([240 * (x + 0.1) / 0.2, 120 * (y + 0.1) / 0.2, 0 * x], 1)
    np.testing.assert_allclose(rendering.rgb[seen], expected, atol=1.5)


def test_a_plain_mesh_is_drawn_in_one_colour(make_renderer):
    scene = Scene(CAMERA, (Placement(0, pose((30, 20, 0), (0, 0, 0.5)), 0.0),), AS_PAINTED, ())
    rendering = make_renderer([box()], 160, 120).render(scene)
    colours = rendering.rgb[rendering.instances > 0]
    assert (colours == colours[0]).all() and colours[0].min() > 50


def test_light_follows_the_cosine_law(make_renderer):
    white = sphere()
    white.visual.vertex_colors = np.full((len(white.vertices), 4), 255, np.uint8)
    direction = np.array([0.6, -0.3, -0.74])
    direction /= np.linalg.norm(direction)
    lights = (Light(tuple(3.0 * direction), (0.8, 0.4, 0.2)),)  # its length does not matter
    T = pose((0, 0, 0), (0, 0, 0.5))
    scene = Scene(CAMERA, (Placement(0, T, specular=0.0),), (0.0, 0.0, 0.0), lights)
    rendering = make_renderer([white], 160, 120).render(scene)
    inside = binary_erosion(rendering.instances > 0, iterations=2)
    facing = np.maximum(rendering.pnc[inside] / RADIUS @ direction, 0)
    linear = (rendering.rgb[inside] / 255.0) ** 2.2
    np.testing.assert_allclose(linear, facing[:, None] * [0.8, 0.4, 0.2], atol=0.015)


def test_two_renderers_take_turns(make_renderer):
    T = pose((0, 0, 0), (0, 0, 0.5))
    small = Camera(100.0, 100.0, 31.5, 23.5, 64, 48)
    first = make_renderer([sphere()], 160, 120)
    second = make_renderer([box()], 64, 48)
    scenes = Scene(CAMERA, (Placement(0, T),)), Scene(small, (Placement(0, T),))
    expected = [first.render(scenes[0]).depth, second.render(scenes[1]).depth]
    for _ in range(2):
        np.testing.assert_array_equal(first.render(scenes[0]).depth, expected[0])
        np.testing.assert_array_equal(second.render(scenes[1]).depth, expected[1])
    np.testing.assert_allclose(expected[1] > 0, np.isfinite(box_depth(small, T)), atol=0)


def test_a_camera_of_another_size_is_refused():
    renderer = Renderer([box()], 64, 48)
    with pytest.raises(ValueError, match="camera is 160x120, renderer 64x48"):
        renderer.render(Scene(CAMERA, ()))
    renderer.release()
