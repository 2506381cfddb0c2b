"""Parts of the report of an evaluation on a data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from numpy.typing import ArrayLike

from crisp_ros.reports.estimate_pictures import Picture


class ReportTable(NamedTuple):
    """head: of the columns. rows: cells of text; a row whose first begins with "*" is ours."""

    title: str
    note: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


class Curves(NamedTuple):
    """Cumulative distributions. values: by name, infinite ones stay below 1; in units of `unit`.

    file: name of the PNG. limits: where dashed lines are drawn. right: end of the axis.
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
    """Content of the report of an evaluation; texts are plain."""

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
