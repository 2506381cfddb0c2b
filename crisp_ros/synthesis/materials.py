"""Procedural surfaces of a room, as linear reflectance: wood, cloth, tiles and plaster.

Made by other means than the training backgrounds (rings of a tree, threads over and under one
another, tiles with joints; spectral noise), so that what is shown on them was never trained on.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float32]

_ROW = 4096


@dataclass(frozen=True)
class Material:
    """A surface that repeats: reflectance (S, S, 3) in linear light, one period in metres."""

    reflectance: Image
    period_m: float

    def at(self, x: NDArray[np.floating], y: NDArray[np.floating]) -> Image:
        """Reflectance (..., 3) at surface coordinates (...), metres."""
        side = len(self.reflectance)
        # The first row and column are repeated, so that interpolation runs across the seam.
        wrapped = np.pad(self.reflectance, ((0, 1), (0, 1), (0, 0)), mode="wrap")
        return sampled(
            wrapped, np.mod(x / self.period_m, 1.0) * side, np.mod(y / self.period_m, 1.0) * side
        )


def sampled(image: Image, u: NDArray[np.floating], v: NDArray[np.floating]) -> Image:
    """Bilinear samples (..., 3) of an image at pixels (...); its rim continues outwards."""
    # OpenCV takes at most 32767 columns and rows.
    count = u.size
    rows = max(1, -(-count // _ROW))
    places = np.zeros((2, rows * _ROW), np.float32)
    places[0, :count], places[1, :count] = u.ravel(), v.ravel()
    columns, lines = places.reshape(2, rows, _ROW)
    found = cv2.remap(image, columns, lines, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return found.reshape(-1, 3)[:count].reshape(*u.shape, 3)


def wood(side_px: int, rng: np.random.Generator, period_m: float = 0.9) -> Material:
    """Boards sawn from a tree: rings about a slanted axis, bent by noise, with fine pores."""
    boards = 6
    x, y = _grid(side_px, period_m)
    board = np.floor(y / period_m * boards).astype(int) % boards
    offset = rng.uniform(-0.4, 0.4, (boards, 2))
    tilt = rng.normal(0.0, 0.05, boards)
    across = (y % (period_m / boards)) - period_m / boards / 2 + 0.25 * offset[board, 0]
    depth = 0.03 + 0.12 * np.abs(offset[board, 1]) + tilt[board] * np.sin(2 * np.pi * x / period_m)
    bend = 0.007 * spectral_noise(side_px, 2.2, rng, stretch=(6.0, 1.0))
    rings = np.hypot(across, depth + bend) / 0.0075
    phase = rings - np.floor(rings)
    late = phase**3 * (1.0 - np.clip((phase - 0.94) / 0.06, 0.0, 1.0))  # dark towards a ring's end
    pores = np.clip(spectral_noise(side_px, 0.35, rng, stretch=(40.0, 1.0)) - 1.1, 0.0, 1.5)
    tone = (
        0.5 * spectral_noise(side_px, 1.8, rng, stretch=(4.0, 1.0))
        + rng.normal(0, 0.5, boards)[board]
    )
    light, dark = np.array([0.50, 0.315, 0.165]), np.array([0.27, 0.135, 0.058])
    mix = np.clip(0.32 + 0.13 * tone + 0.5 * late, 0.0, 1.0)[..., None]
    reflectance = (light + (dark - light) * mix) * (1.0 - 0.22 * pores[..., None])
    distance = np.abs((y / period_m * boards + 0.5) % 1.0 - 0.5) * period_m / boards
    joint = np.clip(1.0 - distance / 0.0009, 0.0, 1.0)[..., None]
    return Material((reflectance * (1.0 - 0.75 * joint)).astype(np.float32), period_m)


def cloth(
    side_px: int,
    rng: np.random.Generator,
    colours: tuple[tuple[float, float, float], tuple[float, float, float]],
    period_m: float = 0.12,
) -> Material:
    """Plain weave: threads pass over and under one another; wide stripes of a second colour."""
    threads = 72
    x, y = _grid(side_px, period_m)
    u, v = x / period_m * threads, y / period_m * threads
    warp_above = (np.floor(u) + np.floor(v)) % 2 == 0
    along = np.where(warp_above, v % 1.0, u % 1.0)
    across = np.where(warp_above, u % 1.0, v % 1.0)
    height = np.sin(np.pi * along) ** 0.6 * np.sin(np.pi * across) ** 0.5
    fibre = 0.06 * spectral_noise(side_px, 0.3, rng)
    uneven = 0.05 * rng.standard_normal(threads)
    thread = np.where(warp_above, uneven[np.floor(u).astype(int) % threads],
                      uneven[np.floor(v).astype(int) % threads])  # fmt: skip
    first, second = (np.asarray(c) for c in colours)
    striped = np.isin(np.floor(u * 12 / threads), (2, 3, 8))[..., None] & warp_above[..., None]
    base = np.where(striped, second, first)
    shade = (0.42 + 0.62 * height) * (1.0 + fibre + thread)
    return Material((base * shade[..., None]).astype(np.float32), period_m)


def tiles(side_px: int, rng: np.random.Generator, period_m: float = 1.2) -> Material:
    """Square stone tiles with bevelled edges and joints, each of its own tone and veins."""
    count = 3
    x, y = _grid(side_px, period_m)
    u, v = x / period_m * count, y / period_m * count
    index = np.floor(u).astype(int) % count, np.floor(v).astype(int) % count
    edge = np.minimum(np.minimum(u % 1, 1 - u % 1), np.minimum(v % 1, 1 - v % 1)) * period_m / count
    veins = np.abs(spectral_noise(side_px, 1.5, rng) + rng.normal(0, 2, (count, count))[index])
    tone = 0.46 + 0.05 * rng.standard_normal((count, count))[index] + 0.035 * np.minimum(veins, 2)
    stone = tone[..., None] * np.array([1.0, 0.95, 0.87])
    bevel = np.clip(edge / 0.006, 0.0, 1.0)[..., None]
    joint = np.clip(edge / 0.0025, 0.0, 1.0)[..., None]
    reflectance = stone * (0.75 + 0.25 * bevel) * joint + 0.16 * (1.0 - joint)
    return Material(np.clip(reflectance, 0.0, 1.0).astype(np.float32), period_m)


def plaster(
    side_px: int,
    rng: np.random.Generator,
    colour: tuple[float, float, float],
    period_m: float = 2.0,
) -> Material:
    """A painted wall: faint large stains, a fine grain from the roller."""
    stains = spectral_noise(side_px, 2.0, rng)
    grain = spectral_noise(side_px, 0.5, rng)
    shade = 1.0 + 0.03 * stains + 0.025 * grain
    return Material((np.asarray(colour) * shade[..., None]).astype(np.float32), period_m)


def spectral_noise(
    side_px: int,
    roughness: float,
    rng: np.random.Generator,
    stretch: tuple[float, float] = (1.0, 1.0),
) -> Image:
    """Gaussian noise (S, S) of mean 0 and deviation 1 whose spectrum falls as 1 / f^roughness.

    Periodic. stretch: how much longer its features are along x and along y.
    """
    frequency = np.fft.fftfreq(side_px) * side_px
    fx, fy = frequency[None, :] * stretch[0], frequency[:, None] * stretch[1]
    radius = np.hypot(fx, fy)
    radius[0, 0] = np.inf  # no mean
    spectrum = np.fft.fft2(rng.standard_normal((side_px, side_px))) * radius**-roughness
    noise = np.fft.ifft2(spectrum).real
    return (noise / noise.std()).astype(np.float32)


def _grid(side_px: int, period_m: float) -> tuple[Image, Image]:
    place = np.arange(side_px, dtype=np.float32) / side_px * period_m
    x, y = np.meshgrid(place, place)
    return x, y
