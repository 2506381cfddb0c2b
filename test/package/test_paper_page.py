"""docs/paper.md: the code and tests that it names exist, and its commands are read."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from crisp_ros.cli.main import _parser

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "paper.md").read_text()
ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in PAGE.splitlines()
    if line.startswith("| ") and "::" in line
]
IN_SHELL = "\n".join(re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL))
COMMANDS = sorted(
    {*re.findall(r"`(crisp [^`]+)`", PAGE)}
    | {line for line in IN_SHELL.replace("\\\n", " ").splitlines() if line.startswith("crisp ")}
)
WANTED = (
    *(f"({n})" for n in (5, 7, 8, 9, 10, 11, 12, 13, 14, 19, 20, 21, 22, 23, 24)),
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


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_are_read(line: str, tmp_path: Path) -> None:
    """Each command line has all that its parser asks for, and nothing that it does not know."""
    words = [
        str(tmp_path / word) if word.isupper() or word.startswith("out/") else word
        for word in shlex.split(line)[1:]
    ]
    words = ["cpu" if word == "cuda" else word for word in words]  # there may be none here
    assert _parser(words[0]).parse_args(words).command == words[0]


def test_commands_are_found() -> None:
    assert len(COMMANDS) >= 20 and any("--backbone backbone.safetensors" in c for c in COMMANDS)
