"""The page of inputs names what the code takes, and quotes what it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from crisp_ros.data.image_encodings import COLOUR, DEPTH, LABELS
from crisp_ros.data.mesh_readers import CONVERTIBLE, READABLE
from crisp_ros.geometry.rectification import COEFFICIENTS

from .test_troubleshooting import TEXTS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "inputs.md").read_text()
SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))


def rows(section: str) -> list[list[str]]:
    """Cells of the rows of a section's tables."""
    lines = (line for line in SECTIONS[section].splitlines() if line.startswith("|"))
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def code(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_every_encoding_is_taken_as_the_page_says() -> None:
    seen = set()
    for cells in rows("Raw images"):
        for encoding in code(cells[0]):
            seen.add(encoding)
            for cell, known in zip(cells[1:], (COLOUR, DEPTH, LABELS), strict=True):
                assert (encoding in known) != cell.startswith("refused"), (encoding, cell)
    assert seen == {*COLOUR, *DEPTH, *LABELS}


def test_every_distortion_has_its_numbers_of_coefficients() -> None:
    stated = {}
    for cells in rows("Calibrations"):
        if match := re.match(r"`(\w+)`, ([\d, or]+) coefficients", cells[0]):
            stated[match[1]] = tuple(map(int, re.findall(r"\d+", match[2])))
    assert stated == COEFFICIENTS


def test_every_mesh_format_is_named() -> None:
    taken, refused = set(), set()
    for cells in rows("Meshes"):
        formats = {name for name in code(cells[0]) if name.startswith(".")}
        (refused if cells[1].startswith("refused") else taken).update(formats)
    assert taken == set(READABLE) and refused == set(CONVERTIBLE)


@pytest.mark.parametrize("quote", sorted(set(re.findall(r'"([^"]+)"', PAGE))))
def test_what_is_quoted_is_said(quote: str) -> None:
    assert any(quote in text for text in TEXTS)


def test_every_section_names_tests() -> None:
    assert len(SECTIONS) >= 7
    for title, text in SECTIONS.items():
        assert re.search(r"test/\w+/(?:\w+/)?test_\w+\.py", text), title
