"""Shape tables on disk: kept, checked, bounded, and never in the way."""

import errno
import logging
import os
from pathlib import Path

import pytest
import torch
from known import Known

from crisp_ros.correction import table_cache
from crisp_ros.correction.shape_table import ShapeTable, tabulate
from crisp_ros.correction.table_cache import (
    TableCache,
    decoder_checksum,
    table_key,
    user_cache_folder,
)
from crisp_ros.network.decoder import ShapeDecoder

KEY = "a" * 40


@pytest.fixture(scope="module")
def table(known: Known) -> ShapeTable:
    library = known.library
    return tabulate(known.decoder, library.codes[0], library.lower[0], library.upper[0])


def assert_equal(found: ShapeTable | None, table: ShapeTable) -> None:
    assert found is not None
    for part, expected in zip(found, table, strict=True):
        assert part.dtype == expected.dtype
        assert torch.equal(part, expected)


def test_what_was_saved_is_loaded(table: ShapeTable, tmp_path: Path) -> None:
    cache = TableCache(tmp_path / "new" / "folder")
    assert cache.load(KEY) is None
    cache.save(KEY, table)
    assert_equal(cache.load(KEY), table)
    assert_equal(TableCache(tmp_path / "new" / "folder").load(KEY), table)
    assert cache.load("b" * 40) is None
    cache.save("b" * 40, table.without_leaves())
    assert_equal(cache.load("b" * 40), table.without_leaves())
    assert len(list((tmp_path / "new" / "folder").iterdir())) == 2


def the_file(folder: Path) -> Path:
    (path,) = folder.glob("*.safetensors")
    return path


@pytest.mark.parametrize("how", ["truncated", "flipped", "empty", "other", "renamed"])
def test_a_damaged_file_is_made_again(
    how: str, table: ShapeTable, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache, key = TableCache(tmp_path), KEY
    cache.save(key, table)
    path = the_file(tmp_path)
    contents = path.read_bytes()
    if how == "renamed":
        key = "c" * 40
        path.rename(path.with_stem(key))
    else:
        path.write_bytes(
            {
                "truncated": contents[:-100],
                "flipped": contents[:-5000] + bytes([contents[-5000] ^ 1]) + contents[-4999:],
                "empty": b"",
                "other": b"something else" * 100,
            }[how]
        )
    with caplog.at_level(logging.WARNING):
        assert cache.load(key) is None
    assert "made again" in caplog.text
    cache.save(key, table)
    assert_equal(cache.load(key), table)


def test_tensors_of_another_kind(table: ShapeTable, tmp_path: Path) -> None:
    """A file with a valid checksum, but of another program version."""
    cache = TableCache(tmp_path)
    for wrong in (
        table._replace(entries=table.entries.float()),
        table._replace(cell=table.cell[:-1]),
        table._replace(frame=table.frame[:3]),
    ):
        cache.save(KEY, wrong)
        assert cache.load(KEY) is None


@pytest.mark.parametrize("cause", ["no folder", "full"])
def test_a_folder_that_cannot_be_written(
    cause: str, table: ShapeTable, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch
) -> None:
    """Reported once, and tried no more."""
    folder = tmp_path / "file"
    if cause == "no folder":
        folder.write_text("not a folder")
    else:

        def full(path: Path, contents: bytes) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(table_cache, "write_atomically", full)
    cache = TableCache(folder)
    with caplog.at_level(logging.WARNING):
        for key in (KEY, "b" * 40, "c" * 40):
            assert cache.load(key) is None
            cache.save(key, table)
    written = [record for record in caplog.records if "not kept" in record.message]
    assert len(written) == 1
    assert str(folder) in written[0].message


def test_the_oldest_tables_give_way(table: ShapeTable, tmp_path: Path) -> None:
    TableCache(tmp_path).save(KEY, table)
    size = the_file(tmp_path).stat().st_size
    cache = TableCache(tmp_path, largest_bytes=int(3.5 * size))
    keys = [letter * 40 for letter in "abcde"]
    for age, key in enumerate(keys[:3]):
        cache.save(key, table)
        os.utime(tmp_path / f"{key}.safetensors", (1e9 + age, 1e9 + age))
    assert_equal(cache.load(keys[0]), table)  # now used last
    cache.save(keys[3], table)
    cache.save(keys[4], table)
    left = {path.stem for path in tmp_path.iterdir()}
    assert left == {keys[0], keys[3], keys[4]}


def test_the_key_names_everything_a_table_is_made_from(known: Known, monkeypatch) -> None:
    library, other = known.library, ShapeDecoder(hidden=known.decoder.hidden)
    shape = library.codes[0], library.lower[0], library.upper[0]
    checksum = decoder_checksum(known.decoder)
    keys = [
        table_key(checksum, *shape),
        table_key(decoder_checksum(other), *shape),
        table_key(checksum, shape[0] + 1e-6, *shape[1:]),
        table_key(checksum, shape[0], shape[1] - 1e-6, shape[2]),
        table_key(checksum, *shape[:2], shape[2] + 1e-6),
    ]
    assert keys[0] == table_key(decoder_checksum(known.decoder), *(part.clone() for part in shape))
    monkeypatch.setattr(table_cache, "SCHEME", -1)
    keys.append(table_key(checksum, *shape))
    assert len(set(keys)) == 6


def test_the_users_cache_folder(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert user_cache_folder() == tmp_path / "crisp_ros" / "shape_tables"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert user_cache_folder() == Path("/home/somebody/.cache/crisp_ros/shape_tables")
    monkeypatch.setenv("XDG_CACHE_HOME", "not/absolute")
    assert user_cache_folder() is None


def test_the_users_cache_folder_without_a_home(monkeypatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    assert user_cache_folder() is None
