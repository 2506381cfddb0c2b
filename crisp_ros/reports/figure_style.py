"""Style of the figures, for print at a paper's width."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

COLOURS = ("#2b6ca8", "#e0812a", "#2a8f6d", "#c0456a")
_STYLE = {
    "font.size": 8,
    "axes.labelsize": 8,
    "axes.titlesize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "0.9",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.4,
    "axes.axisbelow": True,
}
_DPI = 150

_P = ParamSpec("_P")
_R = TypeVar("_R")


def styled(draw: Callable[_P, _R]) -> Callable[_P, _R]:
    """Decorate a drawing function with the common style; matplotlib's settings do not change."""

    @functools.wraps(draw)
    def wrapped(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        with matplotlib.rc_context(_STYLE):
            return draw(*args, **kwargs)

    return wrapped


def panel_label(axes: Axes, letter: str) -> None:
    """Write "(a)" above the panel's upper left corner."""
    axes.set_title(f"({letter})", loc="left", fontweight="bold", pad=3)


def plain_ticks(axes: Axes) -> None:
    """Format the ticks of a logarithmic y axis as plain numbers, smaller between the powers."""
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(2, 0.6)))
    axes.tick_params(axis="y", which="minor", labelsize=6)


def save_figure(figure: Figure, path: Path) -> None:
    """Write a PNG; folders on the way are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=_DPI, format="png")
