"""Depth in metres, and image messages that read back."""

from __future__ import annotations

import array

import numpy as np
from std_msgs.msg import Header

from crisp_ros.data import image_messages
from crisp_ros.node.outputs import image_encoding


def test_depth_in_both_encodings_is_metres() -> None:
    millimetres = np.random.default_rng(2).integers(0, 65536, (5, 7)).astype(np.uint16)
    metres = (millimetres / 1000).astype(np.float32)
    for pixels, encoding in ((millimetres, "16UC1"), (metres, "32FC1")):
        found = image_messages.depth_m(image_encoding.image_message(pixels, encoding, Header()))
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, metres, rtol=1e-6, atol=0)


def test_rgb_message_reads_back() -> None:
    pixels = np.random.default_rng(3).integers(0, 256, (5, 7, 3), np.uint8)
    header = Header(frame_id="camera")
    written = image_encoding.rgb_message(pixels[:, ::-1], header)
    assert written.header == header and isinstance(written.data, array.array)
    np.testing.assert_array_equal(image_messages.colour(written), pixels[:, ::-1])
