"""Generators of simple tools, rolls, fruit and toys of primitives."""

from __future__ import annotations

import numpy as np

from .blueprint import Blueprint, Part
from .solids import (
    ball,
    capsule,
    convex,
    placed,
    prism,
    revolved,
    rounded_box,
    stretched,
    swept,
    united,
)

Random = np.random.Generator


def screwdriver(rng: Random) -> Blueprint:
    """A screwdriver, brush handle or marker: rods of several thicknesses along z."""
    grip, radius = rng.uniform(0.06, 0.11), rng.uniform(0.009, 0.017)
    shaft, thin = rng.uniform(0.03, 0.16), rng.uniform(0.003, 0.006)
    waist = radius * rng.uniform(0.6, 1.0)
    handle = revolved(
        [
            [0, 0],
            [0.7 * radius, 0],
            [radius, 0.12 * grip],
            [radius, 0.6 * grip],
            [waist, 0.8 * grip],
            [radius, grip],
            [0, grip],
        ],
        32,
    )
    rod = revolved(
        [[0, grip - 0.01], [thin, grip - 0.01], [thin, grip + shaft], [0, grip + shaft]], 32
    )
    return Blueprint((Part(handle, "plastic"), Part(rod, "metal")), None, 0)


def pen(rng: Random) -> Blueprint:
    """A thick pen, candle or lipstick along z."""
    radius, length = rng.uniform(0.006, 0.016), rng.uniform(0.07, 0.18)
    cap = rng.uniform(0.2, 0.45) * length
    body = revolved(
        [
            [0, 0],
            [0.85 * radius, 0],
            [radius, 0.03 * length],
            [radius, length - cap],
            [0, length - cap],
        ],
        32,
    )
    top = [[0, 0], [1.08 * radius, 0], [1.08 * radius, 0.9 * cap], [0.7 * radius, cap], [0, cap]]
    top = placed(revolved(top, 32), (0, 0, length - cap - 1e-4))
    return Blueprint((Part(body, "print", "cylinder"), Part(top)), None, 0)


def hammer(rng: Random) -> Blueprint:
    """A hammer: its shaft along z, the face of its head along x."""
    length, radius = rng.uniform(0.16, 0.3), rng.uniform(0.009, 0.014)
    head, thick = rng.uniform(0.06, 0.12), rng.uniform(0.02, 0.032)
    shaft = capsule((0, 0, 0), (0, 0, length), radius, 0.8 * radius)
    block = placed(rounded_box((0.6 * head, thick, thick), 0.12 * thick), (0, 0, length))
    face = revolved([[0, 0], [0.6 * thick, 0], [0.6 * thick, 0.25 * head], [0, 0.25 * head]], 32)
    face = placed(face.rotate((0, 90, 0)), (0.28 * head, 0, length))
    claw = convex(
        [
            [-0.25 * head, 0.45 * thick, length + 0.4 * thick],
            [-0.25 * head, -0.45 * thick, length + 0.4 * thick],
            [-0.25 * head, 0.45 * thick, length - 0.4 * thick],
            [-0.25 * head, -0.45 * thick, length - 0.4 * thick],
            [-0.6 * head, 0.4 * thick, length - 0.5 * thick],
            [-0.6 * head, -0.4 * thick, length - 0.5 * thick],
            [-0.6 * head, 0.4 * thick, length - 0.65 * thick],
        ]
    )
    grip = "wood" if rng.random() < 0.6 else "plastic"
    return Blueprint((Part(shaft, grip), Part(united([block, face, claw]), "metal")))


def wrench(rng: Random) -> Blueprint:
    """A spanner: its shaft along z, its jaw open upwards, flat along y."""
    length, width = rng.uniform(0.12, 0.24), rng.uniform(0.012, 0.022)
    thick = rng.uniform(0.005, 0.009)
    head = rng.uniform(1.0, 1.5) * width
    shaft = placed(rounded_box((width, thick, length), 0.2 * thick), (0, 0, length / 2))
    disc = _across(revolved([[0, -thick], [head, -thick], [head, thick], [0, thick]], 32))
    jaw = placed(rounded_box((1.1 * head, 4 * thick, 1.6 * head), 0.0), (0, 0, length + 0.9 * head))
    hole = _across(revolved([[0, -1], [0.55 * head, -1], [0.55 * head, 1], [0, 1]], 6))
    solid = united([shaft, placed(disc, (0, 0, length)), disc]) - united([jaw, hole])
    return Blueprint((Part(solid, "metal"),), None, 2)


def spatula(rng: Random) -> Blueprint:
    """A spatula, spoon or brush: a handle along z and a broad end, flat along y."""
    length, radius = rng.uniform(0.12, 0.2), rng.uniform(0.006, 0.011)
    wide, long = rng.uniform(0.03, 0.08), rng.uniform(0.05, 0.11)
    thick = rng.uniform(0.003, 0.012)
    handle = capsule((0, 0, 0), (0, 0, length), radius, 0.7 * radius)
    if rng.random() < 0.5:
        blade = placed(rounded_box((wide, thick, long), 0.2 * thick), (0, 0, length + long / 2))
    else:
        blade = placed(
            stretched(ball(), (wide / 2, thick, long / 2)), (0, 0, length + long / 2 - 0.004)
        )
    finish = "wood" if rng.random() < 0.4 else "plastic"
    return Blueprint((Part(handle, finish), Part(blade, finish)), None, 2)


def roll(rng: Random) -> Blueprint:
    """A roll of tape or paper: a ring about z."""
    radius, height = rng.uniform(0.03, 0.07), rng.uniform(0.012, 0.12)
    hole = radius * rng.uniform(0.25, 0.8)
    ring = [[hole, 0], [radius, 0], [radius, height], [hole, height]]
    finish = "ceramic" if rng.random() < 0.5 else "print"
    return Blueprint((Part(revolved(ring), finish, "cylinder"),), None, 0, True)


def fruit(rng: Random) -> Blueprint:
    """A fruit or ball that is not quite round: an apple, lemon, onion or egg about z."""
    radius = rng.uniform(0.018, 0.05)
    stretch, dent, egg = rng.uniform(0.75, 1.5), rng.uniform(0.0, 0.3), rng.uniform(-0.2, 0.2)
    angle = np.linspace(0.0, np.pi, 25)
    distance = radius * (1.0 - dent * np.cos(angle) ** 6)
    flat = distance * np.sin(angle) * (1.0 + egg * np.cos(angle))
    profile = np.column_stack([flat, -stretch * distance * np.cos(angle)])
    profile[[0, -1], 0] = 0.0
    return Blueprint((Part(revolved(profile), "ceramic", "cylinder"),), None, 0)


def banana(rng: Random) -> Blueprint:
    """A bent rod in the plane of x and z, thinner at its ends."""
    length, bend = rng.uniform(0.1, 0.22), rng.uniform(0.15, 0.4)
    along = np.linspace(-1.0, 1.0, 11)
    path = np.column_stack([bend * length * (1 - along**2), 0 * along, length / 2 * along])
    thick = rng.uniform(0.012, 0.02)
    radii = thick * np.sqrt(np.clip(1.02 - along**2, 0.08, 1))
    return Blueprint((Part(swept(path, radii), "ceramic"),), None, 1, True)


def toy(rng: Random) -> Blueprint:
    """A toy of two to five primitives: a body, and smaller ones that stick out of it."""
    size = rng.uniform(0.02, 0.05)
    parts = [Part(_primitive(rng, size * rng.uniform(0.7, 1.3, 3)), "plastic")]
    for _ in range(int(rng.integers(1, 5))):
        direction = rng.normal(size=3)
        direction[2] = abs(direction[2]) if rng.random() < 0.5 else direction[2]
        spot = direction / np.linalg.norm(direction) * size * rng.uniform(0.7, 1.1)
        piece = _primitive(rng, size * rng.uniform(0.3, 0.8, 3))
        parts.append(Part(placed(piece, spot), "plastic"))
    return Blueprint(tuple(parts))


def car(rng: Random) -> Blueprint:
    """A toy car or wagon: it drives along x, its wheels along y."""
    length = rng.uniform(0.05, 0.2)
    width, height = length * rng.uniform(0.35, 0.55), length * rng.uniform(0.14, 0.25)
    wheel = length * rng.uniform(0.09, 0.15)
    body = rounded_box((length, width, height), 0.1 * height)
    cabin = rounded_box((length * rng.uniform(0.3, 0.6), 0.85 * width, height), 0.2 * height)
    cabin = placed(cabin, (-length * rng.uniform(0.0, 0.15), 0, 0.9 * height))
    disc = _across(
        revolved(
            [[0, -0.12 * width], [wheel, -0.12 * width], [wheel, 0.12 * width], [0, 0.12 * width]],
            24,
        )
    )
    at = [(x * length, y * width, -height / 2) for x in (-0.3, 0.3) for y in (-0.48, 0.48)]
    wheels = united([placed(disc, spot) for spot in at])
    return Blueprint((Part(body), Part(cabin), Part(wheels)))


def stacker(rng: Random) -> Blueprint:
    """A tower of rings that become smaller, a spinning top or a chess piece about z."""
    rings = int(rng.integers(2, 6))
    radius, z = rng.uniform(0.02, 0.05), 0.0
    pieces = []
    for _ in range(rings):
        height = rng.uniform(0.012, 0.03)
        bevel = rng.uniform(0.0, 0.45) * height
        profile = [[0, 0], [radius - bevel, 0], [radius, bevel], [radius, height - bevel]]
        profile += [[radius - bevel, height], [0, height]]
        pieces.append(Part(placed(revolved(profile), (0, 0, z)), "plastic", "cylinder"))
        z += height - 1e-4
        radius = max(radius * rng.uniform(0.6, 1.05), 0.012)
    return Blueprint(tuple(pieces), None, 0)


def _primitive(rng: Random, size):
    """A ball, box, cylinder or cone of half sizes (3,), metres, about the origin."""
    kind = rng.integers(4)
    if kind == 0:
        return rounded_box(2 * size, 0.1 * size.min())
    if kind == 1:
        unit = ball()
    elif kind == 2:
        unit = revolved([[0, -1], [1, -1], [1, 1], [0, 1]], 32)
    else:
        unit = revolved([[0, -1], [1, -1], [0.3, 1], [0, 1]], 32)
    return stretched(unit, size)


def _across(solid):
    """The solid rotated so that its z axis becomes the y axis."""
    return solid.rotate((90, 0, 0))


def dumbbell(rng: Random) -> Blueprint:
    """A dumbbell, reel or door knob pair: a bar with a weight at both ends along z."""
    bar, radius = rng.uniform(0.04, 0.12), rng.uniform(0.007, 0.014)
    weight, height = radius * rng.uniform(1.8, 3.2), rng.uniform(0.012, 0.04)
    side = [[0, -bar / 2], [radius, -bar / 2], [radius, bar / 2], [0, bar / 2]]
    rod = revolved(side, 48)  # a multiple of 6
    six = prism(
        [[weight * np.cos(a), weight * np.sin(a)] for a in np.arange(6) * np.pi / 3], height
    )
    ends = [placed(six, (0, 0, z)) for z in (bar / 2 - 1e-3, -bar / 2 - height + 1e-3)]
    return Blueprint((Part(rod, "metal"), Part(united(ends), "metal")), None, 6, True)
