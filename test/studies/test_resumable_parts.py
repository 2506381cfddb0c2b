"""Parts of studies that are kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from crisp_ros.studies.resumable_parts import KeptParts


def never() -> None:
    raise AssertionError("the part is there")


def test_a_part_is_made_once(tmp_path: Path) -> None:
    first = KeptParts(tmp_path / "parts", ("model", 1))
    assert first.part("a", lambda: {"x": (1, 2)}) == {"x": [1, 2]}
    assert KeptParts(tmp_path / "parts", ("model", 1)).part("a", never) == {"x": [1, 2]}
    assert first.part("b", lambda: 3) == 3


def test_parts_made_from_something_else_are_made_again(tmp_path: Path) -> None:
    KeptParts(tmp_path, "old").part("a", lambda: 1)
    assert KeptParts(tmp_path, "new").part("a", lambda: 2) == 2


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"made_from": 3}', "\x00"])
def test_a_broken_file_is_made_again(tmp_path: Path, content: str) -> None:
    kept = KeptParts(tmp_path, "model")
    kept.part("a", lambda: 1)
    (tmp_path / "a.json").write_text(content)
    assert kept.part("a", lambda: 5) == 5
    assert kept.part("a", never) == 5


def test_a_part_that_fails_leaves_nothing(tmp_path: Path) -> None:
    kept = KeptParts(tmp_path, "model")
    with pytest.raises(ZeroDivisionError):
        kept.part("a", lambda: 1 / 0)
    assert kept.part("a", lambda: 7) == 7
