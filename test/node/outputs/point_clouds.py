"""Reader of point clouds, by the fields that the message states."""

from __future__ import annotations

import numpy as np
from sensor_msgs.msg import PointCloud2, PointField

FORMATS = {PointField.FLOAT32: "f4", PointField.UINT32: "u4", PointField.UINT8: "u1"}


def read_points(cloud: PointCloud2) -> np.ndarray:
    """Return the points as a structured array."""
    order = ">" if cloud.is_bigendian else "<"
    kind = np.dtype(
        {
            "names": [field.name for field in cloud.fields],
            "formats": [order + FORMATS[field.datatype] for field in cloud.fields],
            "offsets": [field.offset for field in cloud.fields],
            "itemsize": cloud.point_step,
        }
    )
    assert cloud.row_step == cloud.width * cloud.point_step
    assert len(cloud.data) == cloud.height * cloud.row_step
    return np.frombuffer(cloud.data, kind)
