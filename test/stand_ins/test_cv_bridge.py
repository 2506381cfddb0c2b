"""cv_bridge: pixels survive, conversions mean what they say, nonsense is refused."""

import cv2
import numpy as np
import pytest
from cv_bridge import CvBridge, CvBridgeError
from sensor_msgs.msg import Image
from std_msgs.msg import Header


def random_image(dtype: str, *shape: int) -> np.ndarray:
    return (np.random.default_rng(1).random(shape) * 250).astype(dtype)


@pytest.mark.parametrize(
    ("encoding", "dtype", "channels"),
    [
        ("mono8", "uint8", 1),
        ("8UC1", "uint8", 1),
        ("bgr8", "uint8", 3),
        ("rgb8", "uint8", 3),
        ("bgra8", "uint8", 4),
        ("16UC1", "uint16", 1),
        ("mono16", "uint16", 1),
        ("32SC1", "int32", 1),
        ("32FC1", "float32", 1),
        ("64FC1", "float64", 1),
        ("32FC3", "float32", 3),
    ],
)
def test_there_and_back(encoding: str, dtype: str, channels: int) -> None:
    image = random_image(dtype, 5, 7, channels) if channels > 1 else random_image(dtype, 5, 7)
    bridge = CvBridge()
    message = bridge.cv2_to_imgmsg(image, encoding, header=Header(frame_id="camera"))
    assert (message.height, message.width, message.encoding) == (5, 7, encoding)
    assert message.step == 7 * channels * image.itemsize
    assert message.header.frame_id == "camera"
    back = bridge.imgmsg_to_cv2(message)
    assert back.dtype == image.dtype
    np.testing.assert_array_equal(back, image)


def test_without_an_encoding_the_array_names_it() -> None:
    assert CvBridge().cv2_to_imgmsg(random_image("uint8", 2, 2, 3)).encoding == "8UC3"
    assert CvBridge().cv2_to_imgmsg(random_image("uint16", 2, 2)).encoding == "16UC1"


def test_padding_at_the_end_of_rows_is_left_out() -> None:
    rows = np.zeros((2, 9), np.uint8)
    rows[:, :6] = [[1, 2, 3, 4, 5, 6], [7, 8, 9, 10, 11, 12]]
    message = Image(height=2, width=2, encoding="rgb8", step=9, data=rows.tobytes())
    expected = [[[1, 2, 3], [4, 5, 6]], [[7, 8, 9], [10, 11, 12]]]
    np.testing.assert_array_equal(CvBridge().imgmsg_to_cv2(message), expected)


def test_the_other_byte_order_is_read() -> None:
    data = np.array([[1, 256]], ">u2").tobytes()
    message = Image(height=1, width=2, encoding="16UC1", step=4, is_bigendian=1, data=data)
    np.testing.assert_array_equal(CvBridge().imgmsg_to_cv2(message), [[1, 256]])


def test_colours_are_converted() -> None:
    image = random_image("uint8", 4, 6, 3)
    bridge = CvBridge()
    message = bridge.cv2_to_imgmsg(image, "rgb8")
    np.testing.assert_array_equal(bridge.imgmsg_to_cv2(message, "bgr8"), image[..., ::-1])
    grey = bridge.imgmsg_to_cv2(message, "mono8")
    np.testing.assert_allclose(grey, image @ [0.299, 0.587, 0.114], atol=1)


@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
@pytest.mark.parametrize("bits", [8, 16])
def test_mosaics_become_colours(pattern: str, bits: int) -> None:
    rgb = np.full((8, 10, 3), (200, 100, 50), np.uint8)
    mosaic = np.zeros(rgb.shape[:2], np.uint8)
    for place, letter in enumerate(pattern):
        mosaic[place // 2 :: 2, place % 2 :: 2] = rgb[0, 0, "rgb".index(letter)]
    mosaic = mosaic if bits == 8 else mosaic.astype(np.uint16) * 257
    message = CvBridge().cv2_to_imgmsg(mosaic, f"bayer_{pattern}{bits}")
    np.testing.assert_array_equal(CvBridge().imgmsg_to_cv2(message, "rgb8"), rgb)


def test_sixteen_bits_are_scaled_to_eight() -> None:
    image = np.array([[[0, 257 * 7, 65535], [128, 129, 65534]]], np.uint16)
    message = CvBridge().cv2_to_imgmsg(image, "bgr16")
    expected = [[[255, 7, 0], [255, 1, 0]]]
    np.testing.assert_array_equal(CvBridge().imgmsg_to_cv2(message, "rgb8"), expected)


@pytest.mark.parametrize(
    ("encoding", "two_pixels"),
    [("yuv422", (90, 100, 170, 200)), ("yuv422_yuy2", (100, 90, 200, 170))],
)
def test_yuv_becomes_colours(encoding: str, two_pixels: tuple[int, ...]) -> None:
    message = Image(height=2, width=4, encoding=encoding, step=8, data=bytes(two_pixels * 4))
    found = CvBridge().imgmsg_to_cv2(message, "rgb8")
    np.testing.assert_allclose(found[0, 0], [165, 78, 21], atol=2)  # ITU-R BT.601


def test_equal_layouts_pass_as_they_are() -> None:
    labels = random_image("uint8", 3, 3)
    bridge = CvBridge()
    message = bridge.cv2_to_imgmsg(labels, "mono8")
    np.testing.assert_array_equal(bridge.imgmsg_to_cv2(message, "8UC1"), labels)


def test_nonsense_is_refused() -> None:
    bridge = CvBridge()
    depth = bridge.cv2_to_imgmsg(random_image("float32", 4, 4), "32FC1")
    unknown = Image(height=1, width=1, encoding="plaid", step=1, data=b"\x00")
    short = Image(height=4, width=4, encoding="mono8", step=4, data=b"\x00")
    with pytest.raises(CvBridgeError):
        bridge.imgmsg_to_cv2(depth, "bgr8")
    with pytest.raises(CvBridgeError):  # it could be anything
        bridge.imgmsg_to_cv2(bridge.cv2_to_imgmsg(random_image("uint8", 4, 4), "8UC1"), "mono8")
    with pytest.raises(CvBridgeError):
        bridge.imgmsg_to_cv2(unknown)
    with pytest.raises(TypeError):
        bridge.imgmsg_to_cv2(short)
    with pytest.raises(CvBridgeError):
        bridge.cv2_to_imgmsg(random_image("float32", 4, 4), "bgr8")
    with pytest.raises(TypeError):
        bridge.cv2_to_imgmsg([[1, 2]])
    assert issubclass(CvBridgeError, TypeError)


def test_compressed_there_and_back() -> None:
    image = random_image("uint8", 8, 9, 3)
    bridge = CvBridge()
    message = bridge.cv2_to_compressed_imgmsg(image, "png")
    assert message.format == "png"
    np.testing.assert_array_equal(bridge.compressed_imgmsg_to_cv2(message), image)
    np.testing.assert_array_equal(
        bridge.compressed_imgmsg_to_cv2(message, "rgb8"), cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    )
