"""Point clouds of the objects as messages."""

from __future__ import annotations

import array
import sys

import numpy as np
from sensor_msgs.msg import PointCloud2, PointField
from std_msgs.msg import Header

from crisp_ros.observation.object_points import ObjectPoints

# Colours as viewers expect them: 0x00RRGGBB in the bits of a float32.
_POINT = np.dtype(
    {
        "names": ["x", "y", "z", "rgb", "label", "certified"],
        "formats": ["f4", "f4", "f4", "u4", "u4", "u1"],
        "offsets": [0, 4, 8, 12, 16, 20],
        "itemsize": 24,
    }
)
_TYPES = {
    "x": PointField.FLOAT32,
    "y": PointField.FLOAT32,
    "z": PointField.FLOAT32,
    "rgb": PointField.FLOAT32,
    "label": PointField.UINT32,
    "certified": PointField.UINT8,
}


def point_cloud_message(header: Header, found: ObjectPoints) -> PointCloud2:
    """Create an unordered cloud with the fields x, y, z, rgb, label and certified (0 or 1).

    Args:
        header: of the image, whose optical frame the points are in.
        found: the points.
    """
    content = np.zeros(len(found.points), _POINT)
    content["x"], content["y"], content["z"] = found.points.T
    red, green, blue = found.rgb.astype(np.uint32).T
    content["rgb"] = (red << 16) | (green << 8) | blue
    content["label"], content["certified"] = found.labels, found.certified
    message = PointCloud2(header=header, height=1, width=len(content), is_dense=True)
    message.fields = [
        PointField(name=name, offset=_POINT.fields[name][1], datatype=kind, count=1)
        for name, kind in _TYPES.items()
    ]
    message.is_bigendian = sys.byteorder == "big"
    message.point_step = _POINT.itemsize
    message.row_step = _POINT.itemsize * len(content)
    message.data = array.array("B", content.tobytes())
    return message
