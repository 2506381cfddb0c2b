"""The node reads images by cv_bridge, a recording by OpenCV: with the same pixels."""

from __future__ import annotations

import array

import cv2
import numpy as np
import pytest
from cv_bridge import CvBridge
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from crisp_ros.data import image_messages
from crisp_ros.data.image_encodings import ENCODINGS
from crisp_ros.node.inputs.cv_bridge_decoder import CV_BRIDGE
from crisp_ros.node.inputs.frame_conversion import FrameMessages, convert_frame
from crisp_ros.node.parameters.node_parameters import Parameters

READ = {
    "colour": image_messages.colour,
    "depth": lambda message, decoder: image_messages.depth(message, decoder=decoder),
    "segmentation": image_messages.labels,
}
HEIGHT, WIDTH = 24, 40


def raw(kind: str, encoding: str, padding: int = 0, bigendian: bool = False) -> Image:
    """An image of random elements, with rubbish at the end of each row."""
    found = ENCODINGS[kind][encoding]
    dtype = np.dtype(found.dtype).newbyteorder(">" if bigendian else "<")
    rows = int(HEIGHT * found.rows)
    values = np.random.default_rng(5).random((rows, WIDTH * found.channels))
    scale = 1 if dtype.kind == "f" else np.iinfo(dtype).max
    rows = np.ascontiguousarray((values * scale).astype(dtype)).view(np.uint8)
    padded = np.pad(rows, ((0, 0), (0, padding)), constant_values=170)
    return Image(
        height=HEIGHT, width=WIDTH, encoding=encoding, is_bigendian=int(bigendian),
        step=padded.shape[1], data=array.array("B", padded.tobytes()),
    )  # fmt: skip


@pytest.mark.parametrize("padding", [0, 5])
@pytest.mark.parametrize("bigendian", [False, True])
@pytest.mark.parametrize(
    ("kind", "encoding"), [(kind, name) for kind, known in ENCODINGS.items() for name in known]
)
def test_pixels_equal(kind: str, encoding: str, bigendian: bool, padding: int) -> None:
    message = raw(kind, encoding, padding, bigendian)
    expected, found = READ[kind](message, image_messages.OPENCV), READ[kind](message, CV_BRIDGE)
    assert found.dtype == expected.dtype and found.dtype.isnative and len(np.unique(found)) > 50
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("kind", "format", "extension", "dtype", "channels"),
    [
        ("colour", "rgb8; jpeg compressed bgr8", ".jpg", np.uint8, 3),
        ("colour", "rgb8; png compressed rgb8", ".png", np.uint8, 3),
        ("colour", "rgb16; png compressed bgr16", ".png", np.uint16, 3),
        ("colour", "bayer_grbg8; png compressed", ".png", np.uint8, 1),
        ("depth", "16UC1; png compressed", ".png", np.uint16, 1),
        ("depth", "16UC1; compressedDepth png", ".png", np.uint16, 1),
        ("depth", "32FC1; tiff compressed 32FC1", ".tiff", np.float32, 1),
        ("segmentation", "mono8; png compressed", ".png", np.uint8, 1),
    ],
)
def test_compressed_pixels_equal(kind, format, extension, dtype, channels) -> None:
    pixels = (np.random.default_rng(6).random((HEIGHT, WIDTH, channels)) * 250).astype(dtype)
    data = cv2.imencode(extension, pixels)[1].tobytes()
    head = bytes(12) if "compressedDepth" in format else b""
    message = CompressedImage(format=format, data=array.array("B", head + data))
    expected = READ[kind](message, image_messages.OPENCV)
    np.testing.assert_array_equal(READ[kind](message, CV_BRIDGE), expected)


def test_frames_are_read_by_cv_bridge(monkeypatch: pytest.MonkeyPatch) -> None:
    converted = []
    convert = CvBridge.imgmsg_to_cv2

    def recorded(self: CvBridge, message: Image, encoding: str = "passthrough") -> np.ndarray:
        converted.append(message.encoding)
        return convert(self, message, encoding)

    monkeypatch.setattr(CvBridge, "imgmsg_to_cv2", recorded)
    info = CameraInfo(height=HEIGHT, width=WIDTH)
    info.p = [50.0, 0.0, 20.0, 0.0, 0.0, 50.0, 12.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    messages = FrameMessages(
        raw("colour", "bgr8"), raw("depth", "16UC1"), raw("segmentation", "mono8"), info
    )
    frame = convert_frame(messages, Parameters(), {}).frame
    assert converted == ["bgr8", "16UC1", "mono8"]
    assert frame.rgb.shape == (HEIGHT, WIDTH, 3)
