"""Parts of the report of an evaluation on a data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from numpy.typing import ArrayLike

from crisp_ros.reports.estimate_pictures import Picture


class ReportTable(NamedTuple):
    """A table of text.

    Attributes:
        title: above the table.
        note: below it.
        head: of the columns.
        rows: cells; a "*" at the beginning of the first cell marks our own results.
    """

    title: str
    note: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


class Curves(NamedTuple):
    """Cumulative distributions of errors.

    Attributes:
        file: name of the PNG.
        title: of the figure.
        note: on the figure.
        label: of the x axis, with the unit.
        values: errors by name; infinite ones keep a curve below 1.
        right: end of the x axis.
        limits: positions of dashed lines.
    """

    file: str
    title: str
    note: str
    label: str
    values: Mapping[str, ArrayLike]
    right: float
    limits: Sequence[float] = ()


@dataclass(frozen=True)
class DataReport:
    """Content of the report of an evaluation; texts are plain.

    Attributes:
        title: of the page.
        lead: first paragraph.
        tables: in their order.
        curves: in their order.
        pictures: examples.
        figures: all values, as JSON values.
    """

    title: str
    lead: str
    tables: Sequence[ReportTable]
    curves: Sequence[Curves]
    pictures: Sequence[Picture]
    figures: Mapping[str, Any] = field(default_factory=dict)


def is_ours(row: Sequence[str]) -> bool:
    """Whether a row of a table was measured here."""
    return row[0].startswith("*")


def cell(text: str) -> str:
    """The text of a cell without the mark of our rows."""
    return text.removeprefix("*")
