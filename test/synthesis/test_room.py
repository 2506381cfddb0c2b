"""Room, materials and light against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from crisp_ros.observation.frame import Camera
from crisp_ros.synthesis.lighting import Lamps, Lighting, indoor_light
from crisp_ros.synthesis.materials import (
    Material,
    cloth,
    plaster,
    sampled,
    spectral_noise,
    tiles,
    wood,
)
from crisp_ros.synthesis.room import Room
from crisp_ros.synthesis.scenes import look_at

CAMERA = Camera(120.0, 120.0, 39.5, 29.5, 80, 60)


def flat(red: float) -> Material:
    return Material(np.full((4, 4, 3), red, np.float32), 1.0)


@pytest.fixture
def room() -> Room:
    pictures = np.full((3, 8, 8, 3), 0.9, np.float32)
    return Room(flat(0.1), flat(0.2), flat(0.3), flat(0.4), pictures)


def nearest_surface(room: Room, eye: np.ndarray, ray: np.ndarray) -> tuple[float, str]:
    """Distance to and name of what a ray meets, every plane tried by itself."""
    hits = []
    x, y = room.table_half
    for axis in range(3):
        if ray[axis] == 0.0:
            continue
        for value in ((-x, x), (-y, y), (-room.table_thickness, 0.0))[axis]:
            t = (value - eye[axis]) / ray[axis]
            p = eye + t * ray
            within = np.abs(p[:2]) <= np.array([x, y]) + 1e-9
            inside = within.all() and -room.table_thickness - 1e-9 <= p[2] <= 1e-9
            if t > 0 and inside:
                top = axis == 2 and value == 0.0
                cloth_here = (np.abs(p[:2]) < room.runner_half).all()
                hits.append((t, "runner" if top and cloth_here else "table"))
        for value in (room.lower[axis], room.upper[axis]):
            t = (value - eye[axis]) / ray[axis]
            p = eye + t * ray
            inside = ((p >= np.array(room.lower) - 1e-9) & (p <= np.array(room.upper) + 1e-9)).all()
            if t > 0 and inside:
                hits.append((t, "floor" if axis == 2 and value < 0 else "wall"))
    return min(hits)


@pytest.mark.parametrize("eye", [(0.9, -0.6, 0.5), (0.3, 1.2, 0.15), (-1.5, 0.2, -0.3)])
def test_every_ray_meets_the_nearest_surface(room, eye):
    T = look_at(np.array(eye), np.array([0.0, 0.05, 0.0]))
    view = room.view(CAMERA, T)
    red = {"table": 0.1, "runner": 0.2, "floor": 0.3}
    kinds = set()
    for v in range(0, 60, 7):
        for u in range(0, 80, 7):
            local = np.array([(u - CAMERA.cx) / CAMERA.fx, (v - CAMERA.cy) / CAMERA.fy, 1.0])
            ray = T[:3, :3].T @ local
            t, kind = nearest_surface(room, np.array(eye), ray)
            kinds.add(kind)
            assert view.depth[v, u] == pytest.approx(t, rel=1e-4)
            np.testing.assert_allclose(view.point[v, u], eye + t * ray, atol=2e-4)
            assert np.linalg.norm(view.normal[v, u]) == pytest.approx(1.0)
            assert view.normal[v, u] @ ray < 0
            if kind in red:
                assert view.reflectance[v, u, 0] == pytest.approx(red[kind], abs=1e-5)
            if kind == "runner":
                assert view.on_table[v, u]
    assert len(kinds) >= 2


def test_pictures_hang_on_the_walls(room):
    T = look_at(np.array([0.0, -1.5, 0.6]), np.array([0.0, 2.2, 0.7]))
    reflectance = room.view(CAMERA, T).reflectance
    assert np.isclose(reflectance[..., 0], 0.9).mean() > 0.02
    assert np.isclose(reflectance[..., 0], 0.09).any()  # their frames


def test_a_material_repeats_and_blends():
    rng = np.random.default_rng(0)
    pixels = rng.random((8, 8, 3)).astype(np.float32)
    material = Material(pixels, 0.4)
    x, y = np.meshgrid(np.arange(8) * 0.05, np.arange(8) * 0.05)
    np.testing.assert_allclose(material.at(x, y), pixels, atol=1e-4)
    np.testing.assert_allclose(material.at(x + 0.4, y - 0.8), pixels, atol=1e-3)
    between = material.at(np.array([0.025]), np.array([0.0]))
    np.testing.assert_allclose(between[0], pixels[0, :2].mean(0), atol=1e-4)
    over_the_seam = material.at(np.array([0.375]), np.array([0.0]))
    np.testing.assert_allclose(over_the_seam[0], (pixels[0, 7] + pixels[0, 0]) / 2, atol=1e-4)


@pytest.mark.parametrize("shape", [(0,), (5,), (70_000,), (3, 2)])
def test_samples_of_any_number(shape):
    image = np.dstack(3 * [np.tile(np.arange(10, dtype=np.float32), (10, 1))])
    u = np.random.default_rng(0).uniform(0, 9, shape)
    found = sampled(image, u, np.zeros(shape))
    assert found.shape == (*shape, 3)
    np.testing.assert_allclose(found[..., 0], u, atol=0.02)


def test_spectral_noise_is_normal_and_has_its_roughness():
    for roughness in (0.5, 2.0):
        noise = spectral_noise(128, roughness, np.random.default_rng(0))
        assert noise.mean() == pytest.approx(0.0, abs=1e-5)
        assert noise.std() == pytest.approx(1.0, abs=1e-5)
    rough, smooth = (
        np.diff(spectral_noise(128, r, np.random.default_rng(0)), axis=0).std() for r in (0.5, 2.0)
    )
    assert smooth < 0.3 * rough
    long = spectral_noise(128, 1.5, np.random.default_rng(0), stretch=(10.0, 1.0))
    assert np.diff(long, axis=1).std() < 0.3 * np.diff(long, axis=0).std()


@pytest.mark.parametrize(
    "make",
    [
        lambda rng: wood(96, rng),
        lambda rng: cloth(96, rng, ((0.5, 0.5, 0.4), (0.1, 0.2, 0.3))),
        lambda rng: tiles(96, rng),
        lambda rng: plaster(96, rng, (0.6, 0.5, 0.4)),
    ],
)
def test_surfaces_reflect_a_part_of_the_light_and_are_repeatable(make):
    first, second = (make(np.random.default_rng(4)).reflectance for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert first.shape == (96, 96, 3)
    assert 0.0 <= first.min() and first.max() <= 1.0 and first.std() > 0.005


def test_light_falls_by_the_cosine_and_objects_cast_shadows():
    ball = trimesh.creation.icosphere(3, 0.1)
    T = np.eye(4)
    T[2, 3] = 0.2  # its shadow lies off to the side that the light does not come from
    direction = np.float32([[np.sin(0.6), 0.0, np.cos(0.6)]])
    lamps = Lamps(direction, np.float32([[1.0, 0.5, 0.25]]))
    lighting = Lighting([ball], [T], lamps, radius_m=0.5)
    x, y = np.meshgrid(np.linspace(-0.4, 0.4, 41), np.linspace(-0.3, 0.3, 31))
    points = np.stack([x.ravel(), y.ravel(), 0 * x.ravel()], 1).astype(np.float32)
    normals = np.tile(np.float32([0, 0, 1]), (len(points), 1))
    light = lighting.irradiance(points, normals)
    # Distance of each point's ray to the ball's centre.
    offset = points - T[:3, 3]
    across = offset - (offset @ direction[0])[:, None] * direction
    distance = np.linalg.norm(across, axis=1)
    shaded = distance < 0.1
    clear = np.abs(distance - 0.1) > 0.008
    assert 50 < shaded.sum() < 600
    assert (light[shaded & clear] == 0).all()
    np.testing.assert_allclose(
        light[~shaded & clear],
        np.cos(0.6) * np.tile([1.0, 0.5, 0.25], ((~shaded & clear).sum(), 1)), rtol=1e-5,
    )  # fmt: skip


def test_a_lit_ball_does_not_shade_itself():
    ball = trimesh.creation.icosphere(3, 0.1)
    direction = np.float32([[0.0, 0.6, 0.8]])
    lighting = Lighting([ball], [np.eye(4)], Lamps(direction, np.ones((1, 3), np.float32)), 0.3)
    normals = ball.vertex_normals.astype(np.float32)
    light = lighting.irradiance(ball.vertices.astype(np.float32), normals)
    facing = normals @ direction[0]
    np.testing.assert_allclose(light[facing > 0.2, 0], facing[facing > 0.2], rtol=1e-5)
    assert not light[facing < -0.05].any()


def test_indoor_light_sums_to_window_lamp_and_walls():
    light = indoor_light(np.random.default_rng(0), window=8, lamp=4, walls=10)
    assert len(light.all.direction) == 22
    np.testing.assert_allclose(np.linalg.norm(light.all.direction, axis=1), 1.0, rtol=1e-5)
    assert (light.all.direction[:, 2] > 0).all()
    np.testing.assert_allclose(
        light.all.irradiance[:12].sum(0), light.brightest.irradiance.sum(0), rtol=1e-4
    )
