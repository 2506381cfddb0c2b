"""Point clouds: every field reads back."""

from __future__ import annotations

import numpy as np
from node.outputs.point_clouds import read_points
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import Header

from crisp_ros.node.outputs.point_cloud import point_cloud_message
from crisp_ros.observation.object_points import ObjectPoints


def test_fields_read_back() -> None:
    found = ObjectPoints(
        np.array([[0.1, -0.2, 0.7], [1.5, 2.5, 3.5]], np.float32),
        np.array([[255, 128, 1], [0, 2, 254]], np.uint8),
        np.array([7, 2_000_000], np.int32),
        np.array([True, False]),
    )
    sent = point_cloud_message(Header(frame_id="camera"), found)
    cloud = deserialize_message(serialize_message(sent), PointCloud2)
    points = read_points(cloud)
    assert (cloud.header.frame_id, cloud.height, cloud.width) == ("camera", 1, 2)
    np.testing.assert_array_equal(np.stack([points[axis] for axis in "xyz"], 1), found.points)
    colours = points["rgb"].copy().view(np.uint32)
    assert [hex(c) for c in colours] == ["0xff8001", "0x2fe"]
    assert points["label"].tolist() == [7, 2_000_000]
    assert points["certified"].tolist() == [1, 0]


def test_cloud_may_be_empty() -> None:
    none = ObjectPoints(
        np.zeros((0, 3), np.float32), np.zeros((0, 3), np.uint8),
        np.zeros(0, np.int32), np.zeros(0, bool),
    )  # fmt: skip
    assert len(read_points(point_cloud_message(Header(), none))) == 0
