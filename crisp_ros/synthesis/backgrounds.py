"""Procedural backgrounds: tables, walls, carpets and clutter, so that no photographs are needed."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]


def background(width: int, height: int, rng: np.random.Generator) -> Image:
    """A random background, (height, width, 3) uint8 RGB."""
    image = _texture(width, height, rng)
    if rng.random() < 0.7:
        image = _over_table(image, _texture(512, 512, rng), rng)
    for _ in range(rng.integers(0, 12)):
        _draw_clutter(image, rng)
    return image


def smooth_noise(width: int, height: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Multi-octave noise in [0, 1], (height, width)."""
    total = np.zeros((height, width), np.float32)
    roughness = rng.uniform(0.35, 0.75)
    amplitude, cells = 1.0, 3
    while cells < min(width, height):
        grid = rng.random((cells, max(2, cells * width // height)), dtype=np.float32)
        total += amplitude * cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
        amplitude *= roughness
        cells *= 2
    low, high = total.min(), total.max()
    return (total - low) / max(high - low, 1e-6)


def _colour(rng: np.random.Generator) -> NDArray[np.float32]:
    grey = rng.uniform(0.0, 255.0)
    colour = rng.uniform(0.0, 255.0, 3)
    return (grey + (colour - grey) * rng.uniform(0.0, 0.8)).astype(np.float32)


def _texture(width: int, height: int, rng: np.random.Generator) -> Image:
    a, b = _colour(rng), _colour(rng)
    kind = rng.choice(["noise", "grain", "checker", "stripes", "carpet", "plain"])
    if kind == "noise":
        mix = smooth_noise(width, height, rng)
    elif kind == "grain":  # wood: noise stretched along one axis
        mix = cv2.resize(smooth_noise(max(16, width // 16), height, rng), (width, height))
    elif kind == "carpet":
        mix = rng.random((height, width), dtype=np.float32)
        mix = cv2.GaussianBlur(mix, (0, 0), rng.uniform(0.5, 2.0))
        mix = np.clip((mix - 0.5) * rng.uniform(1.0, 5.0) + 0.5, 0.0, 1.0)
    elif kind == "plain":
        mix = np.linspace(0.0, 1.0, height, dtype=np.float32)[:, None].repeat(width, 1)
    else:
        period = rng.uniform(16.0, 120.0)
        u, v = np.meshgrid(np.arange(width) / period, np.arange(height) / period)
        if kind == "checker":
            mix = ((np.floor(u) + np.floor(v)) % 2).astype(np.float32)
        else:
            angle = rng.uniform(0.0, np.pi)
            mix = (np.floor(u * np.cos(angle) + v * np.sin(angle)) % 2).astype(np.float32)
        mix = mix * 0.85 + 0.15 * smooth_noise(width, height, rng)
    return np.clip(a + (b - a) * mix[..., None], 0, 255).astype(np.uint8)


def _over_table(wall: Image, top: Image, rng: np.random.Generator) -> Image:
    """Put a tilted table top over the lower part of the picture."""
    height, width = wall.shape[:2]
    side = top.shape[0]
    source = np.float32([[0, 0], [side, 0], [side, side], [0, side]])
    far = rng.uniform(-0.2, 0.55) * height
    spread = rng.uniform(0.0, 0.35) * width
    target = np.float32(
        [
            [spread + rng.normal(0, 40), far + rng.normal(0, 40)],
            [width - spread + rng.normal(0, 40), far + rng.normal(0, 40)],
            [width * rng.uniform(1.0, 1.5), height * rng.uniform(0.9, 1.4)],
            [-width * rng.uniform(0.0, 0.5), height * rng.uniform(0.9, 1.4)],
        ]
    )
    warp = cv2.getPerspectiveTransform(source, target)
    table = cv2.warpPerspective(top, warp, (width, height))
    inside = cv2.warpPerspective(np.full((side, side), 255, np.uint8), warp, (width, height))
    return np.where(inside[..., None] > 127, table, wall)


def _draw_clutter(image: Image, rng: np.random.Generator) -> None:
    height, width = image.shape[:2]
    centre = rng.uniform(0.0, 1.0, 2) * (width, height)
    size = rng.uniform(10.0, 120.0)
    colour = _colour(rng).tolist()
    kind = rng.choice(["polygon", "ellipse", "line", "text"])
    if kind == "polygon":
        angles = np.sort(rng.uniform(0.0, 2.0 * np.pi, rng.integers(3, 7)))
        ring = np.stack([np.cos(angles), np.sin(angles)], 1) * size + centre
        cv2.fillPoly(image, [ring.astype(np.int32)], colour, cv2.LINE_AA)
    elif kind == "ellipse":
        axes = (int(size), int(size * rng.uniform(0.2, 1.0)))
        at = (int(centre[0]), int(centre[1]))
        cv2.ellipse(image, at, axes, rng.uniform(0, 360), 0, 360, colour, -1, cv2.LINE_AA)
    elif kind == "line":
        end = centre + rng.normal(0.0, 2.0 * size, 2)
        points = (centre.astype(int).tolist(), end.astype(int).tolist())
        cv2.line(image, *points, colour, int(rng.integers(1, 9)), cv2.LINE_AA)
    else:
        letters = "".join(rng.choice(list("ABCDEFGHKLMNPRSTUVXYZ0123456789"), rng.integers(1, 9)))
        at = (int(centre[0]), int(centre[1]))
        scale = rng.uniform(0.4, 3.0)
        cv2.putText(
            image,
            letters,
            at,
            int(rng.integers(0, 6)),
            scale,
            colour,
            int(scale * 2) + 1,
            cv2.LINE_AA,
        )
