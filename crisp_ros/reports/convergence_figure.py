"""The figure of `convergence_study`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from crisp_ros.reports.figure_style import COLOURS, panel_label, save_figure, styled
from crisp_ros.studies.convergence_study import ConvergenceStudy, Curve

_MARKERS = (("o", 8), ("D", 4))  # the two least-squares solvers often find the same


@styled
def draw_convergence(study: ConvergenceStudy, path: Path) -> None:
    """Write the figure as a PNG: pose solvers above, shape solvers below; distance and error."""
    figure = Figure(figsize=(7.2, 5.0), layout="constrained")
    ((a, b), (c, d)) = figure.subplots(2, 2)
    floor = 1e3 * float(study.true_distance_m.median())
    for curves, left, right in ((study.pose, a, b), (study.shape, c, d)):
        for curve, colour in zip(curves, COLOURS, strict=False):
            _draw(left, curve, curve.distance_m, colour)
            _draw(right, curve, curve.error_m, colour)
        left.axhline(floor, color="0.4", linewidth=0.8, linestyle=":")
        left.annotate(
            "at the truth",
            (1.0, floor),
            (-2, -3),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            horizontalalignment="right",
            verticalalignment="top",
            color="0.4",
            fontsize=7,
        )
    distance = "distance of points to surface [mm]"
    a.set(ylabel=distance, title="pose, true shape known")
    b.set(ylabel="pose error, ADD-S [mm]", title="pose, true shape known")
    c.set(ylabel=distance, title="shape, true pose known")
    d.set(ylabel="shape error, Chamfer [mm]", title="shape, true pose known")
    for axes, letter in zip((a, b, c, d), "abcd", strict=True):
        axes.set(xlabel="iterations", xlim=(0, None), ylim=(0, None))
        panel_label(axes, letter)
    a.legend(loc="upper right")
    d.legend(loc="upper right")
    figure.supxlabel(
        f"{len(study.true_distance_m)} half-visible, noisy views of library shapes. "
        "Line: median; band: quartiles; dashed: mean.",
        fontsize=7,
        color="0.3",
    )
    save_figure(figure, path)


def _draw(axes: Axes, curve: Curve, values: Tensor, colour: str) -> None:
    """Draw median, quartiles and mean in millimetres; a solver without iterations is a point."""
    millimetres = 1e3 * values.double()
    low, median, high = (millimetres.quantile(q, dim=-1).numpy() for q in (0.25, 0.5, 0.75))
    if len(curve.iterations) == 1:
        marker, size = _MARKERS[curve.name.endswith("combination")]
        axes.errorbar(
            curve.iterations,
            median,
            np.stack((median - low, high - median)),
            color=colour,
            fmt=marker,
            markersize=size,
            markerfacecolor="none",
            label=curve.name,
        )
        return
    axes.plot(curve.iterations, median, color=colour, marker=".", markersize=4, label=curve.name)
    axes.fill_between(curve.iterations, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.plot(
        curve.iterations, millimetres.mean(-1).numpy(), color=colour, linestyle="--", linewidth=0.9
    )
