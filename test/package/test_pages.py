"""The documentation pages: links, paths, modules, commands and options exist."""

from __future__ import annotations

import argparse
import ast
import json
import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from crisp_ros.cli.main import _parser

ROOT = Path(__file__).parents[2]
READMES = [ROOT / folder / "README.md" for folder in ("", "models", "stand_ins")]
PAGES = [*READMES, *sorted((ROOT / "docs").glob("*.md"))]
TEXTS = {page: page.read_text() for page in PAGES}
EVERYTHING = "\n".join(TEXTS.values())


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings}


def commands(program: str) -> Iterator[list[str]]:
    """Yield the words of each command line in code, without comments and brackets."""
    joined = EVERYTHING.replace("\\\n", " ")
    for line in re.findall(rf"(?:^ *|`){program} ([^`\n]+)", joined, re.MULTILINE):
        yield re.sub(r"[\[\]]| #.*| {3,}.*", " ", re.sub(r" {2,}(?=--|\w+:=)", " ", line)).split()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_and_headings(page: Path) -> None:
    for link in re.findall(r"\]\(((?!https?:)[^)]+)\)", TEXTS[page]):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_named_files_and_modules_exist(page: Path) -> None:
    kinds = "json|md|py|rviz|safetensors|toml|xml|yaml"
    folders = "config|crisp_ros|docker|docs|launch|models|recordings|scripts|stand_ins|test"
    named = rf"(?<![\w/.~-])(?:[\w/]+/\w+\.py|(?:{folders})/[\w/.-]+\.(?:{kinds})|scripts/[\w-]+)\b"
    for path in re.findall(named, TEXTS[page]):
        places = (ROOT / path, ROOT / "crisp_ros" / path, ROOT / "test" / path)
        assert any(place.exists() for place in places), path
    for module in re.findall(r"-m (crisp_ros[\w.]+)", TEXTS[page]):
        assert find_spec(module) is not None, module


def test_every_picture_and_every_result_is_on_a_page() -> None:
    docs = ROOT / "docs"
    files = [p for p in docs.rglob("*") if p.suffix in (".png", ".jpg", ".svg", ".json")]
    assert len(files) > 15 and [f.name for f in files if f.name not in EVERYTHING] == []


@pytest.mark.parametrize(
    "path", sorted((ROOT / "docs" / "results").glob("*.json")), ids=lambda p: p.stem
)
def test_results_carry_command_and_machine(path: Path) -> None:
    found = set(_keys(json.loads(path.read_text())))
    assert "machine" in found and found & {"command", "commands"}


def _keys(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        yield from (key for key, inner in value.items() if inner)
    for inner in (
        value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    ):
        yield from _keys(inner)


def innermost(
    parser: argparse.ArgumentParser, words: list[str]
) -> tuple[argparse.ArgumentParser, list[str]]:
    """Return the parser of the subcommand in words, and its remaining words."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction) and words and words[0][0] != "-":
            return innermost(action.choices[words[0]], words[1:])
    return parser, words


def test_crisp_has_the_commands_and_options_of_the_pages() -> None:
    found = 0
    for words in commands("crisp"):
        parser, left = innermost(_parser(words[0]), words)
        options = {word.partition("=")[0] for word in left if word.startswith("-")}
        assert options <= set(parser._option_string_actions), words
        found += len(options)
    assert found > 40


def test_launch_files_have_the_arguments_of_the_pages() -> None:
    found = 0
    for file, *words in commands("ros2 launch crisp_ros"):
        source = (ROOT / "launch" / file).read_text()
        literals = {n.value for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Constant)}
        given = [word.partition(":=")[0] for word in words if ":=" in word]
        assert set(given) <= literals, (file, given)
        found += len(given)
    assert found > 5


def test_the_example_of_the_readme_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", TEXTS[READMES[0]], re.DOTALL)
    labels = np.zeros((480, 640), np.int32)
    labels[200:280, 280:360] = 7
    depth = np.where(labels > 0, 0.6, 1.5).astype(np.float32)
    values = {"rgb": np.full((480, 640, 3), 128, np.uint8), "depth": depth, "labels": labels}
    exec(example, values)
    assert capsys.readouterr().out.startswith("7 [[")
    assert values["mesh"].vertices.shape[1] == 3 and values["mesh"].faces.shape[1] == 3


def test_the_training_ablation_on_its_page_matches_the_results() -> None:
    results = [
        json.loads((ROOT / "docs" / "results" / f"ablation_training{seed}.json").read_text())
        for seed in ("", "_seed_6")
    ]
    page, place = TEXTS[ROOT / "docs" / "training.md"], 0
    for row, other in zip(*(result["rows"] for result in results), strict=True):
        cells = [row["name"]]
        for one in (row, other):
            cells += [_curve(one["auc_add_s"]), f"{one['certified_share']:.0%}".replace("%", " %")]
        cells.insert(3, _curve(row["auc_e_shape"]))
        place = page.index(f" | {' | '.join(cells)} | {row['paper']} |", place) + 1
    assert f"{results[0]['rows'][0]['instances']} objects in {results[0]['images']} " in page


def _curve(areas: dict[str, float]) -> str:
    return " / ".join(f"{value:.2f}" for value in areas.values())
