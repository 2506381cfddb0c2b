"""Generator of spacecraft: a bus with solar panels, a dish, booms and a nozzle."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .blueprint import Blueprint, Part
from .solids import capsule, placed, prism, revolved, rounded_box, swept, united

if TYPE_CHECKING:
    from manifold3d import Manifold

Random = np.random.Generator

_OVERLAP_M = 0.01  # of parts that are joined


def spacecraft(rng: Random) -> Blueprint:
    """A satellite of about a metre.

    z is the axis of its bus, with the nozzle below; panels stand out along x, with their cells
    towards +z and -y. The dish is above or at +y, the boom at -y or below: with these rules an
    image of a satellite never seen before shows which way its frame points.
    """
    bus, half = _bus(rng)
    parts = [Part(bus, "metal", "box")]
    sides = int(rng.choice([0, 1, 2, 2, 2, 2]))
    parts += _panels(sides, half, rng)
    if sides == 0 or rng.random() < 0.85:
        parts.append(Part(_dish(half, sides == 0 or rng.random() < 0.6, rng), "ceramic"))
    if rng.random() < 0.6:
        parts.append(Part(_boom(half, rng), "metal"))
    if rng.random() < 0.8:
        parts.append(Part(_nozzle(half, rng), "metal", "cylinder"))
    boxes = [_instrument(half, rng) for _ in range(int(rng.integers(0, 4)))]
    if boxes:
        parts.append(Part(united(boxes), "plastic"))
    return Blueprint(tuple(parts))


def _bus(rng: Random) -> tuple[Manifold, np.ndarray]:
    """The body, and half the sides (3,) of a box inside which it is full."""
    x, y, z = rng.uniform(0.2, 0.5), rng.uniform(0.2, 0.5), rng.uniform(0.25, 0.75)
    if rng.random() < 0.6:
        return rounded_box((x, y, z), rng.uniform(0.0, 0.12) * min(x, y)), np.array([x, y, z]) / 2
    corners = int(rng.choice([6, 8, 40]))
    angle = (np.arange(corners) + 0.5) * 2 * np.pi / corners
    outline = x / 2 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    solid = placed(prism(outline, z, rng.uniform(0.8, 1.0)), (0, 0, -z / 2))
    inner = 0.8 * x / 2 * np.cos(np.pi / corners)
    return solid, np.array([inner, inner, z / 2])


def _panels(sides: int, half: np.ndarray, rng: Random) -> list[Part]:
    """Wings of solar panels on as many sides, each on a rod and tilted about it."""
    if sides == 0:
        return []
    long, wide = rng.uniform(0.3, 1.1), rng.uniform(0.15, 0.5)
    thick, gap = rng.uniform(0.012, 0.03), rng.uniform(0.04, 0.2)
    tilt, at = rng.uniform(10, 80), rng.uniform(-0.5, 0.5) * half[2]
    rods, wings = [], []
    for sign in (1, -1)[:sides]:
        middle = sign * (half[0] + gap + long / 2)
        wing = rounded_box((long, wide, thick), 0.0).rotate((float(tilt), 0.0, 0.0))
        wings.append(placed(wing, (middle, 0, at)))
        end = (sign * (half[0] + gap + 2 * _OVERLAP_M), 0, at)
        rods.append(capsule((sign * (half[0] - 2 * _OVERLAP_M), 0, at), end, 0.014))
    return [Part(united(wings), "cells"), Part(united(rods), "metal")]


def _dish(half: np.ndarray, aside: bool, rng: Random) -> Manifold:
    """A paraboloid with a feed, above the bus, or at its side along +y."""
    radius = rng.uniform(0.1, 0.3)
    deep, wall = radius * rng.uniform(0.25, 0.5), rng.uniform(0.012, 0.02)
    share = np.linspace(0.0, 1.0, 10)
    inner = np.column_stack([radius * share, wall + deep * share**2])
    outer = inner[::-1] - [0.0, wall]
    bowl = revolved(np.concatenate([inner, outer]))
    stalk = capsule((0, 0, -0.08), (0, 0, wall + deep * rng.uniform(0.8, 1.6)), 0.013)
    dish = united([bowl, stalk])
    if not aside:
        return placed(dish, (0, 0, half[2] + 0.06))
    dish = dish.rotate((-90.0, 0.0, 0.0))
    return placed(dish, (0, half[1] + 0.06, rng.uniform(-0.4, 0.6) * half[2]))


def _boom(half: np.ndarray, rng: Random) -> Manifold:
    """A rod with a box at its end, from the lower or the -y face of the bus."""
    length, radius = rng.uniform(0.2, 0.7), rng.uniform(0.011, 0.02)
    axis = rng.choice([1, 2])
    start, end = np.zeros(3), np.zeros(3)
    start[axis] = 2 * _OVERLAP_M - half[axis]
    end[axis] = -half[axis] - length
    lean = rng.uniform(-0.25, 0.25) * length
    end[2 if axis == 1 else 1] += lean
    head = rounded_box(rng.uniform(0.04, 0.1, 3), 0.0)
    return united([swept([start, end], [radius, radius]), placed(head, end)])


def _nozzle(half: np.ndarray, rng: Random) -> Manifold:
    """A bell under the bus."""
    throat, mouth = rng.uniform(0.02, 0.04), rng.uniform(0.05, 0.11)
    length = rng.uniform(0.06, 0.15)
    top = -half[2] + _OVERLAP_M
    profile = [[0, top], [throat, top], [mouth, top - length - _OVERLAP_M]]
    inside = [[mouth - 0.012, top - length - _OVERLAP_M], [0, top - 0.6 * length]]
    return revolved([*profile, *inside][::-1])


def _instrument(half: np.ndarray, rng: Random) -> Manifold:
    """A box or a short tube on a face of the bus."""
    axis, sign = int(rng.integers(3)), rng.choice([-1.0, 1.0])
    place = rng.uniform(-0.6, 0.6, 3) * half
    size = rng.uniform(0.04, 0.14, 3)
    place[axis] = sign * (half[axis] + size[axis] / 2 - _OVERLAP_M)
    return placed(rounded_box(size, 0.0), place)
