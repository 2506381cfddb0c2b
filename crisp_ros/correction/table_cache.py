"""Shape tables kept on disk from one start to the next, by what they were made from."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from crisp_ros.correction.shape_table import SCHEME, TRIPLES, ShapeTable
from crisp_ros.data.atomic_file import write_atomically
from crisp_ros.network.checkpoint import digest
from crisp_ros.network.decoder import ShapeDecoder

_log = logging.getLogger(__name__)

_LARGEST_BYTES = 512 * 2**20  # of all tables together; about 600 of the YCB-Video shapes


def user_cache_folder() -> Path | None:
    """The folder for shape tables under $XDG_CACHE_HOME or ~/.cache; None without a home."""
    try:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:
        return None
    return base / "crisp_ros" / "shape_tables" if base.is_absolute() else None


def decoder_checksum(decoder: ShapeDecoder) -> str:
    """SHA-256 of a decoder's weights."""
    return digest("", {name: value.cpu() for name, value in decoder.state_dict().items()})


def table_key(checksum: str, code: Tensor, lower: Tensor, upper: Tensor) -> str:
    """The name of a shape's table: a checksum of everything that it is made from.

    Args:
        checksum: of the decoder, see `decoder_checksum`.
        code: (C,).
        lower, upper: (3,) corners of the shape's box.
    """
    parts = {"code": code.cpu(), "lower": lower.cpu(), "upper": upper.cpu()}
    return digest(f"shape table {SCHEME}\n{checksum}", parts)[:40]


class TableCache:
    """A folder of shape tables, bounded in size; several processes may use it at once.

    A file that is damaged counts as missing. A folder that cannot be written is reported once, and
    nothing is kept.
    """

    def __init__(self, folder: Path, largest_bytes: int = _LARGEST_BYTES) -> None:
        """Use a folder, which is made when the first table is saved.

        Args:
            folder: of the tables.
            largest_bytes: of all tables; beyond it the least recently used ones are deleted.
        """
        self._folder, self._largest_bytes = folder, largest_bytes
        self._writable = True

    def load(self, key: str) -> ShapeTable | None:
        """The table of a key, on the CPU; None where there is none, or it is damaged."""
        path = self._path(key)
        try:
            with safe_open(path, "pt") as file:
                checksum = (file.metadata() or {}).get("sha256")
                parts = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except FileNotFoundError:
            return None
        except (OSError, SafetensorError) as error:
            _log.warning("shape table %s cannot be read and is made again: %s", path, error)
            return None
        if digest(key, parts) != checksum or not _is_complete(parts):
            _log.warning("shape table %s is damaged and is made again", path)
            return None
        try:
            os.utime(path)  # the order in which tables are deleted
        except OSError:
            pass  # a folder that can only be read
        return ShapeTable(**parts)

    def save(self, key: str, table: ShapeTable) -> None:
        """Write a table; beyond `largest_bytes`, delete the least recently used ones."""
        if not self._writable:
            return
        parts = {name: value.cpu().contiguous() for name, value in table._asdict().items()}
        contents = safetensors.torch.save(parts, {"sha256": digest(key, parts)})
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._delete_oldest(len(contents))
            write_atomically(self._path(key), contents)
        except OSError as error:
            self._writable = False
            _log.warning(
                "shape tables are not kept in %s, and are made again at the next start: %s",
                self._folder,
                error,
            )

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.safetensors"

    def _delete_oldest(self, room: int) -> None:
        """Delete the least recently used tables until `room` bytes more fit."""
        found = []
        for path in self._folder.glob("*.safetensors"):
            try:
                status = path.stat()
            except FileNotFoundError:
                continue  # another process deletes too
            found.append((status.st_mtime_ns, status.st_size, path))
        total = room + sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            if total <= self._largest_bytes:
                return
            path.unlink(missing_ok=True)
            total -= size


def _is_complete(parts: dict[str, Tensor]) -> bool:
    """Test whether tensors are the parts of a `ShapeTable`."""
    if set(parts) != set(ShapeTable._fields):
        return False
    count = len(parts["level"])
    wanted = {
        "frame": (torch.float32, (4,)),
        "roots": (torch.int64, (3,)),
        "level": (torch.uint8, (count,)),
        "cell": (torch.int16, (count, 3)),
        "entries": (torch.half, (count, len(TRIPLES))),
    }
    return all(parts[n].dtype == d and tuple(parts[n].shape) == s for n, (d, s) in wanted.items())
