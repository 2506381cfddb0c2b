"""Image messages, raw ones against one obvious loop over their bytes, compressed ones by
image_transport's documentation."""

from __future__ import annotations

import array
import struct
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from crisp_ros.data import image_messages as images

HEIGHT, WIDTH, PADDING = 5, 7, 3

# Format of one channel for struct, and which channels are red, green and blue.
COLOUR = {
    "rgb8": "BBB",
    "bgr8": "BBB",
    "8UC3": "BBB",
    "rgba8": "BBBB",
    "bgra8": "BBBB",
    "mono8": "B",
}
RED_GREEN_BLUE = {
    "rgb8": (0, 1, 2),
    "bgr8": (2, 1, 0),
    "8UC3": (2, 1, 0),
    "rgba8": (0, 1, 2),
    "bgra8": (2, 1, 0),
    "mono8": (0, 0, 0),
}


def message(encoding: str, pixel: str, bigendian: bool, values: list[tuple]) -> SimpleNamespace:
    """A sensor_msgs/Image of the pixels `values`, with rubbish at the end of each row."""
    order = ">" if bigendian else "<"
    data = b""
    for row in range(HEIGHT):
        for column in range(WIDTH):
            data += struct.pack(order + pixel, *values[row * WIDTH + column])
        data += b"\xaa" * PADDING
    step = WIDTH * struct.calcsize(order + pixel) + PADDING
    return SimpleNamespace(
        height=HEIGHT,
        width=WIDTH,
        encoding=encoding,
        step=step,
        is_bigendian=int(bigendian),
        data=array.array("B", data),
    )


def compressed(format: str, data: bytes) -> SimpleNamespace:
    """A sensor_msgs/CompressedImage."""
    return SimpleNamespace(format=format, data=array.array("B", data))


def png(pixels: np.ndarray) -> bytes:
    return cv2.imencode(".png", pixels)[1].tobytes()


@pytest.mark.parametrize("encoding", COLOUR)
@pytest.mark.parametrize("bigendian", [False, True])
def test_rgb(encoding: str, bigendian: bool) -> None:
    channels = len(COLOUR[encoding])
    rng = np.random.default_rng(1)
    values = [tuple(rng.integers(0, 256, channels).tolist()) for _ in range(HEIGHT * WIDTH)]
    found = images.colour(message(encoding, COLOUR[encoding], bigendian, values))
    assert found.dtype == np.uint8 and found.flags.c_contiguous
    for i, value in enumerate(values):
        expected = [value[c] for c in RED_GREEN_BLUE[encoding]]
        assert found[i // WIDTH, i % WIDTH].tolist() == expected


@pytest.mark.parametrize("bigendian", [False, True])
def test_depth_is_read_as_it_was_sent(bigendian: bool) -> None:
    millimetres = [(int(v),) for v in np.random.default_rng(2).integers(0, 65536, HEIGHT * WIDTH)]
    millimetres[:2] = [(0,), (65535,)]
    metres = [(v / 1000,) for (v,) in millimetres]
    for encoding, pixel, values, dtype in (
        ("16UC1", "H", millimetres, np.uint16),
        ("32FC1", "f", metres, np.float32),
    ):
        found = images.depth(message(encoding, pixel, bigendian, values))
        assert found.dtype == dtype and found.dtype.isnative
        np.testing.assert_array_equal(found.ravel(), np.array(values, dtype).ravel())


def test_depth_keeps_what_was_not_measured() -> None:
    values = [(1.5,)] * (HEIGHT * WIDTH)
    values[:3] = [(float("nan"),), (float("inf"),), (0.0,)]
    found = images.depth(message("32FC1", "f", False, values)).ravel()
    assert np.isnan(found[0]) and np.isinf(found[1]) and found[2] == 0 and found[3] == 1.5


@pytest.mark.parametrize(
    ("encoding", "pixel", "largest"),
    [("mono8", "B", 255), ("8UC1", "B", 255), ("16UC1", "H", 65535), ("32SC1", "i", 2**31 - 1)],
)
@pytest.mark.parametrize("bigendian", [False, True])
def test_labels(encoding: str, pixel: str, largest: int, bigendian: bool) -> None:
    values = [(i * largest // (HEIGHT * WIDTH - 1),) for i in range(HEIGHT * WIDTH)]
    found = images.labels(message(encoding, pixel, bigendian, values))
    assert found.ravel().tolist() == [value for (value,) in values]


@pytest.mark.parametrize("read", [images.colour, images.depth, images.labels])
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
    assert images.depth(good)[-1, -1] == 1
    good.data = without_last_padding[:-1]
    with pytest.raises(images.ImageError, match="truncated: 81 bytes"):
        images.depth(good)
    good.step = 2 * WIDTH - 1
    with pytest.raises(images.ImageError, match="step 13"):
        images.depth(good)
    with pytest.raises(images.ImageError, match="empty: 0 x 0"):
        images.colour(
            SimpleNamespace(height=0, width=0, step=0, encoding="rgb8", is_bigendian=0, data=b"")
        )


def test_more_data_than_the_size_asks_for_is_refused() -> None:
    good = message("16UC1", "H", False, [(1,)] * (HEIGHT * WIDTH))
    good.data += array.array("B", [0])
    with pytest.raises(images.ImageError, match="too long: 86 bytes"):
        images.depth(good)


@pytest.mark.parametrize("kind", [".jpg", ".png"])
def test_compressed_colours(kind: str) -> None:
    rgb = np.full((16, 16, 3), (200, 100, 50), np.uint8)
    data = cv2.imencode(kind, rgb[..., ::-1])[1].tobytes()
    found = images.colour(compressed("rgb8; jpeg compressed bgr8", data))
    assert np.abs(found.astype(int) - rgb).max() <= (3 if kind == ".jpg" else 0)
    grey = images.colour(compressed("mono8; png compressed", png(rgb[..., 0])))
    np.testing.assert_array_equal(grey, rgb[..., :1].repeat(3, -1))
    with_alpha = np.dstack([rgb[..., ::-1], rgb[..., 0]])
    found = images.colour(compressed("rgba8; png compressed bgra8", png(with_alpha)))
    np.testing.assert_array_equal(found, rgb)
    with pytest.raises(images.ImageError, match="uint16 channels, expected 8 bits"):
        images.colour(compressed("rgb16; png compressed", png(rgb.astype(np.uint16))))


def quantised(metres: np.ndarray, a: float, b: float) -> bytes:
    """As image_transport stores depth: a / depth + b in 16 bits, 0 for none."""
    values = np.where(metres > 0, np.rint(a / np.maximum(metres, 1e-9) + b), 0)
    return struct.pack("<iff", 0, a, b) + png(values.astype(np.uint16))


def test_compressed_depth() -> None:
    millimetres = np.random.default_rng(5).integers(0, 65536, (HEIGHT, WIDTH)).astype(np.uint16)
    for format, head in (("16UC1; compressedDepth png", bytes(12)), ("16UC1; png compressed", b"")):
        found = images.depth(compressed(format, head + png(millimetres)))
        np.testing.assert_array_equal(found, millimetres)
    metres = np.linspace(0.3, 6.0, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH)
    metres[2] = 0
    for name in ("32FC1; compressedDepth png", "32FC1; compressedDepth"):
        # The quantisation of the default settings: 100 steps at 10 m.
        found = images.depth(compressed(name, quantised(metres, 100 * 101.0, 1 - 100 * 101 / 10)))
        assert found.dtype == np.float32 and not found[2].any()
        np.testing.assert_allclose(found, metres, rtol=2e-3)


def test_compressed_labels() -> None:
    for dtype in (np.uint8, np.uint16):
        labels = np.arange(HEIGHT * WIDTH, dtype=dtype).reshape(HEIGHT, WIDTH)
        found = images.labels(compressed("16UC1; png compressed", png(labels)))
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, labels)


@pytest.mark.parametrize(
    ("read", "format", "data", "words"),
    [
        (images.colour, "jpeg", b"", "colour of format 'jpeg' cannot be decoded: 0 bytes"),
        (images.colour, "jpeg", b"no image", "cannot be decoded: 8 bytes that are no whole image"),
        (images.depth, "16UC1; compressedDepth rvl", bytes(40), "'16UC1; compressedDepth rvl' is"),
        (images.depth, "16UC1; compressedDepth png", bytes(11), "11 bytes: too few"),
        (images.depth, "jpeg", png(np.zeros((4, 4), np.uint8)), "expected one channel of 16 bits"),
        (images.depth, "32FC1; compressedDepth png", struct.pack("<iff", 0, 0.0, 1.0), "decoded"),
        (
            images.depth,
            "32FC1; compressedDepth png",
            struct.pack("<iff", 0, float("nan"), 1.0) + png(np.ones((4, 4), np.uint16)),
            "quantisation nan, 1.0: expected positive, finite",
        ),
        (images.labels, "mono8; jpeg compressed", b"x", "changes labels: expected a PNG"),
        (images.labels, "png", png(np.zeros((4, 4, 3), np.uint8)), "has 3 channels, expected one"),
    ],
)
def test_compressed_images_that_cannot_be_used(read, format, data, words) -> None:
    with pytest.raises(images.ImageError, match=words):
        read(compressed(format, data))


def test_half_a_png_is_no_image() -> None:
    noise = np.random.default_rng(6).integers(0, 65536, (64, 64)).astype(np.uint16)
    with pytest.raises(images.ImageError, match="no whole image"):
        images.depth(compressed("16UC1; compressedDepth png", bytes(12) + png(noise)[:-4000]))


def test_check_looks_at_the_size_alone() -> None:
    good = message("rgb8", "BBB", False, [(1, 2, 3)] * (HEIGHT * WIDTH))
    images.check(good, "colour")
    with pytest.raises(images.ImageError, match="depth encoding 'rgb8'"):
        images.check(good, "depth")
    good.data = good.data[:-20]
    with pytest.raises(images.ImageError, match="truncated"):
        images.check(good, "colour")
    images.check(compressed("jpeg", b"no image"), "colour")
    with pytest.raises(images.ImageError, match="empty"):
        images.check(compressed("jpeg", b""), "colour")
