"""The page about a self-training: curves and tables before and after."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

import numpy as np

from crisp_ros.evaluation.self_training_comparison import CHAMFER_M, Comparison, Results
from crisp_ros.reports.number_text import number
from crisp_ros.reports.svg_charts import Axis, Mark, legend, line_chart

_PAGE_STYLE = Path(__file__).parent / "page" / "page.css"
_STYLE = (
    "tr:first-child th[colspan]{text-align:center}td:last-child,"
    "th:last-child{text-align:right}.better{color:var(--good)}.worse{color:#c8506d}"
    "tr.all td{font-weight:650}.charts{margin-top:12px}"
)


def self_training_page(
    title: str, lead: str, footer: str, compared: Comparison, held_out: Mapping[str, Comparison]
) -> str:
    """Write an HTML page of figures, curves and a table by object, in a single file.

    Args:
        compared: on the frames that were learned from.
        held_out: on others, by name.
    """
    before, after = compared
    rows = {"all": compared} | {name: compared.of(name) for name in before.names}
    charts = []
    for name, limit, values in (
        ("ADD-S", 0.03, lambda r: [o.add_s_m for o in r.objects]),
        ("Chamfer distance", CHAMFER_M, lambda r: [o.chamfer_m for o in r.objects]),
    ):
        curves = {"before": values(before), "after": values(after)}
        if not any(math.isnan(v) for curve in curves.values() for v in curve):
            charts.append(_distribution(name, limit, curves))
    parts = [f'<h1>{escape(title)}</h1><p class="lead">{escape(lead)}</p>']
    if charts:
        parts.append(f'<div class="charts">{"".join(charts)}</div>')
    parts += ["<h2>Frames that were learned from</h2>", _table(rows)]
    if held_out:
        parts += ["<h2>Other frames</h2>", _table(held_out)]
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{escape(title)}</title><style>{_PAGE_STYLE.read_text()}{_STYLE}</style>"
        f"<main>{''.join(parts)}<footer>{escape(footer)}</footer></main></html>"
    )


def _distribution(name: str, limit: float, curves: Mapping[str, Sequence[float]]) -> str:
    x = Axis(0.0, 1e3 * limit, f"{name} (mm)")
    y = Axis(0.0, 1.0, "share of objects within")
    steps = np.linspace(0.0, limit, 121)
    series = {
        label: [Mark(1e3 * s, float(np.mean(np.asarray(values) <= s))) for s in steps]
        for label, values in curves.items()
    }
    chart = line_chart(series, x, y, dots=False)
    return f"<figure><figcaption>{name}</figcaption>{legend(list(series))}{chart}</figure>"


def _table(rows: Mapping[str, Comparison]) -> str:
    head = "<tr><th><th><th colspan=3>ADD-S AUC (2 cm), %<th colspan=3>certified, %</tr>"
    head += "<tr><th><th>seen" + "<th>before<th>after<th>change" * 2 + "</tr>"
    body = "".join(_row(name, *row) for name, row in rows.items())
    return f'<div class="wide"><table>{head}{body}</table></div>'


def _row(name: str, before: Results, after: Results) -> str:
    cells = [f"<td>{escape(name)}<td>{len(before.objects)}"]
    for then, now in (
        (before.auc_add_s, after.auc_add_s),
        (before.certified_share, after.certified_share),
    ):
        change = now - then
        kind = "better" if change > 0.005 else "worse" if change < -0.005 else ""
        change_text = f"{100 * change:+.1f}" if math.isfinite(change) else ""
        cells.append(
            f'<td>{number(100 * then)}<td>{number(100 * now)}<td class="{kind}">{change_text}'
        )
    mark = ' class="all"' if name == "all" else ""
    return f"<tr{mark}>{''.join(cells)}</tr>"
