"""docs/paper.md: the code, tests and commands that it names exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "paper.md").read_text()
ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in PAGE.splitlines()
    if line.startswith("| ") and "::" in line
]
WANTED = (
    *(f"({n})" for n in (5, 7, 9, 10, 12, 13, 20, 21, 22, 23, 24)),
    "Lemma 5",
    "Algorithm 1",
    "Algorithm 2",
    "Remark 3",
    *(f"Table {n}" for n in (8, 9, 10, 11, 12, 13, 14)),
    "Fig. 9",
    "Figs. 11, 12",
    "Fig. 14",
)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0][:40])
def test_named_code_and_tests_exist(row: list[str]) -> None:
    assert len(row) >= 4 or row[-1].endswith("|"), row
    for cell, folder in ((row[1], ROOT / "crisp_ros"), (row[2], ROOT / "test")):
        path, _, name = cell.strip("`").partition("::")
        text = (folder / path).read_text()
        assert re.search(rf"^(?:def|class) {name}\b", text, re.MULTILINE), cell


@pytest.mark.parametrize("name", WANTED)
def test_everything_of_the_paper_is_on_the_page(name: str) -> None:
    assert any(name in row[0] for row in ROWS), name
