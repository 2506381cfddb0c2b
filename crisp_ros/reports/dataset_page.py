"""Reports of evaluations on data sets: a page, and its tables and figures as PNG."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from string import Template

import numpy as np
from matplotlib.figure import Figure

from crisp_ros.data.atomic_file import write_json
from crisp_ros.reports.estimate_pictures import Picture
from crisp_ros.reports.figure_style import COLOURS, save_figure, styled
from crisp_ros.reports.report_parts import Curves, DataReport, ReportTable, cell, is_ours

_PAGE = Path(__file__).parent / "page"
_COLUMNS = 6  # of the grid of pictures


def write_report(folder: Path, report: DataReport) -> Path:
    """Write index.html, tables.png, a PNG per figure, and figures.json; return the page's path."""
    folder.mkdir(parents=True, exist_ok=True)
    shown = []
    for curves in report.curves:
        draw_curves(curves, folder / curves.file)
        shown.append((curves.file, curves.title, curves.note))
    if report.pictures:
        draw_grid(report.pictures, folder / "pictures.png")
        note = "image, and the reconstructed surface at its pose: green certified, orange not"
        shown.append(("pictures.png", "Examples", note))
    draw_tables(report.tables, folder / "tables.png")
    figures = "".join(
        f"<figure><figcaption>{escape(title)}<span>{escape(note)}</span></figcaption>"
        f'<img src="{escape(file)}" alt="{escape(title)}"></figure>'
        for file, title, note in shown
    )
    page = Template((_PAGE / "data.html").read_text()).substitute(
        title=escape(report.title),
        lead="<br>".join(escape(line) for line in report.lead.splitlines()),
        style=(_PAGE / "page.css").read_text() + (_PAGE / "data.css").read_text(),
        tables="".join(map(_html_table, report.tables)),
        figures=figures,
    )
    path = folder / "index.html"
    path.write_text(page)
    write_json(folder / "figures.json", report.figures)
    return path


@styled
def draw_curves(curves: Curves, path: Path) -> None:
    """Draw the share of instances up to each error."""
    figure = Figure(figsize=(4.6, 3.0), layout="constrained")
    axes = figure.add_subplot()
    for index, (name, values) in enumerate(curves.values.items()):
        errors = np.sort(np.asarray(values, np.float64))
        if len(errors) == 0:
            continue
        steps = np.arange(1, len(errors) + 1) / len(errors)
        within = errors <= curves.right
        x = np.concatenate([[0.0], errors[within], [curves.right]])
        y = np.concatenate([[0.0], steps[within], [within.mean()]])
        colour = COLOURS[index % len(COLOURS)]
        axes.step(x, y, where="post", color=colour, label=f"{name} ({len(errors)})")
    for limit in curves.limits:
        axes.axvline(limit, color="0.6", linewidth=0.7, linestyle=":")
    axes.set(
        xlim=(0.0, curves.right), ylim=(0.0, 1.02), xlabel=curves.label, ylabel="share of instances"
    )
    axes.legend(loc="lower right")
    save_figure(figure, path)


@styled
def draw_grid(pictures: Sequence[Picture], path: Path) -> None:
    """Draw two pictures per estimate, one above the other, with its caption."""
    rows = -(-len(pictures) // _COLUMNS)
    figure = Figure(figsize=(1.3 * _COLUMNS, 3.05 * rows), layout="constrained")
    panels = figure.subplots(2 * rows, _COLUMNS, squeeze=False)
    for axes in panels.ravel():
        axes.set_axis_off()
    for index, picture in enumerate(pictures):
        row, column = divmod(index, _COLUMNS)
        panels[2 * row, column].imshow(picture.crop)
        panels[2 * row, column].set_title(picture.caption, fontsize=6, pad=2)
        panels[2 * row + 1, column].imshow(picture.drawn)
    save_figure(figure, path)


@styled
def draw_tables(tables: Sequence[ReportTable], path: Path) -> None:
    """Draw all tables below one another."""
    heights = [len(table.rows) + 3.2 for table in tables]
    figure = Figure(figsize=(8.2, 0.19 * sum(heights)), layout="constrained")
    panels = figure.subplots(len(tables), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes, table in zip(panels, tables, strict=True):
        axes.set_axis_off()
        axes.set_title(table.title, loc="left", fontweight="bold")
        drawn = axes.table(
            cellText=[[cell(text) for text in row] for row in table.rows],
            colLabels=list(table.head),
            colWidths=_widths(table),
            cellLoc="right",
            loc="upper center",
            edges="horizontal",
        )
        drawn.auto_set_font_size(False)
        drawn.set_fontsize(7)
        for (row, column), place in drawn.get_celld().items():
            place.set_linewidth(0.4)
            if column == 0:
                place.set_text_props(horizontalalignment="left")
            if row == 0 or is_ours(table.rows[row - 1]):
                place.set_text_props(fontweight="bold")
    save_figure(figure, path)


def _widths(table: ReportTable) -> list[float]:
    """Widths of the columns as shares of the page, by their longest text."""
    lengths = [
        max(len(str(row[i])) for row in (table.head, *table.rows)) + 3
        for i in range(len(table.head))
    ]
    whole = max(sum(lengths), 70)
    return [length / whole for length in lengths]


def _html_table(table: ReportTable) -> str:
    head = "".join(f"<th>{escape(text)}</th>" for text in table.head)
    body = "".join(
        f"<tr{' class=ours' if is_ours(row) else ''}>"
        + "".join(f"<td>{escape(cell(text))}</td>" for text in row)
        + "</tr>"
        for row in table.rows
    )
    return (
        f"<h2>{escape(table.title)}</h2><p class=lead>{escape(table.note)}</p><div class=wide>"
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )
