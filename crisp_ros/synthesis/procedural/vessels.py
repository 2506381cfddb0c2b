"""Generators of cans, jars, bottles, dispensers and tubes: closed vessels that stand upright."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .blueprint import Blueprint, Part
from .solids import (
    bow,
    capsule,
    convex,
    placed,
    prism,
    revolved,
    rounded_box,
    rounded_rectangle,
    stretched,
    swept,
    united,
)

Random = np.random.Generator


def can(rng: Random) -> Blueprint:
    """A tin: a cylinder with rims at both ends, or one end tapered as a drink's."""
    radius = rng.uniform(0.02, 0.08)
    height = min(radius * 2 * rng.uniform(0.35, 2.2), 0.3)
    rim, groove = rng.uniform(0.001, 0.003), rng.uniform(0.002, 0.006)
    drink = rng.random() < 0.3
    inner = radius * 0.92
    profile = [[0, groove], [inner, groove], [inner, 0], [radius + rim, 0]]
    profile += [[radius + rim, rim * 2], [radius, rim * 2]]
    if drink:
        top, neck = radius * rng.uniform(0.75, 0.9), height * 0.08
        profile += [[radius, height - neck], [top, height], [top - 0.004, height]]
        profile += [[top - 0.004, height - groove], [0, height - groove]]
    else:
        profile += [[radius, height - rim * 2], [radius + rim, height - rim * 2]]
        profile += [[radius + rim, height], [inner, height], [inner, height - groove]]
        profile += [[0, height - groove]]
    return Blueprint((Part(revolved(profile), "print", "cylinder"),), None, 0, not drink)


def jar(rng: Random) -> Blueprint:
    """A jar with a shoulder and a screw lid."""
    radius = rng.uniform(0.02, 0.06)
    height = radius * rng.uniform(1.6, 3.6)
    neck = radius * rng.uniform(0.65, 0.98)
    shoulder = height * rng.uniform(0.05, 0.2)
    foot = radius * rng.uniform(0.02, 0.12)
    profile = [[0, 0], [radius - foot, 0], [radius, foot], *_curve(radius, height, neck, shoulder)]
    profile += [[0, height + shoulder]]
    lid_height, lid = rng.uniform(0.01, 0.025), neck + rng.uniform(0.001, 0.004)
    top = _disc(lid, lid_height, 0.1)
    parts = (
        Part(revolved(profile), "print", "cylinder"),
        Part(placed(top, (0, 0, height + shoulder - 2e-4)), "metal", "cylinder"),
    )
    return Blueprint(parts, None, 0)


def bottle(rng: Random) -> Blueprint:
    """A round bottle: body, shoulder, neck and cap."""
    body, cap, _ = _bottle(rng, rng.uniform(0.018, 0.05), rng.uniform(2.2, 5.0))
    return Blueprint((Part(body, "print", "cylinder"), Part(cap)), None, 0)


def squeeze_bottle(rng: Random) -> Blueprint:
    """A bottle of oval section, as of shampoo or sauce; x is its broad side."""
    radius = rng.uniform(0.025, 0.05)
    body, cap, _ = _bottle(rng, radius, rng.uniform(2.6, 4.5))
    flat = rng.uniform(0.45, 0.8)
    oval = (1.0, flat, 1.0)
    round_cap = rng.random() < 0.5
    cap = stretched(cap, (flat, flat, 1.0) if round_cap else oval)
    return Blueprint((Part(stretched(body, oval), "print", "cylinder"), Part(cap)), None, 2)


def spray_bottle(rng: Random) -> Blueprint:
    """A bottle with a pistol head whose nozzle points along x."""
    radius = rng.uniform(0.03, 0.05)
    body, collar, top = _bottle(rng, radius, rng.uniform(3.0, 4.2))
    body = stretched(body, (1.0, rng.uniform(0.6, 1.0), 1.0))
    length, height = rng.uniform(0.05, 0.08), rng.uniform(0.025, 0.04)
    width = rng.uniform(0.018, 0.028)
    outline = [
        [-0.4 * length, 0],
        [0.3 * length, 0],
        [0.6 * length, 0.45 * height],
        [0.6 * length, height],
        [-0.25 * length, height],
        [-0.5 * length, 0.5 * height],
    ]
    head = prism(outline, width).rotate((90, 0, 0))
    head = placed(head, (0, width / 2, top - 0.003))
    nozzle = capsule(
        (0.5 * length, 0, top + 0.75 * height), (0.72 * length, 0, top + 0.75 * height), 0.007
    )
    trigger = swept(
        [
            (0.45 * length, 0, top + 0.4 * height),
            (0.62 * length, 0, top - 0.2 * height),
            (0.55 * length, 0, top - 0.9 * height),
        ],
        [0.006, 0.005, 0.004],
        (1, 1.6, 1),
    )
    parts = (
        Part(body, "print", "cylinder"),
        Part(collar),
        Part(united([head, nozzle])),
        Part(trigger),
    )
    return Blueprint(parts)


def handle_bottle(rng: Random) -> Blueprint:
    """A canister with a grip cut through it at the side of +x, and the neck at -x or the middle."""
    width = rng.uniform(0.09, 0.17)
    depth = width * rng.uniform(0.45, 0.75)
    height = width * rng.uniform(1.2, 1.8)
    outline = rounded_rectangle(width, depth, 0.45 * depth)
    slope = rng.uniform(0.12, 0.3) * height
    low = prism(outline, height - slope)
    edge = np.column_stack([outline, np.full(len(outline), height - slope)])
    roof = outline * np.array([0.6, 0.7]) - [rng.uniform(0.0, 0.15) * width, 0]
    top = np.column_stack([roof, np.full(len(outline), height)])
    body = united([low, convex(np.concatenate([edge, top]))])
    grip, tall = rng.uniform(0.022, 0.03), rng.uniform(0.35, 0.5) * height
    hole = rounded_rectangle(grip, tall, 0.45 * grip)
    hole = placed(prism(hole, 2 * depth).rotate((90, 0, 0)), (0, depth, 0))
    hole = placed(hole, (width / 2 - grip / 2 - rng.uniform(0.012, 0.018), 0, 0.58 * height))
    neck, at = rng.uniform(0.012, 0.022), roof[:, 0].mean()
    cap = placed(_disc(neck, rng.uniform(0.02, 0.035), 0.15), (at, 0, height - 0.002))
    return Blueprint((Part(body - hole, "print", "box"), Part(cap, "plastic")))


def pump_bottle(rng: Random) -> Blueprint:
    """A dispenser: a round or oval body, a stem, and a spout along x."""
    radius = rng.uniform(0.025, 0.042)
    body, collar, top = _bottle(rng, radius, rng.uniform(2.2, 3.6))
    body = stretched(body, (1.0, rng.uniform(0.65, 1.0), 1.0))
    rise, reach = rng.uniform(0.015, 0.035), rng.uniform(0.025, 0.045)
    stem = capsule((0, 0, top - 0.01), (0, 0, top + rise), 0.0045)
    spout = swept(
        [(0, 0, top + rise), (0.7 * reach, 0, top + rise), (reach, 0, top + rise - 0.01)],
        [0.009, 0.006, 0.0045],
    )
    parts = (Part(body, "print", "cylinder"), Part(collar), Part(united([stem, spout])))
    return Blueprint(parts)


def tube(rng: Random) -> Blueprint:
    """A tube of paste: round at the cap below, flat along x at the seam above."""
    radius = rng.uniform(0.012, 0.026)
    length = radius * rng.uniform(4.5, 8.0)
    angles = np.linspace(0, 2 * np.pi, 32, endpoint=False)
    ring = np.stack([np.cos(angles), np.sin(angles)], axis=1) * radius
    seam = ring * [np.pi / 2 * rng.uniform(0.85, 1.0), 0.0018 / radius]
    levels = [(ring * 0.6, 0.0), (ring, 0.012), (seam, length)]
    rings = [np.column_stack([outline, np.full(len(outline), z)]) for outline, z in levels]
    body = convex(np.concatenate(rings))
    cap = placed(_disc(radius * rng.uniform(0.5, 0.95), 0.02, -0.12), (0, 0, -0.019))
    return Blueprint((Part(body, "print", "cylinder"), Part(cap)), None, 2)


def carafe(rng: Random) -> Blueprint:
    """A thermos or kettle: a tall vessel with a lid, a handle along x and a spout against it."""
    radius = rng.uniform(0.04, 0.075)
    height = radius * rng.uniform(2.2, 4.0)
    top = radius * rng.uniform(0.55, 1.0)
    profile = [[0, 0], [radius, 0], *_curve(radius, 0.6 * height, top, 0.4 * height)]
    body = revolved([*profile, [0, height]])
    lid = placed(_disc(0.9 * top, rng.uniform(0.012, 0.035), 0.2), (0, 0, height - 1e-3))
    path = bow(
        (radius * 0.9, 0, 0.2 * height),
        (top * 0.9, 0, rng.uniform(0.8, 0.95) * height),
        rng.uniform(0.035, 0.05),
        rng.uniform(0, 0.8),
    )
    handle = swept(path, [rng.uniform(0.005, 0.009)] * len(path), (1, 1.4, 1))
    beak = convex(
        [
            [-0.7 * top, 0.018, height],
            [-0.7 * top, -0.018, height],
            [-0.7 * top, 0, 0.8 * height],
            [-top - 0.018, 0, height],
            [-0.7 * top, 0, height + 0.004],
        ]
    )
    parts = (Part(body, "metal", "cylinder"), Part(lid), Part(handle), Part(beak, "metal"))
    return Blueprint(parts)


def _bottle(rng: Random, radius: float, slender: float):
    """Body and cap of a bottle, and the height of the cap's top, metres."""
    height = min(2 * radius * slender, 0.3)
    neck = radius * rng.uniform(0.25, 0.55)
    shoulder = height * rng.uniform(0.1, 0.4)
    straight = height - shoulder
    waist = radius * (1 - rng.choice([0.0, rng.uniform(0.05, 0.2)]))
    foot = radius * rng.uniform(0.02, 0.2)
    profile = [[0, 0], [radius - foot, 0], [radius, foot], [radius, 0.3 * straight]]
    profile += [[waist, 0.5 * straight], [waist, 0.6 * straight], [radius, 0.8 * straight]]
    profile += [
        *_curve(radius, straight, neck, shoulder),
        [neck, height + 0.008],
        [0, height + 0.008],
    ]
    tall = rng.uniform(0.012, 0.04)
    cap = placed(
        _disc(neck * rng.uniform(1.05, 1.4), tall, rng.uniform(0.0, 0.5)), (0, 0, height - 0.0013)
    )
    return revolved(profile), cap, height + tall


def _curve(wide: float, start: float, narrow: float, rise: float) -> NDArray[np.float64]:
    """Profile (N, 2) of a shoulder from one radius and height to another."""
    share = np.linspace(0.0, 1.0, 8)
    radius = narrow + (wide - narrow) * (0.5 + 0.5 * np.cos(np.pi * share))
    return np.column_stack([radius, start + rise * share])


def _disc(radius: float, height: float, taper: float):
    """A cap from z = 0: a cylinder, its top narrower by a share of the radius."""
    top = radius * (1.0 - taper)
    return revolved([[0, 0], [radius, 0], [radius, 0.3 * height], [top, height], [0, height]])


def canister(rng: Random) -> Blueprint:
    """A box-shaped container with rounded corners and a round screw cap in the middle."""
    width = rng.uniform(0.06, 0.14)
    depth = width * rng.uniform(0.5, 0.9)
    height = width * rng.uniform(0.9, 1.8)
    body = prism(rounded_rectangle(width, depth, rng.uniform(0.1, 0.3) * depth), height)
    rim = placed(rounded_box((0.9 * width, 0.9 * depth, 0.01), 0.003), (0, 0, height))
    cap = placed(_disc(rng.uniform(0.25, 0.42) * depth, 0.025, 0.1), (0, 0, height - 0.0013))
    return Blueprint((Part(united([body, rim]), "print", "box"), Part(cap)), None, 2)
