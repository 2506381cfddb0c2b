"""The page of demands names code and tests that exist."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "demands.md").read_text()


def test_every_named_test_is_there() -> None:
    named = re.findall(r"`(\S+\.py)::(\w+)`", PAGE)
    assert len(named) > 40
    for file, test in named:
        assert f"def {test}(" in (ROOT / "test" / file).read_text(), f"{file} has no {test}"


def test_every_named_file_is_there() -> None:
    paths = re.findall(r"`((?:crisp_ros|scripts|models)/\S+)`|\]\((\w+\.md)\)", PAGE)
    files = {ROOT / code if code else ROOT / "docs" / page for code, page in paths}
    assert len(files) > 15 and [f for f in files if not f.exists()] == []


def test_one_licence_everywhere() -> None:
    manifest = ElementTree.parse(ROOT / "package.xml").getroot()
    licence = manifest.findtext("license")
    assert f'license = {{ text = "{licence}" }}' in (ROOT / "pyproject.toml").read_text()
    assert licence in (ROOT / "LICENSE").read_text()
