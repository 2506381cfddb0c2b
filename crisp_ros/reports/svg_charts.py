"""Small charts as SVG text, for pages without other files.

Each series is a group of class "series", in the order of its legend. A timeline also has a line of
class "now", for a script to move: `data-low` and `data-high` are the x values at the left and right
ends of its `data-left` and `data-right`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import NamedTuple

PALETTE = (
    "#3b82c4", "#e08a2e", "#2f9e77", "#c8506d", "#8a6fc9", "#a3962f", "#4bb3c9", "#b56b3f",
    "#7a8b99", "#d178b8",
)  # fmt: skip

_WIDTH, _HEIGHT = 620, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 10, 10, 30


class Mark(NamedTuple):
    """One point of a series.

    Attributes:
        x: position.
        y: value, infinite for a missed object.
        hollow: drawn as a ring.
        note: text that appears on hovering.
    """

    x: float
    y: float
    hollow: bool = False
    note: str = ""


@dataclass(frozen=True)
class Axis:
    """Range and label of an axis.

    Attributes:
        low: end of the axis.
        high: other end.
        label: with the unit.
        logarithmic: the ends are 1, 2 or 5 times a power of ten.
        counts: ticks are at integers.
    """

    low: float
    high: float
    label: str
    logarithmic: bool = False
    counts: bool = False

    def share(self, value: float) -> float:
        """Return the relative position of a value, 0 at the low end, 1 at the high end."""
        value = min(max(value, self.low), self.high)
        if self.logarithmic:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    @property
    def ticks(self) -> list[float]:
        """Round values from low to high."""
        if self.logarithmic:
            first = math.floor(math.log10(self.low))
            last = math.ceil(math.log10(self.high))
            steps = [m * 10.0**e for e in range(first, last + 1) for m in (1, 2, 5)]
        else:
            raw = max((self.high - self.low) / 5.0, 1.0 if self.counts else 0.0)
            power = 10.0 ** math.floor(math.log10(raw))
            step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw)
            start = math.ceil(self.low / step - 1e-9)
            steps = [i * step for i in range(start, start + 12)]
        return [t for t in steps if self.low * (1 - 1e-9) <= t <= self.high * (1 + 1e-9)]


def line_chart(
    series: Mapping[str, Sequence[Mark]],
    x: Axis,
    y: Axis,
    limit: float | None = None,
    dots: bool = True,
    timeline: bool = False,
) -> str:
    """Draw lines over x, in the colours of the palette; missed points are at the upper edge.

    Args:
        limit: a dashed line at this y.
        dots: mark every point.
        timeline: with a line that marks the present.
    """
    parts = [_frame(x, y)]
    if limit is not None:
        level = _y(y, limit)
        parts.append(f'<line class="limit" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}"')
        parts.append(f' y1="{level:.1f}" y2="{level:.1f}"/>')
    for marks, colour in zip(series.values(), _colours(len(series)), strict=True):
        parts.append(f'<g class="series" stroke="{colour}">')
        places = [(_x(x, m.x), _y(y, m.y)) for m in marks]
        if len(places) > 1:
            path = " ".join(f"{a:.1f},{b:.1f}" for a, b in places)
            parts.append(f'<polyline points="{path}"/>')
        for mark, (a, b) in zip(marks, places, strict=True) if dots else ():
            style = 'class="hollow"' if mark.hollow else f'fill="{colour}"'
            note = f"<title>{escape(mark.note)}</title>" if mark.note else ""
            parts.append(f'<circle {style} r="2.4" cx="{a:.1f}" cy="{b:.1f}">{note}</circle>')
        parts.append("</g>")
    return _svg(parts, x, timeline)


def stacked_chart(
    layers: Mapping[str, Sequence[float]], x: Axis, y: Axis, timeline: bool = False
) -> str:
    """Draw stacked bars at x = 0, 1, ..., the layers in the colours of the palette."""
    parts = [_frame(x, y)]
    count = max((len(values) for values in layers.values()), default=0)
    width = 0.72 * (_WIDTH - _LEFT - _RIGHT) / max(x.high - x.low, 1.0)
    base = [0.0] * count
    for (name, values), colour in zip(layers.items(), _colours(len(layers)), strict=True):
        parts.append(f'<g class="series" fill="{colour}">')
        for i, value in enumerate(values):
            if not value > 0.0:
                continue
            top, bottom = _y(y, base[i] + value), _y(y, base[i])
            parts.append(f'<rect x="{_x(x, i) - width / 2:.1f}" y="{top:.1f}"')
            parts.append(f' width="{width:.1f}" height="{max(bottom - top, 0):.2f}">')
            parts.append(f"<title>frame {i}, {escape(name)}: {value:.1f}</title></rect>")
            base[i] += value
        parts.append("</g>")
    return _svg(parts, x, timeline)


def legend(names: Sequence[str]) -> str:
    """Draw the legend: the palette's colours with the names of the series."""
    entries = (
        f'<span><i style="background:{colour}"></i>{escape(name)}</span>'
        for name, colour in zip(names, _colours(len(names)), strict=True)
    )
    return f'<div class="legend">{"".join(entries)}</div>'


def _colours(count: int) -> list[str]:
    return [PALETTE[i % len(PALETTE)] for i in range(count)]


def _x(axis: Axis, value: float) -> float:
    return _LEFT + (_WIDTH - _LEFT - _RIGHT) * axis.share(value)


def _y(axis: Axis, value: float) -> float:
    return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * axis.share(value)


def _frame(x: Axis, y: Axis) -> str:
    parts = []
    for tick in y.ticks:
        level = _y(y, tick)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}"')
        parts.append(f' y1="{level:.1f}" y2="{level:.1f}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{level + 4:.1f}" text-anchor="end">')
        parts.append(f"{tick:g}</text>")
    for tick in x.ticks:
        parts.append(f'<text x="{_x(x, tick):.1f}" y="{_HEIGHT - _BOTTOM + 15}"')
        parts.append(f' text-anchor="middle">{tick:g}</text>')
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{_HEIGHT - 2}" text-anchor="middle">')
    parts.append(f"{escape(x.label)}</text>")
    height = (_TOP + _HEIGHT - _BOTTOM) / 2
    parts.append(f'<text transform="translate(11 {height}) rotate(-90)" text-anchor="middle">')
    parts.append(f"{escape(y.label)}</text>")
    return "".join(parts)


def _svg(parts: Sequence[str], x: Axis, timeline: bool) -> str:
    now = f'<line class="now" y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}"/>' if timeline else ""
    places = f'data-low="{x.low:g}" data-high="{x.high:g}"'
    places += f' data-left="{_LEFT}" data-right="{_WIDTH - _RIGHT}"'
    svg = f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" {places}>'
    return f"{svg}{''.join(parts)}{now}</svg>"
