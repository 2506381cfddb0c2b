"""The figure of `coordinates_study`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from crisp_ros.reports.figure_style import COLOURS, panel_label, save_figure, styled

_COLOUR = dict(zip(("metric", "normalised"), COLOURS, strict=False))
_LABEL = {"metric": "PNC, metric", "normalised": "normalised (NOCS)"}


@styled
def draw_coordinates(kinds: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """Write the figure as a PNG.

    Args:
        kinds: by kind: `history`, figures by step; `picture`: `surface`, `truth`, `before` and
            `after`, points (N, 3) of one object in its frame, metres.
        path: of the file.
    """
    figure = Figure(figsize=(7.2, 4.4), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=(1.0, 1.15))
    a, b, c = above.subplots(1, 3)
    for kind, study in kinds.items():
        history = study["history"]
        steps = [row["step"] for row in history]
        first = history[0]["norm_m"]
        look = {"color": _COLOUR[kind], "label": _LABEL[kind]}
        a.plot(steps, [row["norm_m"] / first for row in history], **look)
        b.plot(steps, [row["auc_add_s_2cm"] for row in history], **look)
        c.plot(steps, [row["certified"] for row in history], **look)
    a.set(ylabel="|Z| over its start", ylim=(0, 1.15))
    b.set(ylabel="ADD-S AUC (2 cm)", ylim=(0, None))
    c.set(ylabel="certified share", ylim=(0, 1.02))
    for axes, letter in zip((a, b, c), "abc", strict=True):
        axes.set(xlabel="self-training steps", xlim=(0, None))
        panel_label(axes, letter)
    a.legend(loc="lower left")
    panels = below.subplots(1, 2 * len(kinds), sharex=True, sharey=True)
    places = [(kind, when) for kind in kinds for when in ("before", "after")]
    for axes, (kind, when), letter in zip(panels, places, "defg", strict=False):
        _draw_object(axes, kinds[kind]["picture"], when, _COLOUR[kind])
        axes.set_xlabel(f"{_LABEL[kind]}, {when}")
        panel_label(axes, letter)
    save_figure(figure, path)


def _draw_object(
    axes: Axes, picture: Mapping[str, Sequence[Sequence[float]]], when: str, colour: str
) -> None:
    """Draw the shape in grey and the predictions over it, seen along the object's short side."""
    surface, answer = (100.0 * np.asarray(picture[name]) for name in ("surface", when))
    across, up = np.sort(np.argsort(np.ptp(surface, axis=0))[1:])
    axes.scatter(surface[:, across], surface[:, up], s=3, color="0.82", linewidths=0)
    axes.scatter(answer[:, across], answer[:, up], s=3, color=colour, linewidths=0)
    axes.set_aspect("equal")
    axes.set_ylabel("object frame [cm]" if when == "before" else "")
