"""MCAP files as other programs write them: with or without an index, compressed, broken off."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import lz4.frame
from backports import zstd

MAGIC = b"\x89MCAP0\r\n"
_COMPRESS = {"": bytes, "lz4": lz4.frame.compress, "zstd": zstd.compress}


class Stored(NamedTuple):
    """A serialised message."""

    topic: str
    kind: str
    time_ns: int
    data: bytes


def write_mcap(
    path: Path,
    messages: Sequence[Stored],
    compression: str = "",
    indexed: bool = True,
    per_chunk: int = 4,
    damaged_chunk: int | None = None,
    profile: str = "ros2",
    message_encoding: str = "cdr",
) -> Path:
    """Write messages in chunks; a damaged chunk has another byte in its middle."""
    topics = list(dict.fromkeys((m.topic, m.kind) for m in messages))
    numbers = {topic: i + 1 for i, (topic, _) in enumerate(topics)}
    declared = b"".join(
        _record(3, struct.pack("<H", i) + _text(kind) + _text("ros2msg") + _text(""))
        + _record(4, struct.pack("<HH", i, i) + _text(topic) + _text(message_encoding) + _text(""))
        for i, (topic, kind) in enumerate(topics, start=1)
    )
    content = bytearray(MAGIC + _record(1, _text(profile) + _text("test")) + declared)
    chunk_indices = []
    for first in range(0, len(messages), per_chunk):
        part = messages[first : first + per_chunk]
        damaged = damaged_chunk == first // per_chunk
        chunk, index = _chunk(part, numbers, compression, damaged, len(content))
        content += chunk
        chunk_indices.append(index)
    content += _record(15, struct.pack("<I", 0))
    summary = len(content) if indexed else 0
    if indexed:
        content += (
            declared + b"".join(chunk_indices) + _statistics(messages, numbers, chunk_indices)
        )
    content += _record(2, struct.pack("<QQI", summary, 0, 0)) + MAGIC
    path.write_bytes(content)
    return path


def _chunk(
    messages: Sequence[Stored],
    numbers: dict[str, int],
    compression: str,
    damaged: bool,
    offset: int,
) -> tuple[bytes, bytes]:
    """A chunk with the indices of its messages, and its record in the index of chunks."""
    records, places = b"", {}
    for m in messages:
        number = numbers[m.topic]
        places.setdefault(number, []).append((m.time_ns, len(records)))
        head = struct.pack("<HIQQ", number, 0, m.time_ns, m.time_ns)
        records += _record(5, head + m.data)
    times = [m.time_ns for m in messages]
    stored = bytearray(_COMPRESS[compression](records))
    if damaged:
        stored[len(stored) // 2] ^= 0xFF
    head = struct.pack("<QQQI", min(times), max(times), len(records), zlib.crc32(records))
    body = head + _text(compression) + struct.pack("<Q", len(stored)) + bytes(stored)
    chunk = _record(6, body)
    index, offsets = b"", b""
    for number, entries in places.items():
        offsets += struct.pack("<HQ", number, offset + len(chunk) + len(index))
        rows = b"".join(struct.pack("<QQ", *entry) for entry in entries)
        index += _record(7, struct.pack("<HI", number, len(rows)) + rows)
    summary = struct.pack("<QQQQ", min(times), max(times), offset, len(chunk))
    summary += struct.pack("<I", len(offsets)) + offsets + struct.pack("<Q", len(index))
    summary += _text(compression) + struct.pack("<QQ", len(stored), len(records))
    return chunk + index, _record(8, summary)


def _statistics(
    messages: Sequence[Stored], numbers: dict[str, int], chunks: Sequence[Any]
) -> bytes:
    times = [m.time_ns for m in messages]
    counts = b"".join(
        struct.pack("<HQ", number, sum(m.topic == topic for m in messages))
        for topic, number in numbers.items()
    )
    sizes = (len(messages), len(numbers), len(numbers), 0, 0, len(chunks), min(times), max(times))
    return _record(11, struct.pack("<QHIIIIQQI", *sizes, len(counts)) + counts)


def _record(kind: int, body: bytes) -> bytes:
    return struct.pack("<BQ", kind, len(body)) + body


def _text(text: str) -> bytes:
    return struct.pack("<I", len(text)) + text.encode()
