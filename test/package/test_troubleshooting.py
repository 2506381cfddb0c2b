"""The page of symptoms quotes what the node says, and names every status of its diagnostics."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text()
ROWS = [line for line in PAGE.splitlines() if line.startswith("|")]
SAID = [row.split("|")[2] for row in ROWS]
QUOTES = sorted({text for said in SAID for text in re.findall(r'"([^"]+)"', said)})
EXAMPLE = re.compile(r"q98 13 mm > 10 mm")


def texts(node: ast.AST) -> Iterator[str]:
    """Strings of a module; an f-string is one, with a blank in the place of each value."""
    for child in ast.walk(node):
        if isinstance(child, ast.JoinedStr):
            parts = (p.value if isinstance(p, ast.Constant) else "_" for p in child.values)
            yield "".join(map(str, parts))
        elif isinstance(child, ast.Constant) and isinstance(child.value, str):
            yield child.value


MODULES = [
    ast.parse(path.read_text())
    for path in (ROOT / "crisp_ros").rglob("*.py")
    if "_messages" not in path.parts
]
TEXTS = [text for module in MODULES for text in texts(module)]


@pytest.mark.parametrize("quote", [q for q in QUOTES if not EXAMPLE.fullmatch(q)])
def test_what_is_quoted_is_said(quote: str) -> None:
    assert any(quote in text for text in TEXTS)


def test_every_status_has_an_entry() -> None:
    source = "".join(path.read_text() for path in (ROOT / "crisp_ros" / "node").rglob("*.py"))
    names = re.findall(r'(?:updater|diagnostics)\.add\(f?"([^"{]+)', source)
    assert {"input ", "frames", "lifecycle", "self-training"} <= set(names) and len(names) > 12
    for name in names:
        assert f"*{name.strip()}" in PAGE
