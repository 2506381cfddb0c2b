"""RVL, the codec of compressedDepth for fast streams: runs of zeros, and differences of the rest.

Wilson, "Fast Lossless Depth Image Compression", 2017: numbers are stored in nibbles of three bits,
lowest first, whose fourth bit says that another one follows; eight nibbles make a word, the first
in its highest bits.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_SIZES = 8  # bytes: columns and rows, which compressedDepth puts first
_MOST_PIXELS = 100_000_000
_LONGEST = 11  # nibbles of a number below 2^32


class RvlError(ValueError):
    """Data that are no whole RVL image."""


def decode_rvl(data: bytes | NDArray[np.uint8]) -> NDArray[np.uint16]:
    """Decode an image (H, W) as compressedDepth stores it: columns, rows, then the RVL stream.

    Raises:
        RvlError: broken off, or of another size than it says.
    """
    stream = np.frombuffer(data, np.uint8)
    if len(stream) < _SIZES:
        raise RvlError(f"{len(stream)} bytes: too few for the size of the image")
    width, height = (int(n) for n in np.frombuffer(stream[:_SIZES], "<u4"))
    body = stream[_SIZES:]
    numbers = _numbers(body[: len(body) // 4 * 4])
    if not 0 < width * height <= _MOST_PIXELS:
        raise RvlError(f"an image of {width} x {height} pixels")
    return _pixels(numbers, width * height).reshape(height, width)


def _numbers(body: NDArray[np.uint8]) -> NDArray[np.int64]:
    """All numbers of the stream, in its order."""
    words = np.frombuffer(body.tobytes(), "<u4").astype(np.uint32)
    shifts = np.arange(28, -4, -4, dtype=np.uint32)
    nibbles = ((words[:, None] >> shifts) & 0xF).astype(np.int64).ravel()
    ends = np.flatnonzero(nibbles < 8)
    if len(ends) == 0:
        return np.zeros(0, np.int64)
    starts = np.concatenate([[0], ends[:-1] + 1])
    nibbles = nibbles[: ends[-1] + 1]
    place = np.arange(len(nibbles)) - np.repeat(starts, ends - starts + 1)
    return np.add.reduceat((nibbles & 7) << (3 * np.minimum(place, _LONGEST)), starts)


def _pixels(numbers: NDArray[np.int64], count: int) -> NDArray[np.uint16]:
    """The pixels (count,) of runs of zeros and of differences to the last one that was not 0."""
    pixels = np.zeros(count, np.uint16)
    places, differences = [], []
    at, index = 0, 0
    while at < count:
        if index + 2 > len(numbers):
            raise RvlError(f"broken off after {at} of {count} pixels")
        at += int(numbers[index])
        run = int(numbers[index + 1])
        index += 2
        if at + run > count or index + run > len(numbers):
            raise RvlError(f"broken off after {at} of {count} pixels")
        places.append(np.arange(at, at + run))
        differences.append(numbers[index : index + run])
        at, index = at + run, index + run
    if places:
        stored = np.concatenate(differences)
        signed = (stored >> 1) ^ -(stored & 1)
        values = np.cumsum(signed)
        if len(values) and not (0 <= values.min() and values.max() <= 65535):
            raise RvlError("a depth that 16 bits do not hold")
        pixels[np.concatenate(places)] = values
    return pixels
