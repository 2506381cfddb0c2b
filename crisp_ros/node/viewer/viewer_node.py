"""The executable `crisp_viewer`: shows the outputs of the node in Rerun, without RViz.

ros2 run crisp_ros crisp_viewer                                      # in a browser
ros2 run crisp_ros crisp_viewer --ros-args -p save:=run.rrd          # into a file
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from rclpy.node import Node
from rclpy.qos import QoSProfile, qos_profile_sensor_data
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CameraInfo, Image

from crisp_ros.msg import ObjectEstimateArray, ObjectMesh
from crisp_ros.node.inputs.input_topics import IMAGE_TOPICS, TOPICS
from crisp_ros.node.main import run
from crisp_ros.node.qos import latched
from crisp_ros.node.viewer.rerun_scene import RerunScene, ViewerError

_LATCHED = latched(depth=100)


class Viewer(Node):
    """Node that writes the inputs and outputs of an estimator to a Rerun recording."""

    def __init__(self) -> None:
        """Declare the parameters, open the recording and subscribe.

        Raises:
            ViewerError: Rerun is not installed, or cannot open its output.
        """
        super().__init__("crisp_viewer")
        estimator = self.declare_parameter("estimator", "crisp").value
        save = self.declare_parameter("save", "").value
        port = self.declare_parameter("port", 9090).value
        self._scene = RerunScene(Path(save) if save else None, port)
        self.get_logger().info(self._scene.where)
        inputs = {"rgb": self._scene.colour, "depth": self._scene.depth}
        for name, callback in inputs.items():
            self._subscribe(Image, IMAGE_TOPICS[name], callback, qos_profile_sensor_data)
        self._subscribe(
            CameraInfo, TOPICS["camera_info"], self._scene.camera, qos_profile_sensor_data
        )
        self._subscribe(ObjectEstimateArray, f"{estimator}/objects", self._scene.objects, 10)
        self._subscribe(Image, f"{estimator}/overlay", self._scene.overlay, 1)
        self._subscribe(ObjectMesh, f"{estimator}/meshes", self._scene.mesh, _LATCHED)

    def _subscribe(self, kind: type, topic: str, callback, qos: QoSProfile | int) -> None:
        overrides = QoSOverridingOptions.with_default_policies()
        self.create_subscription(kind, topic, callback, qos, qos_overriding_options=overrides)

    def close(self) -> None:
        """Flush and close the recording."""
        self._scene.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """Show until shutdown; return 0, or 1 if that is impossible."""
    return run(Viewer, arguments, "crisp_viewer", (ViewerError,))


if __name__ == "__main__":
    sys.exit(main())
