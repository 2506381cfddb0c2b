"""The figure of `degeneracy_study`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from crisp_ros.reports.figure_style import COLOURS, panel_label, plain_ticks, save_figure, styled
from crisp_ros.studies.degeneracy_study import CUP, MUG, DegeneracyStudy, StudiedView

_PICTURES = 7


@styled
def draw_degeneracy(study: DegeneracyStudy, path: Path) -> None:
    """Write the figure as a PNG: views of the mug above curves over its rotation."""
    figure = Figure(figsize=(7.2, 4.9), layout="constrained")
    rows = figure.subfigures(2, 1, height_ratios=(1, 4.1))
    picked = np.linspace(0, len(study.views) - 1, min(_PICTURES, len(study.views))).round()
    pictures = rows[0].subplots(1, len(picked), squeeze=False)[0]
    for axes, index in zip(pictures, picked.astype(int), strict=True):
        _picture(axes, study.views[index])
    ((a, b), (c, d)) = rows[1].subplots(2, 2, sharex=True)
    angles = np.rad2deg([view.angle for view in study.views])
    mug, twin, grey = COLOURS[0], COLOURS[1], "0.55"

    a.plot(angles, [v.pair.tangent for v in study.views], color=mug, label="mug and its twin")
    pooled = [v.pooled_pair.tangent for v in study.views]
    a.plot(angles, pooled, color=mug, linestyle="--", label="the same, all views so far")
    if study.key_frames:
        measured = [f.tangent for f in study.key_frames]
        a.plot(angles, measured, color=COLOURS[3], label="key frames of the network")
    a.plot(angles, [v.library.tangent for v in study.views], color=grey, label="whole library")
    a.set(yscale="log", ylabel="least eigenvalue, tangent space")
    b.plot(angles, [v.pair.paper for v in study.views], color=mug, label="mug and its twin")
    b.plot(angles, [v.library.paper for v in study.views], color=grey, label="whole library")
    b.set(yscale="log", ylabel=r"$\lambda_{\min}(F^\top F)$ of the paper [m$^2$]")
    for name, colour, label in ((MUG, mug, "mug"), (CUP, twin, "mug without handle")):
        c.plot(angles, [1e3 * v.residual_m[name] for v in study.views], color=colour, label=label)
    others = [
        1e3 * min(r for name, r in v.residual_m.items() if name not in (MUG, CUP))
        for v in study.views
    ]
    c.plot(angles, others, color=grey, label="best other shape")
    _mark_threshold(c, angles[-1], 1e3 * study.threshold_m)
    c.set(
        yscale="log",
        ylabel=f"{100 * study.quantile:g} % of |SDF| within [mm]",
        xlabel="rotation of the mug [degrees]",
    )
    certifying = [len(v.certifying) for v in study.views]
    d.step(angles, certifying, where="mid", color=mug, label="that certify")
    apart = [v.degenerate for v in study.views]
    d.step(angles, apart, where="mid", color=COLOURS[3], label="flag, one view")
    if study.key_frames:
        flags = [f.degenerate for f in study.key_frames]
        d.step(angles, flags, where="mid", color="0.2", linestyle="--", label="flag, key frames")
    d.set(ylabel="library shapes", xlabel="rotation of the mug [degrees]", ylim=(-0.15, 3.2))
    d.set_yticks(range(4))
    plain_ticks(c)
    for axes, letter in zip((a, b, c, d), "abcd", strict=True):
        _shade_doubt(axes, angles, [len(v.certifying) > 1 for v in study.views])
        axes.set_xlim(angles[0], angles[-1])
        axes.set_xticks(range(0, 181, 30))
        axes.legend(loc="best")
        panel_label(axes, letter)
    save_figure(figure, path)


def _mark_threshold(axes: Axes, right: float, threshold_mm: float) -> None:
    axes.axhline(threshold_mm, color="black", linewidth=0.8, linestyle=":")
    axes.annotate(
        r"$\epsilon$",
        (right, threshold_mm),
        (-2, 2),
        textcoords="offset points",
        horizontalalignment="right",
    )


def _picture(axes: Axes, view: StudiedView) -> None:
    """Draw the mug as the camera sees it, with its handle in another colour."""
    brightness = view.image % 1.0001
    handle = (view.image > 1.0001)[..., None]
    tint = np.where(handle, (0.95, 0.55, 0.2), (0.62, 0.7, 0.8))
    colour = np.where(np.isnan(view.image)[..., None], 1.0, tint * brightness[..., None])
    axes.imshow(np.clip(colour, 0.0, 1.0), interpolation="bilinear")
    axes.set_title(f"{np.rad2deg(view.angle):.0f}°", pad=1)
    axes.axis("off")


def _shade_doubt(axes: Axes, angles: np.ndarray, doubtful: list[bool]) -> None:
    """Shade the angles at which more than one shape certifies."""
    half = (angles[1] - angles[0]) / 2 if len(angles) > 1 else 0.0
    for angle, doubt in zip(angles, doubtful, strict=True):
        if doubt:
            axes.axvspan(angle - half, angle + half, color=COLOURS[1], alpha=0.14, linewidth=0)
