"""Pictures for surfaces, drawn with OpenCV: prints with brands and labels, materials, and wear."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from .blueprint import Finish

Image = NDArray[np.uint8]
Random = np.random.Generator

_FONTS = (
    cv2.FONT_HERSHEY_DUPLEX,
    cv2.FONT_HERSHEY_TRIPLEX,
    cv2.FONT_HERSHEY_COMPLEX,
    cv2.FONT_HERSHEY_SCRIPT_COMPLEX,
)
_LETTERS = np.array(list("AEIOUBDGKLMNPRSTVZ"))


class Palette:
    """The colours of one product, RGB: a ground, and others that stand out from it."""

    def __init__(self, rng: Random) -> None:
        hue = rng.uniform(0, 180)
        hues = (hue + np.array([0, rng.uniform(-25, 25), 90, rng.uniform(0, 180)])) % 180
        saturation = rng.uniform(0, 255, 4) ** rng.uniform(0.8, 1.1)
        value = np.array([rng.uniform(40, 255), *rng.uniform(30, 255, 3)])
        hsv = np.stack([hues, saturation, value], axis=1).clip(0, 255).astype(np.uint8)
        self.colours = cv2.cvtColor(hsv[None], cv2.COLOR_HSV2RGB)[0]
        light = self.colours[0].astype(int).sum() > 380
        self.ink = np.array([20, 20, 25] if light else [240, 240, 235], np.uint8)

    def any(self, rng: Random) -> tuple[int, int, int]:
        """One of the colours, or the ink."""
        chosen = np.vstack([self.colours, self.ink])[rng.integers(5)]
        return tuple(int(value) for value in chosen)


def material(finish: Finish, width: int, height: int, rng: Random) -> Image:
    """An image of a material in a colour of its own, RGB, rows by columns."""
    if finish == "metal":
        grey = rng.uniform(90, 210)
        lines = cv2.blur(
            rng.normal(0, 12, (height, width)).astype(np.float32), (width // 2 * 2 + 1, 1)
        )
        tint = rng.uniform(0.92, 1.05, 3)
        return _clipped((grey + 3 * lines)[..., None] * tint)
    if finish == "wood":
        ground = np.array([rng.uniform(140, 215), rng.uniform(95, 150), rng.uniform(45, 95)])
        grain = cv2.resize(
            rng.normal(0, 1, (max(2, height // 2), 3)).astype(np.float32), (width, height)
        )
        return _clipped(ground + 18 * grain[..., None])
    if finish in ("cells", "keys"):
        return _grid(finish, width, height, rng)
    hsv = [rng.uniform(0, 180), rng.uniform(0, 255), rng.uniform(25, 255)]
    if finish == "ceramic":
        hsv = [hsv[0], rng.uniform(0, 110), rng.uniform(120, 255)]
    ground = cv2.cvtColor(np.uint8([[hsv]]), cv2.COLOR_HSV2RGB)[0, 0].astype(float)
    image = np.tile(ground, (height, width, 1))
    if finish == "ceramic" and rng.random() < 0.4:
        _glaze(image, rng)
    return _clipped(image + _clouds(width, height, rng)[..., None] * rng.uniform(0, 10))


def printed(width: int, height: int, palette: Palette, brand: str, rng: Random) -> Image:
    """One side of a package: ground, bands, a picture, the brand, small print, RGB.

    Args:
        width, height: pixels.
        palette: of the product.
        brand: written on every side.
        rng: draws the rest.
    """
    image = _ground(width, height, palette, rng)
    for _ in range(rng.integers(0, 4)):
        _draw_band(image, palette, rng)
    for _ in range(rng.integers(1, 5)):
        _draw_logo(image, palette, rng)
    if rng.random() < 0.7:
        _draw_label(image, palette, rng)
    _draw_text(image, brand, palette, rng)
    if rng.random() < 0.6:
        _draw_small_print(image, palette, rng)
    if rng.random() < 0.3:
        _draw_barcode(image, rng)
    return image


def worn(image: Image, rng: Random) -> Image:
    """The image faded in clouds, with scratches and dirt."""
    height, width = image.shape[:2]
    strength = rng.uniform(0.0, 1.0) ** 2
    faded = image * (1.0 + 0.25 * strength * _clouds(width, height, rng)[..., None])
    result = _clipped(faded)
    for _ in range(int(rng.integers(0, 1 + round(12 * strength)))):
        start = rng.integers(0, [width, height])
        end = start + rng.normal(0, 0.15, 2) * [width, height]
        colour = int(rng.choice([60, 210]))
        cv2.line(result, _point(start), _point(end), (colour,) * 3, 1, cv2.LINE_AA)
    return result


def brand_name(rng: Random) -> str:
    """A word of three to eight letters that means nothing."""
    return "".join(rng.choice(_LETTERS, rng.integers(3, 9)))


def _ground(width: int, height: int, palette: Palette, rng: Random) -> Image:
    first, second = palette.colours[0].astype(float), palette.colours[1].astype(float)
    style = rng.integers(4)
    down, along = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    if style == 0:
        return _clipped(np.tile(first, (height, width, 1)))
    if style == 1:
        share = down if rng.random() < 0.7 else along
    elif style == 2:  # two fields, cut straight or in a wave
        cut = rng.uniform(0.25, 0.75) + rng.uniform(0, 0.1) * np.sin(
            6.3 * along * rng.integers(1, 4)
        )
        share = (down > cut).astype(float)
    else:  # stripes or a check
        count = rng.integers(3, 12)
        share = (np.floor(down * count) + np.floor(along * count) * rng.integers(0, 2)) % 2
    return _clipped(first + (second - first) * share[..., None])


def _draw_band(image: Image, palette: Palette, rng: Random) -> None:
    height = image.shape[0]
    top = rng.uniform(0, 0.95) * height
    thick = rng.uniform(0.02, 0.2) * height
    image[int(top) : int(top + thick)] = palette.any(rng)


def _draw_logo(image: Image, palette: Palette, rng: Random) -> None:
    height, width = image.shape[:2]
    centre = rng.uniform(0.15, 0.85, 2) * [width, height]
    radius = rng.uniform(0.06, 0.3) * min(width, height)
    kind = rng.integers(4)
    colour = palette.any(rng)
    if kind == 0:
        axes = _point(radius * rng.uniform(0.6, 1.4, 2))
        cv2.ellipse(
            image, _point(centre), axes, rng.uniform(0, 180), 0, 360, colour, -1, cv2.LINE_AA
        )
        return
    if kind == 1:  # a star, or a flower
        points = int(rng.integers(3, 9))
        angle = np.arange(2 * points) * np.pi / points + rng.uniform(0, 6.3)
        reach = radius * np.where(np.arange(2 * points) % 2, rng.uniform(0.3, 0.8), 1.0)
    else:  # a blot
        angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
        reach = radius * (1 + 0.35 * np.sin(angle * rng.integers(1, 6) + rng.uniform(0, 6.3)))
    outline = centre + reach[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    cv2.fillPoly(image, [np.rint(outline).astype(np.int32)], colour, cv2.LINE_AA)


def _draw_label(image: Image, palette: Palette, rng: Random) -> None:
    height, width = image.shape[:2]
    size = rng.uniform(0.3, 0.8, 2) * [width, height]
    corner = rng.uniform(0, 1, 2) * ([width, height] - size)
    cv2.rectangle(image, _point(corner), _point(corner + size), palette.any(rng), -1)
    if rng.random() < 0.5:
        cv2.rectangle(image, _point(corner), _point(corner + size), palette.any(rng), 2)


def _draw_text(image: Image, text: str, palette: Palette, rng: Random) -> None:
    height, width = image.shape[:2]
    font = _FONTS[rng.integers(len(_FONTS))]
    upright = height > 2.5 * width
    room = height if upright else width
    (wide, tall), _ = cv2.getTextSize(text, font, 1.0, 2)
    scale = min(rng.uniform(0.6, 0.95) * room / wide, 0.5 * (width if upright else height) / tall)
    canvas = cv2.rotate(image, cv2.ROTATE_90_CLOCKWISE) if upright else image
    canvas = np.ascontiguousarray(canvas)
    rows, columns = canvas.shape[:2]
    at = (0.5 * (columns - scale * wide), rng.uniform(0.15, 0.85) * rows + 0.5 * scale * tall)
    thickness = max(1, round(scale * rng.uniform(1, 4)))
    ink = tuple(int(v) for v in palette.ink) if rng.random() < 0.6 else palette.any(rng)
    cv2.putText(canvas, text, _point(at), font, scale, ink, thickness, cv2.LINE_AA)
    image[:] = cv2.rotate(canvas, cv2.ROTATE_90_COUNTERCLOCKWISE) if upright else canvas


def _draw_small_print(image: Image, palette: Palette, rng: Random) -> None:
    height, width = image.shape[:2]
    left, top = rng.uniform(0.05, 0.5) * width, rng.uniform(0.4, 0.8) * height
    colour = tuple(int(v) for v in palette.ink)
    for line in range(int(rng.integers(3, 9))):
        y = int(top + 4 * line)
        x = left
        while x < left + rng.uniform(0.3, 0.45) * width:
            word = rng.uniform(3, 14)
            cv2.line(image, _point((x, y)), _point((x + word, y)), colour, 1)
            x += word + 3


def _draw_barcode(image: Image, rng: Random) -> None:
    height, width = image.shape[:2]
    tall, wide = int(0.12 * height), int(0.35 * width)
    if min(tall, wide) < 8:
        return
    top, left = int(rng.uniform(0, height - tall)), int(rng.uniform(0, width - wide))
    bars = np.repeat(rng.integers(0, 2, wide // 2 + 1), 2)[:wide] * 235
    image[top : top + tall, left : left + wide] = np.maximum(bars, 15)[None, :, None]


def _grid(finish: Finish, width: int, height: int, rng: Random) -> Image:
    """Solar cells with bright lines between them, or the keys of a keyboard, darker or brighter."""
    if finish == "cells":
        tile, line = [rng.uniform(10, 45), rng.uniform(15, 60), rng.uniform(60, 130)], (175.0,) * 3
    else:
        ground, key = rng.uniform(90, 220), rng.uniform(15, 70)
        tile, line = [key] * 3, (ground,) * 3
    image = np.tile(np.array(tile), (height, width, 1))
    pitch = max(4, int(min(width, height) / rng.integers(4, 9)))
    for offset in range(max(1, pitch // 6)):
        image[offset::pitch] = line
        image[:, offset::pitch] = line
    return _clipped(image)


def _glaze(image: NDArray[np.float64], rng: Random) -> None:
    """Rings or a rim in another colour."""
    height = image.shape[0]
    colour = rng.uniform(20, 235, 3)
    for _ in range(int(rng.integers(1, 4))):
        top = int(rng.uniform(0, 0.9) * height)
        image[top : top + max(1, int(rng.uniform(0.02, 0.25) * height))] = colour


def _clouds(width: int, height: int, rng: Random) -> NDArray[np.float32]:
    """Smooth noise (height, width) of about unit size."""
    coarse = rng.normal(0, 1, (5, 5)).astype(np.float32)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def _point(values) -> tuple[int, int]:
    x, y = np.rint(values).astype(int)
    return int(x), int(y)


def _clipped(image: NDArray[np.floating]) -> Image:
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)
