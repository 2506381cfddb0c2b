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
    bad = message("yuv444", "H", False, [(0,)] * (HEIGHT * WIDTH))
    with pytest.raises(images.ImageError, match="'yuv444' is not supported: expected one of"):
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


@pytest.mark.parametrize(
    ("encoding", "stored"), [("yuv422", 3), ("mono8", 3), ("rgb8", 4), ("16UC1", 4)]
)
def test_an_encoding_that_the_rows_contradict_is_refused(encoding: str, stored: int) -> None:
    """Rows of rgb8 called yuv422 would pass for padded ones."""
    read = images.depth if encoding == "16UC1" else images.colour
    data = bytes(stored * 40 * 30)
    bad = SimpleNamespace(
        height=30, width=40, step=stored * 40, encoding=encoding, is_bigendian=0, data=data
    )
    with pytest.raises(images.ImageError, match=f"{stored} bytes for each of 40 pixels, but"):
        read(bad)
    bad.step += 8
    bad.data += bytes(8 * 30)
    read(bad)  # padding, for all that is known


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
    sixteen = compressed("rgb16; png compressed bgr16", png(rgb[..., ::-1].astype(np.uint16) * 257))
    np.testing.assert_array_equal(images.colour(sixteen), rgb)


PATTERNS = ("rggb", "bggr", "gbrg", "grbg")


def mosaic(rgb: np.ndarray, pattern: str) -> np.ndarray:
    """Return the raw image of a sensor with a colour filter pattern."""
    seen = np.zeros(rgb.shape[:2], rgb.dtype)
    for place, letter in enumerate(pattern):
        row, column = divmod(place, 2)
        seen[row::2, column::2] = rgb[row::2, column::2, "rgb".index(letter)]
    return seen


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("bits", [8, 16])
def test_mosaics_become_colours(pattern: str, bits: int) -> None:
    rgb = np.full((32, 40, 3), (200, 100, 50), np.uint8)
    seen = mosaic(rgb, pattern)
    seen = seen if bits == 8 else seen.astype(np.uint16) * 257
    raw = SimpleNamespace(
        height=32, width=40, step=40 * bits // 8, encoding=f"bayer_{pattern}{bits}",
        is_bigendian=0, data=array.array("B", seen.tobytes()),
    )  # fmt: skip
    np.testing.assert_array_equal(images.colour(raw), rgb)
    for format in (f"bayer_{pattern}{bits}; png compressed", f"bayer_{pattern}{bits}; png"):
        np.testing.assert_array_equal(images.colour(compressed(format, png(seen))), rgb)
    lossy = cv2.imencode(".jpg", seen if bits == 8 else mosaic(rgb, pattern))[1].tobytes()
    found = images.colour(compressed(f"bayer_{pattern}8; jpeg compressed bayer_{pattern}8", lossy))
    assert np.abs(found.astype(int) - rgb).mean() < 12  # a JPEG of a mosaic blurs it
    converted = compressed(f"bayer_{pattern}8; png compressed bgr8", png(rgb[..., ::-1]))
    np.testing.assert_array_equal(images.colour(converted), rgb)


@pytest.mark.parametrize(
    "format, order",
    [
        ("rgb8; png compressed bgr8", "bgr"),
        ("bgr8; png compressed bgr8", "bgr"),
        ("bgra8; png compressed bgr8", "bgr"),
        # Without "bgr" the subscriber of image_transport takes the array as the publisher gave it.
        ("rgb8; png compressed rgb8", "rgb"),
        ("rgb8; png compressed", "rgb"),
        ("bgr8; png compressed rgb8", "rgb"),
        ("png", "bgr"),
        ("jpeg", "bgr"),
        ("image/png", "bgr"),
        ("mono8; png compressed bgr8", "bgr"),
        ("yuv422; png compressed bgr8", "bgr"),
        ("yuv422; png compressed", None),
        ("rgb8; png compressed yuv", None),
        ("fancy8; png compressed", None),
    ],
)
def test_the_stored_order_of_colours(format: str, order: str | None) -> None:
    """OpenCV writes an array's first channel as blue, whatever it holds."""
    array_given = np.full((8, 8, 3), (10, 100, 200), np.uint8)
    message = compressed(format, png(array_given))
    if order is None:
        with pytest.raises(images.ImageError, match="order of its colours cannot be known"):
            images.colour(message)
    else:
        expected = (200, 100, 10) if order == "bgr" else (10, 100, 200)
        assert images.colour(message)[3, 3].tolist() == list(expected)


YUV_BYTES = {  # of two pixels with Y 100 and 200, U 90, V 170
    "yuv422": (90, 100, 170, 200),
    "uyvy": (90, 100, 170, 200),
    "yuv422_yuy2": (100, 90, 200, 170),
    "yuyv": (100, 90, 200, 170),
}


def rgb_of_yuv(y: int, u: int, v: int) -> np.ndarray:
    """ITU-R BT.601, studio range."""
    y, u, v = 1.164 * (y - 16), u - 128, v - 128
    rgb = (y + 1.596 * v, y - 0.391 * u - 0.813 * v, y + 2.018 * u)
    return np.clip(rgb, 0, 255)


@pytest.mark.parametrize("encoding", [*YUV_BYTES, "nv12", "nv21"])
def test_yuv(encoding: str) -> None:
    height, width = 4, 6
    if encoding in YUV_BYTES:
        data = bytes(YUV_BYTES[encoding]) * (width // 2 * height)
        step = 2 * width
    else:
        chroma = (90, 170) if encoding == "nv12" else (170, 90)
        data = bytes((100, 200)) * (width // 2 * height) + bytes(chroma) * (
            width // 2 * height // 2
        )
        step = width
    message = SimpleNamespace(
        height=height, width=width, step=step, encoding=encoding, is_bigendian=0, data=data
    )
    found = images.colour(message)
    assert found.shape == (height, width, 3)
    for column, y in ((0, 100), (1, 200)):
        assert np.abs(found[2, column] - rgb_of_yuv(y, 90, 170)).max() <= 2
    message.width, message.step = width - 1, step
    with pytest.raises(images.ImageError, match="even sizes"):
        images.colour(message)


@pytest.mark.parametrize("encoding", ["rgb16", "bgr16", "rgba16", "bgra16", "mono16"])
def test_sixteen_bits_become_eight(encoding: str) -> None:
    channels = {"mono16": 1}.get(encoding, 4 if "a" in encoding else 3)
    values = [tuple((257 * (i + 40 * c)) % 65536 for c in range(channels)) for i in range(35)]
    found = images.colour(message(encoding, "H" * channels, False, values)).reshape(-1, 3)
    for pixel, value in zip(found, values, strict=True):
        eight = [v // 257 for v in value]
        expected = eight * 3 if channels == 1 else eight[:3]
        assert pixel.tolist() == (expected[::-1] if encoding.startswith("bgr") else expected)


def rvl(pixels: np.ndarray) -> bytes:
    """The paper's encoder, nibble by nibble."""
    nibbles: list[int] = []

    def put(number: int) -> None:
        while True:
            nibbles.append((number & 7) | (8 if number > 7 else 0))
            number >>= 3
            if not number:
                return

    flat, at, last = pixels.ravel().tolist(), 0, 0
    while at < len(flat):
        start = at
        while at < len(flat) and flat[at] == 0:
            at += 1
        put(at - start)
        start = at
        while at < len(flat) and flat[at] != 0:
            at += 1
        put(at - start)
        for value in flat[start:at]:
            difference, last = value - last, value
            put(2 * difference if difference >= 0 else -2 * difference - 1)
    nibbles += [0] * (-len(nibbles) % 8)
    words = [
        sum(n << (28 - 4 * i) for i, n in enumerate(nibbles[k : k + 8]))
        for k in range(0, len(nibbles), 8)
    ]
    height, width = pixels.shape
    return struct.pack(f"<II{len(words)}I", width, height, *words)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_rvl(share: float) -> None:
    rng = np.random.default_rng(7)
    depth = rng.integers(1, 65536, (24, 31)).astype(np.uint16)
    depth[rng.random(depth.shape) >= share] = 0
    found = images.depth(compressed("16UC1; compressedDepth rvl", bytes(12) + rvl(depth)))
    np.testing.assert_array_equal(found, depth)
    if share:
        with pytest.raises(images.ImageError, match="broken off"):
            images.depth(compressed("16UC1; compressedDepth rvl", bytes(12) + rvl(depth)[:-40]))


def test_rvl_of_metres() -> None:
    a, b = 100 * 101.0, 1 - 100 * 101 / 10
    metres = np.linspace(0.3, 6.0, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH)
    stored = np.rint(a / metres + b).astype(np.uint16)
    data = struct.pack("<iff", 0, a, b) + rvl(stored)
    found = images.depth(compressed("32FC1; compressedDepth rvl", data))
    np.testing.assert_allclose(found, metres, rtol=2e-3)


def test_depth_of_another_unit_becomes_metres() -> None:
    steps = [(i * 40,) for i in range(HEIGHT * WIDTH)]
    for encoding, pixel in (("16UC1", "H"), ("32FC1", "f")):
        found = images.depth(message(encoding, pixel, False, steps), 0.00025)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found.ravel(), np.arange(HEIGHT * WIDTH) * 0.01, atol=1e-6)
    same = images.depth(message("16UC1", "H", False, steps), 0.001)
    assert same.dtype == np.uint16  # what it is anyway


def test_a_png_without_the_header_of_compressed_depth() -> None:
    depth = np.arange(HEIGHT * WIDTH, dtype=np.uint16).reshape(HEIGHT, WIDTH)
    found = images.depth(compressed("16UC1; compressedDepth png", png(depth)))
    np.testing.assert_array_equal(found, depth)


def quantised(metres: np.ndarray, a: float, b: float) -> bytes:
    """Quantise depth like image_transport: a / depth + b in 16 bits, 0 for none."""
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


def test_a_tiff_keeps_metres() -> None:
    metres = np.linspace(0.3, 6.0, HEIGHT * WIDTH, dtype=np.float32).reshape(HEIGHT, WIDTH)
    data = cv2.imencode(".tiff", metres)[1].tobytes()
    found = images.depth(compressed("32FC1; tiff compressed 32FC1", data))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, metres)


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
        (images.depth, "16UC1; compressedDepth rvl", bytes(40), "image of 0 x 0 pixels"),
        (images.depth, "16UC1; compressedDepth rvl", bytes(15), "3 bytes: too few for the size"),
        (images.depth, "32FC1; png compressed", png(np.ones((4, 4), np.uint16)), "unknown unit"),
        (images.colour, "h264", b"no image", "video is not read: republish"),
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
