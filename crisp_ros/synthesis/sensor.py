"""Sensor model of an RGB-D camera: colour noise, depth noise and holes."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from crisp_ros.observation.frame import Camera

_DISPLAY_GAMMA = 2.2  # as in the renderer's shader
_SHOULDER = 0.8  # linear light above this is compressed, as film and cameras do


@dataclass(frozen=True)
class DepthSensor:
    """A triangulating depth camera; the defaults are those of a Kinect or Xtion.

    Khoshelham and Elberink (Sensors 12, 2012) measured for it a focal length of 580 px, a
    baseline of 7.5 cm, disparities in eighths of a pixel, and a standard deviation of
    1.43 mm at 1 m that grows with the squared distance. A RealSense D435 (5 cm, about 640 px,
    subpixel noise 0.08 px) comes to the same order: 2.5 mm at 1 m.

    Attributes:
        disparity_px_m: focal length times baseline; disparity = this / depth.
        step_px: disparities are multiples of this; a depth step is step z^2 / disparity_px_m.
        noise_px: standard deviation of the disparity, before it is rounded.
        correlation_px: neighbours share their matching window; Gaussian width of that.
        lateral_px: standard deviation of the place in the image that a pixel really measured.
        edge_jump: a change between neighbours of more than this share of the depth is an edge.
        edge_loss: share of the pixels next to an edge that are lost.
        grazing_deg: incidence (from the normal) where surfaces begin to be lost, and where all are.
        random_loss: share of all pixels that are lost for no reason.
        range_m: nothing nearer or farther is measured.
    """

    disparity_px_m: float = 43.5
    step_px: float = 0.125
    noise_px: float = 0.062
    correlation_px: float = 1.2
    lateral_px: float = 0.4
    edge_jump: float = 0.03
    edge_loss: float = 0.5
    grazing_deg: tuple[float, float] = (70.0, 87.0)
    random_loss: float = 0.002
    range_m: tuple[float, float] = (0.35, 6.0)


@dataclass(frozen=True)
class ColourSensor:
    """A small colour camera.

    Attributes:
        blur_px: Gaussian width of lens and demosaicing.
        exposure: gain on linear light.
        white_balance: gain of each channel, what the automatic balance left over.
        vignetting: share of the light that is missing in the corners.
        full_well: photons of a white pixel; shot noise is 1 / sqrt(full_well) there.
        read_noise: standard deviation in linear light, white is 1.
    """

    blur_px: float = 0.6
    exposure: float = 1.0
    white_balance: tuple[float, float, float] = (1.0, 1.0, 1.0)
    vignetting: float = 0.18
    full_well: float = 6000.0
    read_noise: float = 0.0025


def linear_light(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Display values (..., 3) uint8 as linear light, white at 1."""
    table = (np.arange(256, dtype=np.float32) / 255.0) ** _DISPLAY_GAMMA
    return table[rgb]


def sensed_colour(
    light: NDArray[np.float32], sensor: ColourSensor, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """The image that a camera delivers.

    Args:
        light: (H, W, 3) linear light, white at 1; brighter is possible.

    Returns:
        (H, W, 3) uint8 display values.
    """
    light = np.asarray(light, np.float32)
    if sensor.blur_px > 0.0:
        light = cv2.GaussianBlur(light, (0, 0), sensor.blur_px)
    height, width = light.shape[:2]
    v, u = np.meshgrid(
        np.linspace(-1, 1, height, dtype=np.float32),
        np.linspace(-1, 1, width, dtype=np.float32),
        indexing="ij",
    )
    lens = 1.0 - sensor.vignetting * ((u * u + v * v) / 2.0) ** 2
    light = light * lens[..., None] * np.float32(sensor.exposure)
    light = light * np.asarray(sensor.white_balance, np.float32)
    deviation = np.sqrt(light / sensor.full_well + sensor.read_noise**2)
    light = light + deviation * rng.standard_normal(light.shape, dtype=np.float32)
    shown = _tone(np.maximum(light, 0.0)) ** np.float32(1.0 / _DISPLAY_GAMMA)
    return np.rint(255.0 * shown).astype(np.uint8)


def sensed_depth(
    depth: NDArray[np.float32],
    camera: Camera,
    sensor: DepthSensor,
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    """The depth image that a camera delivers, registered to the colour image.

    Args:
        depth: (H, W) metres, 0 where nothing is.

    Returns:
        (H, W) metres, 0 where nothing was measured: out of range, next to edges, on surfaces seen
        at a grazing angle, and where the projector's ray to the point is blocked.
    """
    depth = np.asarray(depth, np.float32)
    near, far = sensor.range_m
    lost = ~((depth >= near) & (depth <= far))
    lost |= _shadow(depth, sensor)
    lost |= _edges(depth, sensor) & (rng.random(depth.shape, dtype=np.float32) < sensor.edge_loss)
    lost |= rng.random(depth.shape, dtype=np.float32) < _grazing_loss(depth, camera, sensor)
    lost |= rng.random(depth.shape, dtype=np.float32) < sensor.random_loss

    seen = _moved(depth, sensor, rng)
    lost |= seen <= 0.0
    disparity = sensor.disparity_px_m / np.where(lost, 1.0, seen)
    disparity += _correlated_noise(depth.shape, sensor, rng)
    disparity = np.rint(disparity / sensor.step_px) * sensor.step_px
    lost |= disparity <= 0.0
    measured = sensor.disparity_px_m / np.where(lost, 1.0, disparity)
    return np.where(lost, 0.0, measured).astype(np.float32)


def _tone(light: NDArray[np.float32]) -> NDArray[np.float32]:
    """The identity up to the shoulder, then a smooth approach to 1."""
    room = 1.0 - _SHOULDER
    over = np.maximum(light - _SHOULDER, 0.0)
    return np.where(light > _SHOULDER, _SHOULDER + room * (1.0 - np.exp(-over / room)), light)


def _shadow(depth: NDArray[np.float32], sensor: DepthSensor) -> NDArray[np.bool_]:
    """Points that the projector, a baseline to the right of the camera, cannot reach.

    Along a row the projector sees column u at u - disparity. Where something to the right comes
    to lie on or left of that, it is nearer and stands in the way.
    """
    disparity = np.where(depth > 0.0, sensor.disparity_px_m / np.maximum(depth, 1e-3), 0.0)
    column = np.arange(depth.shape[1], dtype=np.float32) - disparity
    right = np.minimum.accumulate(column[:, ::-1], axis=1)[:, ::-1]
    blocked = np.zeros(depth.shape, bool)
    blocked[:, :-1] = right[:, 1:] <= column[:, :-1]
    return blocked


def _edges(depth: NDArray[np.float32], sensor: DepthSensor) -> NDArray[np.bool_]:
    window = np.ones((3, 3), np.uint8)
    jump = cv2.dilate(depth, window) - cv2.erode(depth, window)
    return jump > sensor.edge_jump * np.maximum(depth, 1e-3)


def _grazing_loss(
    depth: NDArray[np.float32], camera: Camera, sensor: DepthSensor
) -> NDArray[np.float32]:
    """Share lost (H, W), rising linearly between the two angles of incidence."""
    height, width = depth.shape
    x = (np.arange(width, dtype=np.float32) - camera.cx) / camera.fx
    y = ((np.arange(height, dtype=np.float32) - camera.cy) / camera.fy)[:, None]
    point = np.stack([x * depth, y * depth, depth], axis=-1)
    normal = np.cross(_difference(point, 1), _difference(point, 0))
    length = np.linalg.norm(normal, axis=-1) * np.linalg.norm(point, axis=-1)
    cosine = np.abs((normal * point).sum(-1)) / np.maximum(length, 1e-12)
    begin, end = (np.cos(np.deg2rad(a)) for a in sensor.grazing_deg)
    return np.clip((begin - cosine) / (begin - end), 0.0, 1.0)


def _difference(point: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    """Return the step from each point (H, W, 3) to its neighbour along an axis.

    Takes the neighbour that is nearer in depth, so that a surface ends at its edge.
    """
    step = np.diff(point, axis=axis)
    first, last = (np.take(step, [i], axis) for i in (0, -1))
    before = np.concatenate([first, step], axis)
    after = np.concatenate([step, last], axis)
    nearer = np.abs(before[..., 2:]) <= np.abs(after[..., 2:])
    return np.where(nearer, before, after)


def _moved(
    depth: NDArray[np.float32], sensor: DepthSensor, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Move the depth of each pixel to a nearby position."""
    if sensor.lateral_px == 0.0:
        return depth
    height, width = depth.shape
    step = np.rint(rng.normal(0.0, sensor.lateral_px, (2, height, width))).astype(int)
    v = np.clip(np.arange(height)[:, None] + step[0], 0, height - 1)
    u = np.clip(np.arange(width)[None, :] + step[1], 0, width - 1)
    return depth[v, u]


def _correlated_noise(
    shape: tuple[int, int], sensor: DepthSensor, rng: np.random.Generator
) -> NDArray[np.float32]:
    noise = rng.standard_normal(shape, dtype=np.float32)
    if sensor.correlation_px > 0.0:
        noise = cv2.GaussianBlur(noise, (0, 0), sensor.correlation_px)
        taps = cv2.getGaussianKernel(2 * int(4 * sensor.correlation_px) + 3, sensor.correlation_px)
        noise /= (taps**2).sum()  # keeps the deviation at 1
    return sensor.noise_px * noise
