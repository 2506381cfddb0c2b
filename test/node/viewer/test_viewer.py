"""The recording of the viewer's process, read back by Rerun's tool."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from crisp_ros.msg import ObjectEstimate, ObjectEstimateArray, ObjectMesh
from geometry_msgs.msg import Point
from rclpy.qos import DurabilityPolicy, QoSProfile
from ros_graph import isolated_node, spin_until
from sensor_msgs.msg import CameraInfo
from shape_msgs.msg import Mesh, MeshTriangle

from crisp_ros.node.outputs.image_encoding import image_message

LATCHED = QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL)


def contents(recording: Path) -> str:
    """Contents of a recording, by the command line of Rerun."""
    tool = shutil.which("rerun", path=str(Path(sys.executable).parent)) or "rerun"
    command = [tool, "rrd", "print", "-vv", str(recording)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_images_poses_and_surfaces_are_recorded(tmp_path: Path) -> None:
    pytest.importorskip("rerun", reason="an optional extra")
    save = tmp_path / "run.rrd"
    with isolated_node("camera") as node:
        stamp = node.get_clock().now().to_msg()
        rgb = node.create_publisher(type(image()), "/rgb/image_rect_color", 5)
        info = node.create_publisher(CameraInfo, "/rgb/camera_info", 5)
        objects = node.create_publisher(ObjectEstimateArray, "/crisp/objects", 5)
        meshes = node.create_publisher(ObjectMesh, "/crisp/meshes", LATCHED)
        environment = {**os.environ, "ROS_DOMAIN_ID": str(node.context.get_domain_id())}
        command = [sys.executable, "-m", "crisp_ros.node.viewer.viewer_node"]
        viewer = subprocess.Popen([*command, "--ros-args", "-p", f"save:={save}"], env=environment)
        try:
            publishers = (rgb, info, objects, meshes)
            heard = spin_until(node, lambda: all(p.get_subscription_count() for p in publishers))
            assert heard
            header = image().header
            header.stamp = stamp
            calibration = CameraInfo(header=header, width=8, height=6)
            calibration.p[0] = calibration.p[5] = 10.0
            estimate = ObjectEstimate(id="mug_1", certified=True, certificate_residual=0.003)
            estimate.pose.pose.orientation.w = 1.0
            for _ in range(5):  # images are best effort: one alone may be lost
                info.publish(calibration)
                rgb.publish(image(header))
                meshes.publish(mesh("mug_1"))
                objects.publish(ObjectEstimateArray(header=header, estimates=[estimate]))
                spin_until(node, lambda: False, seconds=0.3)
        finally:
            viewer.send_signal(signal.SIGINT)
            assert viewer.wait(30) == 0
    printed = contents(save)
    for path in ("image/colour", "objects/mug_1/surface", "objects/mug_1/name"):
        assert f"/camera/{path}" in printed
    assert "/residual/mug_1" in printed
    assert "Pinhole" in printed and "Transform3D" in printed


def test_an_unwritable_file_is_reported_in_one_line(tmp_path: Path) -> None:
    pytest.importorskip("rerun", reason="an optional extra")
    command = [sys.executable, "-m", "crisp_ros.node.viewer.viewer_node", "--ros-args", "-p"]
    missing = tmp_path / "no" / "run.rrd"
    ended = subprocess.run(
        [*command, f"save:={missing}"], capture_output=True, text=True, timeout=120
    )
    assert ended.returncode == 1
    assert "crisp_viewer: cannot open the recording" in ended.stderr


def image(header=None):
    from std_msgs.msg import Header

    header = header or Header(frame_id="camera")
    return image_message(np.full((6, 8, 3), 90, np.uint8), "rgb8", header)


def mesh(id: str) -> ObjectMesh:
    """A triangle."""
    corners = [(0.0, 0.0, 0.0), (0.1, 0.0, 0.0), (0.0, 0.1, 0.0)]
    surface = Mesh(
        vertices=[Point(x=x, y=y, z=z) for x, y, z in corners],
        triangles=[MeshTriangle(vertex_indices=[0, 1, 2])],
    )
    return ObjectMesh(id=id, mesh_version=1, mesh=surface)
