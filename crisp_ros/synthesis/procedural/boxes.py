"""Generators of boxes, cartons, pouches, books, trays and building bricks."""

from __future__ import annotations

import numpy as np

from .blueprint import Blueprint, Part
from .solids import (
    convex,
    placed,
    prism,
    revolved,
    rounded_box,
    rounded_rectangle,
    united,
)

Random = np.random.Generator


def box(rng: Random) -> Blueprint:
    """A packet with sides of three lengths: z along the longest, x along the next."""
    long = np.exp(rng.uniform(np.log(0.05), np.log(0.33)))
    middle = long * rng.uniform(0.4, 0.9)
    thin = middle * rng.uniform(0.3, 0.88)
    bevel = rng.uniform(0.0, 0.06) * thin if rng.random() < 0.5 else 0.0
    return Blueprint((Part(rounded_box((middle, thin, long), bevel), "print"),), None, 2, True)


def square_box(rng: Random) -> Blueprint:
    """A packet of square section along z: tall, or flat."""
    side = rng.uniform(0.03, 0.2)
    ratio = rng.uniform(1.15, 2.6) if rng.random() < 0.6 else rng.uniform(0.2, 0.85)
    height = min(side * ratio, 0.33)
    bevel = rng.uniform(0.0, 0.1) * min(side, height)
    return Blueprint((Part(rounded_box((side, side, height), bevel), "print"),), None, 4, True)


def gable_carton(rng: Random) -> Blueprint:
    """A drink's carton: a box, a roof whose ridge runs along x, and the seam on it."""
    width = rng.uniform(0.055, 0.1)
    depth = width * rng.uniform(0.7, 0.95)
    body, roof = width * rng.uniform(1.4, 2.6), depth * rng.uniform(0.3, 0.55)
    seam, thickness = rng.uniform(0.008, 0.018), rng.uniform(0.003, 0.006)
    ridge = width * rng.uniform(0.8, 1.0)
    corners = [
        [x * w / 2, y * d / 2, z]
        for z, w, d in ((0, width, depth), (body, width, depth), (body + roof, ridge, thickness))
        for x in (-1, 1)
        for y in (-1, 1)
    ]
    fin = placed(rounded_box((ridge, thickness, 2 * seam), 0.0), (0, 0, body + roof))
    parts = [Part(convex(corners), "print"), Part(fin, "plastic")]
    if rng.random() < 0.4:  # a screw cap on one slope
        cap = revolved([[0, -0.01], [0.013, -0.01], [0.013, 0.012], [0, 0.012]])
        slope = np.degrees(np.arctan2(roof, depth / 2))
        cap = cap.rotate((-slope, 0.0, 0.0))
        parts.append(Part(placed(cap, (0, depth / 4, body + roof / 2)), "plastic"))
        return Blueprint(tuple(parts))
    return Blueprint(tuple(parts), None, 2)


def pouch(rng: Random) -> Blueprint:
    """A filled bag: a cushion, or standing on its bottom and flat at the top."""
    width = rng.uniform(0.08, 0.22)
    height = width * rng.uniform(1.1, 1.6)
    thick = width * rng.uniform(0.22, 0.45)
    standing = rng.random() < 0.5
    least = rng.uniform(0.003, 0.005) / thick

    def filled(points):
        points = np.array(points)
        x, z = points[:, 0] / width * 2, points[:, 2] / height * 2
        if standing:
            share = np.sqrt(np.clip(1 - x**2, 0, 1)) * np.clip((1 - z) / 2, 0, 1) ** 0.7
        else:
            share = np.sqrt(np.clip((1 - x**2) * (1 - z**2), 0, 1))
        points[:, 1] *= np.maximum(share, least)
        return points

    sheet = rounded_box((width, thick, height), 0.0).refine_to_length(width / 14)
    solid = sheet.warp_batch(filled)
    return Blueprint((Part(solid, "print"),), None, 2, not standing)


def book(rng: Random) -> Blueprint:
    """A closed book: z along the spine, which faces -x; the cover stands out over the pages."""
    height = rng.uniform(0.1, 0.32)
    width = height * rng.uniform(0.6, 0.85)
    thick = rng.uniform(0.012, 0.05)
    cover, inset = rng.uniform(0.002, 0.004), rng.uniform(0.002, 0.006)
    boards = [
        placed(rounded_box((width, cover, height), 0.0), (0, side * (thick - cover) / 2, 0))
        for side in (-1, 1)
    ]
    spine = placed(rounded_box((cover, thick, height), 0.0), (-(width - cover) / 2, 0, 0))
    pages = rounded_box((width - 2 * inset, thick - cover, height - 2 * inset), 0.0)
    if rng.random() < 0.5:  # a paperback has no boards
        return Blueprint((Part(rounded_box((width, thick, height), 0.0), "print"),), None, 2, True)
    parts = (Part(united([*boards, spine]), "print"), Part(pages, "ceramic"))
    return Blueprint(parts, None, 1, True)


def tray(rng: Random) -> Blueprint:
    """An open box with rounded corners and sloping walls: a lunch box, tray or drawer insert."""
    width = rng.uniform(0.08, 0.3)
    depth = width * rng.uniform(0.5, 0.9)
    height = rng.uniform(0.025, 0.1)
    wall, radius = rng.uniform(0.003, 0.006), rng.uniform(0.1, 0.4) * depth
    flare = rng.uniform(1.0, 1.15)
    outer = rounded_rectangle(width / flare, depth / flare, radius / flare)
    inner = rounded_rectangle(
        width / flare - 2 * wall, depth / flare - 2 * wall, max(radius / flare - wall, 1e-3)
    )
    cavity = placed(prism(inner, height + wall, flare), (0, 0, wall))
    return Blueprint(
        (Part(prism(outer, height, flare), "plastic", "cylinder"),), cavity, 2, inside="plastic"
    )


def tub(rng: Random) -> Blueprint:
    """A closed tub with a lid that stands out, round or with rounded corners."""
    width, height = rng.uniform(0.06, 0.18), rng.uniform(0.03, 0.13)
    taper, rim = rng.uniform(1.0, 1.3), rng.uniform(0.002, 0.006)
    lid = rng.uniform(0.006, 0.016)
    if rng.random() < 0.6:
        radius = width / 2
        body = revolved([[0, 0], [radius / taper, 0], [radius, height], [0, height]])
        top = [[0, 0], [radius + rim, 0], [radius + rim, lid], [0.9 * radius, lid]]
        top = revolved([*top, [0.85 * radius, 0.6 * lid], [0, 0.6 * lid]])
        order = 0
    else:
        depth = width * rng.uniform(0.6, 0.9)
        radius = rng.uniform(0.15, 0.4) * depth
        outline = rounded_rectangle(width / taper, depth / taper, radius / taper)
        body = prism(outline, height, taper)
        top = prism(rounded_rectangle(width + 2 * rim, depth + 2 * rim, radius + rim), lid)
        order = 2
    parts = (Part(body, "print", "cylinder"), Part(placed(top, (0, 0, height - 1e-4)), "print"))
    return Blueprint(parts, None, order)


def brick(rng: Random) -> Blueprint:
    """A toy brick with studs."""
    pitch = rng.uniform(0.016, 0.032)
    columns, rows = int(rng.integers(2, 6)), int(rng.integers(1, 4))
    if columns < rows:
        columns, rows = rows, columns
    height = pitch * rng.uniform(0.6, 1.3)
    body = rounded_box((columns * pitch, rows * pitch, height), 0.03 * pitch)
    radius, stud = pitch * rng.uniform(0.26, 0.34), pitch * rng.uniform(0.2, 0.3)
    disc = revolved([[0, -0.002], [radius, -0.002], [radius, stud], [0, stud]], 24)
    at = [
        ((i - (columns - 1) / 2) * pitch, (j - (rows - 1) / 2) * pitch, height / 2)
        for i in range(columns)
        for j in range(rows)
    ]
    solid = united([body, *(placed(disc, spot) for spot in at)])
    return Blueprint((Part(solid, "plastic"),), None, 4 if columns == rows else 2)
