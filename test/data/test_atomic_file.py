"""A file is the old one or the whole new one, and no temporary file remains."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from crisp_ros.data.atomic_file import atomic_file, write_atomically, write_json


def test_bytes_and_text_are_written(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"\0\1")
    assert path.read_bytes() == b"\0\1"
    write_atomically(path, "Größe\n")
    assert path.read_text(encoding="utf-8") == "Größe\n"
    (tmp_path / "other").touch()
    assert len({p.stat().st_mode for p in tmp_path.iterdir()}) == 1, "others may read it"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "other"]


def test_until_the_end_the_old_file_is_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with atomic_file(path) as file:
        file.write(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"


def test_a_failure_leaves_the_old_file_alone(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError, match="midway"), atomic_file(path) as file:
        file.write(b"half")
        raise RuntimeError("midway")

    def full_disk(descriptor: int) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="no space"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_what_killed_processes_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], stdout=-1)
    left = tmp_path / f".file.{int(ended.stdout)}-abc.tmp"
    mine = tmp_path / f".file.{os.getpid()}-abc.tmp"
    other = tmp_path / f".another.{int(ended.stdout)}-abc.tmp"
    for path in (left, mine, other):
        path.touch()
    write_atomically(tmp_path / "file", b"")
    assert not left.exists() and mine.exists() and other.exists()


def test_json_is_written_whole_into_new_folders(tmp_path: Path) -> None:
    path = tmp_path / "docs/results/figures.json"
    write_json(path, {"auc": 0.5})
    assert json.loads(path.read_text()) == {"auc": 0.5}
    with pytest.raises(ValueError):
        write_json(path, {"auc": math.inf})
    assert json.loads(path.read_text()) == {"auc": 0.5}
    assert [p.name for p in path.parent.iterdir()] == ["figures.json"]


def test_a_failed_json_write_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "taken.json").mkdir()
    with pytest.raises(OSError):
        write_json(tmp_path / "taken.json", {"auc": 0.5})
    assert [p.name for p in tmp_path.iterdir()] == ["taken.json"]
