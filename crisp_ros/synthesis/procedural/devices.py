"""Generators of cameras and laptops, which complete the six categories of NOCS."""

from __future__ import annotations

import numpy as np

from .blueprint import Blueprint, Part
from .solids import placed, revolved, rounded_box

Random = np.random.Generator


def camera(rng: Random) -> Blueprint:
    """A photo camera on its bottom: z up, the lens points along x."""
    width, height = rng.uniform(0.09, 0.15), rng.uniform(0.055, 0.1)
    thick = width * rng.uniform(0.25, 0.5)
    body = rounded_box((thick, width, height), rng.uniform(0.02, 0.1) * thick)
    radius = min(rng.uniform(0.3, 0.46) * height, 0.3 * width)
    length = rng.uniform(0.015, 0.1)
    profile = [[0, -0.01], [radius, -0.01], [radius, 0.5 * length]]
    front = radius * rng.uniform(0.8, 1.1)
    profile += [[front, 0.5 * length], [front, length], [0.8 * front, length]]
    profile += [[0.75 * front, length - 0.004], [0, length - 0.004]]
    lens = revolved(profile).rotate((0.0, 90.0, 0.0))
    aside = rng.uniform(-0.15, 0.15) * width
    up = min(0.0, height / 2 - 1.1 * radius)
    parts = [
        Part(body, "plastic"),
        Part(placed(lens, (thick / 2, aside, up)), "metal"),
    ]
    if rng.random() < 0.7:  # the finder above the lens
        hump = (0.7 * thick, 0.35 * width, 0.3 * height)
        finder = rounded_box(hump, 0.15 * hump[2])
        parts.append(Part(placed(finder, (0, aside, height / 2 + 0.3 * hump[2])), "plastic"))
    if rng.random() < 0.7:  # the grip
        grip = rounded_box((0.5 * thick, 0.2 * width, 0.9 * height), 0.05 * thick)
        parts.append(Part(placed(grip, (thick / 2, -0.4 * width, 0)), "plastic"))
    button = revolved([[0, -0.01], [0.008, -0.01], [0.008, 0.006], [0, 0.006]])
    parts.append(Part(placed(button, (0, -0.35 * width, height / 2)), "metal"))
    return Blueprint(tuple(parts))


def laptop(rng: Random) -> Blueprint:
    """An open laptop: z up, x from the hinge to the user."""
    width = rng.uniform(0.2, 0.34)
    depth = width * rng.uniform(0.6, 0.75)
    base, screen = rng.uniform(0.012, 0.022), rng.uniform(0.006, 0.01)
    opened = rng.uniform(95.0, 125.0)
    board = rounded_box((depth, width, base), 0.0)
    keys = rounded_box((0.45 * depth, 0.9 * width, 0.002), 0.0)
    lid = placed(rounded_box((depth, width, screen), 0.0), (depth / 2 - 0.002, 0, screen / 2))
    lid = lid.rotate((0.0, -float(opened), 0.0))
    glass = rounded_box((0.88 * depth, 0.92 * width, 0.002), 0.0)
    glass = placed(glass, (depth / 2, 0, screen)).rotate((0.0, -float(opened), 0.0))
    hinge = (-depth / 2 + screen, 0, base / 2 - 0.004)
    parts = (
        Part(board, "plastic"),
        Part(placed(keys, (-0.12 * depth, 0, base / 2)), "keys"),
        Part(placed(lid, hinge), "plastic"),
        Part(placed(glass, hinge), "print"),
    )
    return Blueprint(parts, None, 1)
