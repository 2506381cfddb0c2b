"""The sensor model against what is known of such cameras."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from crisp_ros.observation.frame import Camera
from crisp_ros.synthesis.sensor import (
    ColourSensor,
    DepthSensor,
    linear_light,
    sensed_colour,
    sensed_depth,
)

CAMERA = Camera(300.0, 300.0, 119.5, 89.5, 240, 180)
# Nothing but what a test switches on.
PERFECT = DepthSensor(
    step_px=1e-4, noise_px=0.0, lateral_px=0.0, edge_loss=0.0, random_loss=0.0, range_m=(0.1, 20.0)
)  # fmt: skip
EXACT = ColourSensor(blur_px=0.0, vignetting=0.0, full_well=np.inf, read_noise=0.0)


def wall(depth: float) -> np.ndarray:
    return np.full((180, 240), depth, np.float32)


def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def tilted(degrees: float) -> np.ndarray:
    """Depth of a plane through (0, 0, 1) whose normal is tilted about the vertical axis."""
    slope = np.tan(np.deg2rad(degrees))
    x = (np.arange(240) - CAMERA.cx) / CAMERA.fx
    return np.tile(1.0 / (1.0 + slope * x), (180, 1)).astype(np.float32)


def test_a_perfect_sensor_changes_nothing():
    depth = tilted(30)
    np.testing.assert_allclose(sensed_depth(depth, CAMERA, PERFECT, rng()), depth, rtol=1e-5)


def test_noise_grows_with_the_square_of_the_depth():
    sensor = replace(PERFECT, noise_px=0.062, correlation_px=0.7)
    spread = [sensed_depth(wall(z), CAMERA, sensor, rng()).std() for z in (0.5, 1.0, 2.0)]
    assert spread[1] == pytest.approx(1.43e-3, rel=0.03)  # as measured for the Kinect at 1 m
    assert spread[1] / spread[0] == pytest.approx(4.0, rel=0.02)
    assert spread[2] / spread[1] == pytest.approx(4.0, rel=0.02)


def test_noise_is_shared_by_neighbours_as_far_as_asked():
    for correlation, expected in ((0.0, 0.0), (1.5, np.exp(-1 / (4 * 1.5**2)))):
        sensor = replace(PERFECT, noise_px=0.06, correlation_px=correlation)
        noise = sensed_depth(wall(1.0), CAMERA, sensor, rng()) - 1.0
        shared = np.corrcoef(noise[:, 1:].ravel(), noise[:, :-1].ravel())[0, 1]
        assert shared == pytest.approx(expected, abs=0.03)


def test_disparities_are_whole_steps():
    sensor = replace(PERFECT, step_px=0.125)
    measured = sensed_depth(tilted(30), CAMERA, sensor, rng())
    steps = sensor.disparity_px_m / measured / 0.125
    np.testing.assert_allclose(steps, np.rint(steps), atol=1e-3)
    levels = np.unique(measured)
    near_1m = levels[np.abs(levels - 1.0) < 0.02]
    assert np.diff(near_1m).mean() == pytest.approx(0.125 / 43.5, rel=0.05)


def test_only_pixels_next_to_edges_are_lost():
    depth = wall(1.0)
    depth[60:120, 80:160] = 0.9
    sensor = replace(PERFECT, edge_loss=1.0, disparity_px_m=1e-3)  # hardly any shadow
    lost = sensed_depth(depth, CAMERA, sensor, rng()) == 0.0
    near_edge = np.zeros_like(lost)
    near_edge[59:121, 79:161] = True
    near_edge[61:119, 81:159] = False
    np.testing.assert_array_equal(lost, near_edge)


def test_the_projector_casts_a_shadow_to_the_left():
    depth = wall(1.5)
    depth[:, 120:] = 0.75
    lost = sensed_depth(depth, CAMERA, PERFECT, rng()) == 0.0
    width = 43.5 * (1 / 0.75 - 1 / 1.5)
    assert not lost[:, 120:].any()
    assert np.all(np.abs(lost[:, :120].sum(1) - width) <= 1)
    assert lost[:, 119].all() and not lost[:, : 120 - int(width) - 2].any()


@pytest.mark.parametrize("degrees, share", [(60, 0.0), (78.5, 0.35), (89.0, 1.0)])
def test_grazing_surfaces_are_lost(degrees, share):
    # Rows of the middle column are seen at the plane's own tilt.
    x = np.deg2rad(degrees)
    camera = Camera(3000.0, 3000.0, 119.5, 89.5, 240, 180)
    slope = np.tan(x)
    depth = np.tile(
        1.0 / (1.0 + slope * (np.arange(240) - camera.cx) / camera.fx), (180, 1)
    ).astype(np.float32)
    sensor = replace(PERFECT, disparity_px_m=1e-3, step_px=1e-9)
    lost = sensed_depth(depth, camera, sensor, rng())[:, 110:130] == 0.0
    begin, end = np.cos(np.deg2rad((70.0, 87.0)))
    expected = np.clip((begin - np.cos(x)) / (begin - end), 0, 1)
    assert lost.mean() == pytest.approx(expected, abs=0.05)
    assert expected == pytest.approx(share, abs=0.15)


def test_what_is_out_of_range_or_empty_stays_unknown():
    depth = wall(1.0)
    depth[:60], depth[60:120] = 0.2, 9.0
    depth[:, :20] = 0.0
    measured = sensed_depth(depth, CAMERA, replace(PERFECT, range_m=(0.35, 6.0)), rng())
    assert not measured[:120].any() and not measured[:, :20].any()
    assert (measured[125:, 60:] > 0).all()


def test_some_pixels_are_lost_anywhere():
    measured = sensed_depth(wall(1.0), CAMERA, replace(PERFECT, random_loss=0.1), rng())
    assert (measured == 0.0).mean() == pytest.approx(0.1, abs=0.01)


def test_pixels_measure_next_to_their_place():
    measured = sensed_depth(tilted(45), CAMERA, replace(PERFECT, lateral_px=1.0), rng())
    step = np.abs(np.gradient(tilted(45), axis=1)).mean()
    assert np.std(measured - tilted(45)) == pytest.approx(
        step * np.hypot(1.0, 1 / np.sqrt(12)), rel=0.15
    )


def test_the_default_sensor_is_repeatable_and_sees_a_wall():
    first = sensed_depth(wall(1.0), CAMERA, DepthSensor(), rng())
    np.testing.assert_array_equal(first, sensed_depth(wall(1.0), CAMERA, DepthSensor(), rng()))
    assert (first > 0).mean() > 0.99
    assert abs(first[first > 0].mean() - 1.0) < 1e-3


def test_an_exact_camera_shows_what_was_rendered():
    shown = np.arange(0, 225, dtype=np.uint8).reshape(5, 15, 3)  # below the shoulder
    np.testing.assert_array_equal(sensed_colour(linear_light(shown), EXACT, rng()), shown)


def test_brighter_light_is_shown_brighter_and_never_beyond_white():
    light = np.linspace(0, 4, 200, dtype=np.float32).reshape(1, 200, 1).repeat(3, 2)
    shown = sensed_colour(light, EXACT, rng()).astype(int)
    assert (np.diff(shown[0, :, 0]) >= 0).all() and shown.max() == 255
    assert shown[0, 49, 0] < 250  # white is not reached at once


def test_exposure_and_white_balance_scale_the_light():
    light = np.full((20, 20, 3), 0.1, np.float32)
    sensor = replace(EXACT, exposure=2.0, white_balance=(1.0, 0.5, 2.0))
    linear = linear_light(sensed_colour(light, sensor, rng()))
    np.testing.assert_allclose(linear[0, 0], [0.2, 0.1, 0.4], atol=0.004)


def test_noise_is_that_of_the_photons():
    light = np.full((200, 200, 3), 0.25, np.float32)
    sensor = replace(EXACT, full_well=2000.0, read_noise=0.003)
    linear = linear_light(sensed_colour(light, sensor, rng()))
    assert linear.mean() == pytest.approx(0.25, abs=0.002)
    assert linear.std() == pytest.approx(np.hypot(np.sqrt(0.25 / 2000), 0.003), rel=0.05)


def test_corners_are_darker_and_edges_softer():
    light = np.full((100, 100, 3), 0.3, np.float32)
    shown = linear_light(sensed_colour(light, replace(EXACT, vignetting=0.4), rng()))
    assert shown[0, 0, 0] == pytest.approx(0.3 * 0.6, abs=0.01)
    assert shown[50, 50, 0] == pytest.approx(0.3, abs=0.005)
    light[:, 50:] = 0.0
    soft = sensed_colour(light, replace(EXACT, blur_px=1.0), rng())
    assert 0 < soft[50, 50, 0] < soft[50, 49, 0] < soft[50, 30, 0]
