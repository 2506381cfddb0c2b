"""Image messages, against one obvious loop over their bytes."""

from __future__ import annotations

import array
import struct

import numpy as np
import pytest
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from crisp_ros.node import images

HEIGHT, WIDTH, PADDING = 5, 7, 3

# Format of one channel for struct, and which channels are red, green and blue.
COLOUR = {"rgb8": "BBB", "bgr8": "BBB", "rgba8": "BBBB", "bgra8": "BBBB", "mono8": "B"}
RED_GREEN_BLUE = {
    "rgb8": (0, 1, 2),
    "bgr8": (2, 1, 0),
    "rgba8": (0, 1, 2),
    "bgra8": (2, 1, 0),
    "mono8": (0, 0, 0),
}


def message(encoding: str, pixel: str, bigendian: bool, values: list[tuple]) -> Image:
    """An image of the pixels `values`, row by row, with rubbish at the end of each row."""
    order = ">" if bigendian else "<"
    data = b""
    for row in range(HEIGHT):
        for column in range(WIDTH):
            data += struct.pack(order + pixel, *values[row * WIDTH + column])
        data += b"\xaa" * PADDING
    step = WIDTH * struct.calcsize(order + pixel) + PADDING
    result = Image(height=HEIGHT, width=WIDTH, encoding=encoding, step=step)
    result.is_bigendian = int(bigendian)
    result.data = array.array("B", data)
    return result


@pytest.mark.parametrize("encoding", COLOUR)
@pytest.mark.parametrize("bigendian", [False, True])
def test_rgb(encoding: str, bigendian: bool) -> None:
    channels = len(COLOUR[encoding])
    rng = np.random.default_rng(1)
    values = [tuple(rng.integers(0, 256, channels).tolist()) for _ in range(HEIGHT * WIDTH)]
    found = images.rgb(message(encoding, COLOUR[encoding], bigendian, values))
    assert found.dtype == np.uint8 and found.flags.c_contiguous
    for i, value in enumerate(values):
        expected = [value[c] for c in RED_GREEN_BLUE[encoding]]
        assert found[i // WIDTH, i % WIDTH].tolist() == expected


@pytest.mark.parametrize("bigendian", [False, True])
def test_depth_in_both_encodings_is_metres(bigendian: bool) -> None:
    millimetres = [(int(v),) for v in np.random.default_rng(2).integers(0, 65536, HEIGHT * WIDTH)]
    millimetres[:2] = [(0,), (65535,)]
    metres = [(v / 1000,) for (v,) in millimetres]
    expected = np.array(metres, np.float32).reshape(HEIGHT, WIDTH)
    for encoding, pixel, values in (("16UC1", "H", millimetres), ("32FC1", "f", metres)):
        found = images.depth_m(message(encoding, pixel, bigendian, values))
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=0)


def test_depth_keeps_what_was_not_measured() -> None:
    values = [(1.5,)] * (HEIGHT * WIDTH)
    values[:3] = [(float("nan"),), (float("inf"),), (0.0,)]
    found = images.depth_m(message("32FC1", "f", False, values)).ravel()
    assert np.isnan(found[0]) and np.isinf(found[1]) and found[2] == 0 and found[3] == 1.5


@pytest.mark.parametrize(
    ("encoding", "pixel", "largest"),
    [("mono8", "B", 255), ("8UC1", "B", 255), ("16UC1", "H", 65535), ("32SC1", "i", 2**31 - 1)],
)
@pytest.mark.parametrize("bigendian", [False, True])
def test_labels(encoding: str, pixel: str, largest: int, bigendian: bool) -> None:
    values = [(i * largest // (HEIGHT * WIDTH - 1),) for i in range(HEIGHT * WIDTH)]
    found = images.labels(message(encoding, pixel, bigendian, values))
    assert found.dtype == np.int32
    assert found.ravel().tolist() == [value for (value,) in values]


def test_rgb_message_reads_back() -> None:
    pixels = np.random.default_rng(3).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    header = Header(frame_id="camera")
    written = images.rgb_message(pixels[:, ::-1], header)
    assert written.header == header and isinstance(written.data, array.array)
    np.testing.assert_array_equal(images.rgb(written), pixels[:, ::-1])


@pytest.mark.parametrize("read", [images.rgb, images.depth_m, images.labels])
def test_unknown_encoding_is_named_with_those_expected(read) -> None:
    bad = message("yuv422", "H", False, [(0,)] * (HEIGHT * WIDTH))
    with pytest.raises(images.ImageError, match="'yuv422' is not supported: expected one of"):
        read(bad)


def test_depth_is_not_taken_for_labels() -> None:
    with pytest.raises(images.ImageError, match="segmentation encoding '32FC1'"):
        images.labels(message("32FC1", "f", False, [(1.0,)] * (HEIGHT * WIDTH)))


def test_truncated_empty_and_impossible_images() -> None:
    good = message("16UC1", "H", False, [(1,)] * (HEIGHT * WIDTH))
    without_last_padding = array.array("B", good.data[:-PADDING])
    good.data = without_last_padding
    assert images.depth_m(good)[-1, -1] == np.float32(0.001)
    good.data = without_last_padding[:-1]
    with pytest.raises(images.ImageError, match="truncated: 81 bytes"):
        images.depth_m(good)
    good.step = 2 * WIDTH - 1
    with pytest.raises(images.ImageError, match="step 13"):
        images.depth_m(good)
    with pytest.raises(images.ImageError, match="empty: 0 x 0"):
        images.rgb(Image(encoding="rgb8"))
