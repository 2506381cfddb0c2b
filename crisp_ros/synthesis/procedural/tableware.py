"""Generators of bowls, plates, mugs, cups, pitchers and pans: open vessels with walls."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .blueprint import Blueprint, Part
from .solids import bow, capsule, convex, placed, revolved, swept, united

Random = np.random.Generator


def bowl(rng: Random) -> Blueprint:
    """A bowl: from steep to shallow, with or without a foot."""
    radius = rng.uniform(0.045, 0.15)
    height = radius * rng.uniform(0.4, 1.0)
    foot = radius * rng.uniform(0.3, 0.6)
    power = rng.uniform(1.4, 3.0)
    share = np.linspace(0.0, 1.0, 14)
    outer = np.column_stack([foot + (radius - foot) * share ** (1 / power), height * share])
    return Blueprint((Part(_walled(outer, rng.uniform(0.003, 0.006)), "ceramic"),), None, 0)


def plate(rng: Random) -> Blueprint:
    """A plate or saucer: a flat middle and a rising rim."""
    radius = rng.uniform(0.06, 0.15)
    height = radius * rng.uniform(0.1, 0.28)
    flat = radius * rng.uniform(0.45, 0.75)
    share = np.linspace(0.0, 1.0, 8)
    rim = np.column_stack([flat + (radius - flat) * share, height * share ** rng.uniform(0.8, 2.0)])
    return Blueprint((Part(_walled(rim, rng.uniform(0.0035, 0.006)), "ceramic"),), None, 0)


def cup(rng: Random) -> Blueprint:
    """A cup or glass without a handle, straight or tapered; some have a lid."""
    outer, wall = _cup_profile(rng)
    radius, height = outer[-1]
    if rng.random() < 0.3:
        solid = revolved([[0, 0], *outer, [0, height]])
        lid = [[0, 0], [radius + 0.003, 0], [radius + 0.003, 0.008], [0.8 * radius, 0.016]]
        top = placed(revolved([*lid, [0, 0.016]]), (0, 0, height - 1e-3))
        return Blueprint((Part(solid, "print", "cylinder"), Part(top)), None, 0)
    return Blueprint((Part(_walled(outer, wall), "print", "cylinder"),), None, 0)


def mug(rng: Random) -> Blueprint:
    """A cup with a handle along x."""
    outer, wall = _cup_profile(rng)
    solid, cavity = _solid_and_cavity(outer, wall)
    height = outer[-1, 1]
    low, high = rng.uniform(0.12, 0.3) * height, rng.uniform(0.7, 0.9) * height
    ends = [(np.interp(z, outer[:, 1], outer[:, 0]) - wall / 2, 0, z) for z in (low, high)]
    path = bow(*ends, rng.uniform(0.022, 0.04), rng.uniform(0.0, 0.9))
    handle = swept(path, [rng.uniform(0.0035, 0.006)] * len(path), (1, rng.uniform(1, 1.8), 1))
    finish = "print" if rng.random() < 0.5 else "ceramic"
    parts = (Part(solid, finish, "cylinder"), Part(handle, "ceramic"))
    return Blueprint(parts, cavity, inside="ceramic")


def pitcher(rng: Random) -> Blueprint:
    """A jug: open, tall, with a handle along x and a beak against it."""
    radius = rng.uniform(0.04, 0.07)
    height = radius * rng.uniform(2.2, 3.8)
    waist = radius * rng.uniform(0.75, 1.1)
    top = radius * rng.uniform(0.7, 1.1)
    keys = [[0.85 * radius, 0], [radius, 0.25 * height], [waist, 0.7 * height], [top, height]]
    outer = _smooth(np.array(keys), 14)
    wall = rng.uniform(0.003, 0.005)
    solid, cavity = _solid_and_cavity(outer, wall)
    beak = convex(
        [
            [-0.6 * top, 0.6 * top, height],
            [-0.6 * top, -0.6 * top, height],
            [-0.8 * top, 0, 0.8 * height],
            [-top - rng.uniform(0.012, 0.025), 0, height],
        ]
    )
    inside = convex(
        [
            [0, 0.55 * top, height + 0.01],
            [0, -0.55 * top, height + 0.01],
            [-0.8 * top + 1.5 * wall, 0, 0.86 * height],
            [-top - 0.006, 0, height + 0.01],
        ]
    )
    ends = [(radius - wall, 0, 0.25 * height), (top - wall / 2, 0, 0.9 * height)]
    path = bow(*ends, rng.uniform(0.03, 0.05), rng.uniform(0.0, 0.9))
    handle = swept(path, [rng.uniform(0.005, 0.008)] * len(path), (1, 1.5, 1))
    parts = (Part(united([solid, beak]), "plastic", "cylinder"), Part(handle))
    return Blueprint(parts, united([cavity, inside]))


def pan(rng: Random) -> Blueprint:
    """A pan or pot with a long handle along x."""
    radius = rng.uniform(0.045, 0.085)
    height = radius * rng.uniform(0.25, 1.1)
    outer = np.array([[radius * rng.uniform(0.8, 1.0), 0], [radius, height]])
    solid, cavity = _solid_and_cavity(outer, rng.uniform(0.003, 0.005))
    length = min(radius * rng.uniform(1.2, 2.2), 0.34 - 2 * radius)
    z = height * rng.uniform(0.6, 0.9)
    rise = rng.uniform(0.0, 0.25) * length
    handle = swept(
        [
            (radius - 0.004, 0, z),
            (radius + 0.3 * length, 0, z + 0.5 * rise),
            (radius + length, 0, z + rise),
        ],
        [0.005, 0.0075, 0.009],
        (1, 1.3, 0.8),
    )
    return Blueprint((Part(solid, "metal", "cylinder"), Part(handle)), cavity, inside="metal")


def stemware(rng: Random) -> Blueprint:
    """A goblet or egg cup: a bowl on a stem."""
    radius, height = rng.uniform(0.025, 0.05), rng.uniform(0.06, 0.17)
    deep = height * rng.uniform(0.35, 0.6)
    share = np.linspace(0.0, 1.0, 10)
    stem = rng.uniform(0.004, 0.008)
    wall = rng.uniform(0.003, 0.004)
    bowl_side = np.column_stack(
        [stem + (radius - stem) * np.sqrt(share), height - deep + deep * share]
    )
    foot = radius * rng.uniform(0.7, 1.0)
    profile = [[0, 0], [foot, 0], [foot, 0.003], [stem, 0.012], *bowl_side]
    inner = bowl_side - [wall, 0]
    inner = inner[(inner[:, 0] > 0) & (inner[:, 1] > height - deep + wall)]
    profile = [*profile, *inner[::-1], [0, inner[0, 1]]]
    return Blueprint((Part(revolved(profile), "ceramic", "cylinder"),), None, 0, inside="ceramic")


def lidded_pot(rng: Random) -> Blueprint:
    """A pot with a domed lid, a knob and two ears along x."""
    radius = rng.uniform(0.05, 0.1)
    height, dome = radius * rng.uniform(0.6, 1.3), radius * rng.uniform(0.1, 0.4)
    share = np.linspace(0.0, 1.0, 8)
    arch = np.column_stack(
        [radius * np.cos(share * np.pi / 2), height + dome * np.sin(share * np.pi / 2)]
    )
    body = revolved(
        [[0, 0], [0.95 * radius, 0], [radius, 0.1 * height], [radius, height], [0, height]]
    )
    lid = revolved(
        [[0, height - 1e-3], [radius * 1.02, height - 1e-3], *arch[:-1], [0, height + dome]]
    )
    knob = capsule((0, 0, height + dome), (0, 0, height + dome + 0.015), 0.006, 0.011)
    ear = rng.uniform(0.012, 0.022)
    ears = [
        swept(
            [
                (side * (radius - 0.002), -0.025, 0.8 * height),
                (side * (radius + ear), -0.012, 0.8 * height),
                (side * (radius + ear), 0.012, 0.8 * height),
                (side * (radius - 0.002), 0.025, 0.8 * height),
            ],
            [0.005] * 4,
        )
        for side in (-1, 1)
    ]
    parts = (Part(body, "metal", "cylinder"), Part(lid, "metal"), Part(knob), Part(united(ears)))
    return Blueprint(parts, None, 2)


def _cup_profile(rng: Random) -> tuple[NDArray[np.float64], float]:
    """Outer profile (N, 2) of a cup's wall from its foot up, and its thickness, metres."""
    radius = rng.uniform(0.03, 0.052)
    height = radius * rng.uniform(1.5, 3.2)
    foot = radius * rng.uniform(0.65, 1.05)
    belly = (radius + foot) / 2 * rng.uniform(0.95, 1.15)
    keys = np.array([[foot, 0], [belly, 0.5 * height], [radius, height]])
    return _smooth(keys, 10), rng.uniform(0.003, 0.005)


def _smooth(keys: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Profile (count, 2) through keys (K, 2) of radius and height, as a parabola between them."""
    heights = np.linspace(keys[0, 1], keys[-1, 1], count)
    curve = np.polynomial.Polynomial.fit(keys[:, 1], keys[:, 0], len(keys) - 1)
    return np.column_stack([curve(heights), heights])


def _walled(outer: NDArray[np.float64], wall: float):
    """A vessel of revolution with a wall and a bottom of some thickness, metres."""
    solid, cavity = _solid_and_cavity(outer, wall)
    return solid - cavity


def _solid_and_cavity(outer: NDArray[np.float64], wall: float):
    """The filled vessel of an outer profile (N, 2), and what is cut out of it."""
    height = outer[-1, 1]
    solid = revolved([[0, outer[0, 1]], *outer, [0, height]])
    slope = np.gradient(outer[:, 0], outer[:, 1])
    inner = outer - np.column_stack([wall * np.sqrt(1 + slope**2), np.zeros(len(outer))])
    floor = outer[0, 1] + wall
    radius = np.interp(floor, inner[:, 1], inner[:, 0])
    inner = np.concatenate([[[radius, floor]], inner[inner[:, 1] > floor + 1e-4]])
    inner = inner[inner[:, 0] > 1e-3]
    above = [inner[-1, 0] + 1e-4, height + 0.01]
    return solid, revolved([[0, inner[0, 1]], *inner, above, [0, height + 0.01]])
