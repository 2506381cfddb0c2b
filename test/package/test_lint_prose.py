"""The prose linter: it finds what it is for, names the line, and accepts plain text."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "lint-prose"


def lint(path: Path, text: str) -> tuple[int, list[str]]:
    path.write_text(text)
    run = subprocess.run([sys.executable, SCRIPT, path], capture_output=True, text=True)
    assert run.stderr == ""
    return run.returncode, run.stdout.splitlines()


@pytest.mark.parametrize(
    "text, finding",
    [
        ("A node\nis told the time.\n", ":2: 'told'"),
        ("told_twice: true\n", ":1: 'told'"),
        ("The shape would\nelse be fitted.\n", ":1: 'would else'"),
        ("# every so\n# manieth point\n", ":1: 'so manieth'"),
        ("Beside the point.\n", ":1: 'Beside'"),
    ],
)
def test_words_are_found_with_their_line(text: str, finding: str, tmp_path: Path) -> None:
    code, found = lint(tmp_path / "page.md", text)
    assert code == 1 and len(found) == 1 and finding in found[0]


@pytest.mark.parametrize(
    "text, finding",
    [
        ('"""What is left."""\n', ":1: docstring of module"),
        ('def f() -> None:\n    """Of a part."""\n', ":1: docstring of f"),
        ('def f() -> None:\n    """Returns nothing."""\n', ":1: docstring of f"),
        (f"def test_{'x' * 56}() -> None: ...\n", "has 61 characters"),
    ],
)
def test_docstrings_and_test_names_are_checked(text: str, finding: str, tmp_path: Path) -> None:
    code, found = lint(tmp_path / "module.py", text)
    assert code == 1 and len(found) == 1 and finding in found[0]


def test_plain_text_is_accepted(tmp_path: Path) -> None:
    text = f'"""Besides, a folder of stones."""\n\ndef test_{"x" * 55}():\n    """Return it."""\n'
    assert lint(tmp_path / "module.py", text) == (0, [])
    assert lint(tmp_path / "class.py", 'class A:\n    """Runs of a model."""\n') == (0, [])
