"""Charts: values are where their axes say."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import pytest

from crisp_ros.reports.svg_charts import Axis, Mark, legend, line_chart, stacked_chart

TIME = Axis(0, 10, "frame", counts=True)


def numbers(svg: str, tag: str, *names: str) -> list[tuple[float, ...]]:
    found = ElementTree.fromstring(svg).iter(tag)
    return [tuple(float(e.get(name)) for name in names) for e in found if e.get(names[0])]


@pytest.mark.parametrize(
    "axis, ticks",
    [
        (Axis(0, 2, "frame", counts=True), [0, 1, 2]),
        (Axis(0, 2, "m"), [0, 0.5, 1, 1.5, 2]),
        (Axis(-0.5, 39.5, "frame", counts=True), [0, 10, 20, 30]),
        (Axis(0.5, 50, "mm", logarithmic=True), [0.5, 1, 2, 5, 10, 20, 50]),
    ],
)
def test_ticks_are_round(axis: Axis, ticks: list[float]) -> None:
    assert axis.ticks == pytest.approx(ticks)


def test_points_lie_where_their_values_are() -> None:
    marks = [Mark(0, 1), Mark(5, 10, hollow=True, note="a < b"), Mark(10, math.inf)]
    svg = line_chart({"mug": marks}, TIME, Axis(1, 100, "mm", logarithmic=True), limit=10.0)
    (x0, y0), (x1, y1), (x2, y2) = numbers(svg, "circle", "cx", "cy")
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.2) and x1 > x0
    assert y0 - y1 == pytest.approx(y1 - y2, abs=0.2) and y2 < y1  # missed: on the upper rim
    (limit,) = re.findall(r'class="limit".*? y1="([\d.]+)"', svg)
    assert float(limit) == y1
    assert svg.count('class="hollow"') == 1 and "a &lt; b" in svg
    assert 'class="now"' not in svg


def test_bars_stand_on_one_another() -> None:
    svg = stacked_chart({"a": [2.0, 4.0], "b": [1.0, 0.0]}, TIME, Axis(0, 8, "ms"), timeline=True)
    first, second, third = numbers(svg, "rect", "x", "y", "height")
    assert second[2] == pytest.approx(2 * first[2], abs=0.2) and second[0] > first[0]
    assert (third[0], third[1] + third[2]) == pytest.approx((first[0], first[1]), abs=0.2)
    assert svg.count('class="now"') == 1 and 'data-low="0" data-high="10"' in svg


def test_series_and_legend_share_order_and_colours() -> None:
    names = [f"object <{i}>" for i in range(12)]  # more than there are colours
    svg = line_chart({name: [Mark(0, 1)] for name in names}, TIME, Axis(0, 2, "m"))
    drawn = re.findall(r'<g class="series" stroke="(#\w+)"', svg)
    listed = re.findall(r"background:(#\w+)", legend(names))
    assert drawn == listed and len(drawn) == 12 and "object &lt;11&gt;" in legend(names)
