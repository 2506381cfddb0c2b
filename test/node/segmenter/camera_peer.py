"""A camera and a listener in the graph of a segmenter under test."""

from __future__ import annotations

import time

import numpy as np
from box_scene import CAMERA, BoxScene
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from node.peer import LATCHED, image
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header
from vision_msgs.msg import LabelInfo

from crisp_ros.node.segmenter.segmenter_node import SegmenterNode

PATIENCE_S = 40.0


class CameraPeer:
    """A camera and a listener, served by the executor of the nodes under test."""

    def __init__(self, node: Node, segmenter: SegmenterNode, *others: Node) -> None:
        self.node, self.segmenter = node, segmenter
        self._executor = SingleThreadedExecutor(context=node.context)
        for each in (node, segmenter, *others):
            self._executor.add_node(each)
        self._rgb = node.create_publisher(Image, "rgb/image_rect_color", 10)
        self._depth = node.create_publisher(Image, "depth_registered/image_rect", 10)
        self._info = node.create_publisher(CameraInfo, "rgb/camera_info", 10)
        self.labels: list[Image] = []
        self.label_infos: list[LabelInfo] = []
        self.diagnostics: list[DiagnosticStatus] = []
        node.create_subscription(Image, "segmentation", self.labels.append, 10)
        node.create_subscription(LabelInfo, "label_info", self.label_infos.append, LATCHED)
        node.create_subscription(
            DiagnosticArray, "/diagnostics", lambda m: self.diagnostics.extend(m.status), 10
        )
        self.stamp = 100

    def close(self) -> None:
        self._executor.shutdown(timeout_sec=0)

    def wait(self, condition) -> None:
        end = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < end, f"in vain; diagnostics: {self.diagnostics[-3:]}"
            self._executor.spin_once(timeout_sec=0.05)

    def is_heard(self) -> bool:
        return all(p.get_subscription_count() for p in (self._rgb, self._depth, self._info))

    def send(self, scene: BoxScene, depth: Image | None = None, step: int = 1) -> Header:
        self.wait(self.is_heard)
        self.stamp += step
        header = Header(frame_id="camera")
        header.stamp.sec = self.stamp
        f, c = CAMERA, CAMERA.matrix.ravel().tolist()
        p = [f.fx, 0.0, f.cx, 0.0, 0.0, f.fy, f.cy, 0.0, 0.0, 0.0, 1.0, 0.0]
        info = CameraInfo(width=f.width, height=f.height, k=c, p=p)
        depth = depth or image((scene.depth * 1e3).round().astype(np.uint16), "16UC1")
        for publisher, message in (
            (self._info, info),
            (self._rgb, image(scene.rgb, "rgb8")),
            (self._depth, depth),
        ):
            message.header = header
            publisher.publish(message)
        return header

    def answer(self, scene: BoxScene, **options) -> Image:
        return self.labels_of(self.send(scene, **options))

    def labels_of(self, header: Header) -> Image:
        """The label image of a frame."""
        found: list[Image] = []

        def arrived() -> bool:
            found.extend(m for m in self.labels if m.header == header)
            return bool(found)

        self.wait(arrived)
        return found[0]

    def diagnosis(self, name: str, text: str) -> DiagnosticStatus:
        found: list[DiagnosticStatus] = []

        def reported() -> bool:
            found.extend(s for s in self.diagnostics if s.name.endswith(name) and text in s.message)
            return bool(found)

        self.diagnostics.clear()
        self.wait(reported)
        return found[-1]


def pixels(message: Image) -> np.ndarray:
    assert message.encoding == "16UC1"
    return np.frombuffer(message.data, np.uint16).reshape(message.height, message.width)
