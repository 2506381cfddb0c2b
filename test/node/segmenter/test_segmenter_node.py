"""The segmenter over a real graph: label images, diagnostics, lifecycle."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from box_scene import CAMERA, BoxScene, box_scene
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from node.peer import LATCHED, image
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from ros_graph import isolated_node
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header
from vision_msgs.msg import LabelInfo

from crisp_ros.node.segmenter.segmenter_node import SegmenterNode

PATIENCE_S = 40.0
BOXES = [((-0.15, 0.0), (0.08, 0.06, 0.12)), ((0.1, 0.05), (0.1, 0.1, 0.05))]


class Peer:
    """A camera and a listener in the segmenter's graph, served by one executor."""

    def __init__(self, node: Node, segmenter: SegmenterNode) -> None:
        self.node, self.segmenter = node, segmenter
        self._executor = SingleThreadedExecutor(context=node.context)
        self._executor.add_node(node)
        self._executor.add_node(segmenter)
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
        before = len(self.labels)
        self.send(scene, **options)
        self.wait(lambda: len(self.labels) > before)
        return self.labels[-1]

    def diagnosis(self, name: str, text: str) -> DiagnosticStatus:
        found: list[DiagnosticStatus] = []

        def reported() -> bool:
            found.extend(s for s in self.diagnostics if s.name.endswith(name) and text in s.message)
            return bool(found)

        self.diagnostics.clear()
        self.wait(reported)
        return found[-1]


@contextmanager
def running(parameters: Sequence[Parameter] = ()) -> Iterator[Peer]:
    with isolated_node() as node:
        given = {p.name for p in parameters}
        defaults = {"autostart": True, "network": False}
        rest = [Parameter(n, value=v) for n, v in defaults.items() if n not in given]
        overrides = [*rest, *parameters]
        segmenter = SegmenterNode(context=node.context, parameter_overrides=overrides)
        peer = Peer(node, segmenter)
        try:
            yield peer
        finally:
            segmenter.close()
            peer.close()
            segmenter.destroy_node()


def pixels(message: Image) -> np.ndarray:
    assert message.encoding == "16UC1"
    return np.frombuffer(message.data, np.uint16).reshape(message.height, message.width)


def test_a_label_image_has_stamp_and_frame_of_the_colour_image() -> None:
    scene = box_scene(BOXES)
    with running() as peer:
        message = peer.answer(scene)
        assert message.header.stamp.sec == peer.stamp and message.header.frame_id == "camera"
        labels = pixels(message)
        found = {int(np.bincount(labels[scene.labels == i]).argmax()) for i in (1, 2)}
        assert len(found) == 2 and 0 not in found
        moved = box_scene([((x + 0.01, y), edges) for (x, y), edges in BOXES])
        after = pixels(peer.answer(moved))
        assert {int(np.bincount(after[moved.labels == i]).argmax()) for i in (1, 2)} == found
        peer.wait(lambda: peer.label_infos)
        assert list(peer.label_infos[-1].class_map) == []
        status = peer.diagnosis("segmentation", "2 objects")
        values = {v.key: v.value for v in status.values}
        assert status.level == DiagnosticStatus.OK and values["support"].startswith(
            ("plane 0.69", "plane 0.70")
        )


def test_metres_and_millimetres_give_the_same_labels() -> None:
    scene = box_scene(BOXES)
    with running() as peer:
        millimetres = pixels(peer.answer(scene))
        metres = pixels(peer.answer(scene, depth=image(scene.depth, "32FC1")))
        assert (millimetres == metres).mean() > 0.99


def test_nothing_to_find_is_reported_with_the_reason() -> None:
    empty = box_scene([])
    with running() as peer:
        assert pixels(peer.answer(empty)).max() == 0
        assert "nothing rises" in peer.diagnosis("segmentation", "no object").message
        dark = image(np.zeros_like(empty.depth), "32FC1")
        assert pixels(peer.answer(empty, depth=dark)).max() == 0
        assert "no depth" in peer.diagnosis("segmentation", "no object: no depth").message


def test_unusable_images_are_reported_and_the_next_are_segmented() -> None:
    scene = box_scene(BOXES)
    with running() as peer:
        peer.send(scene, depth=image(scene.rgb, "rgb8"))
        assert "rgb8" in peer.diagnosis("inputs", "depth: ").message
        peer.send(scene, depth=image(scene.depth[:240], "32FC1"))
        assert "240" in peer.diagnosis("segmentation", "cannot be segmented").message
        assert pixels(peer.answer(scene)).max() == 2


def test_labels_start_again_where_time_jumps_back() -> None:
    with running() as peer:
        assert pixels(peer.answer(box_scene(BOXES[:1]))).max() == 1
        assert pixels(peer.answer(box_scene(BOXES[1:]))).max() == 2
        assert pixels(peer.answer(box_scene(BOXES[1:]), step=-50)).max() == 1


def test_a_deactivated_node_is_silent_and_can_be_activated_again() -> None:
    scene = box_scene(BOXES)
    with running([Parameter("max_size", value=0.3)]) as peer:
        peer.answer(scene)
        peer.segmenter.trigger_deactivate()
        assert "inactive" in peer.diagnosis("segmentation", "inactive").message
        peer.segmenter.trigger_activate()
        assert pixels(peer.answer(scene)).max() == 2
        changed = peer.segmenter.set_parameters([Parameter("max_size", value=0.1)])
        assert changed[0].successful
        labels = pixels(peer.answer(scene))
        assert (labels[scene.labels == 1] == 0).mean() > 0.9  # 12 cm high
        refused = peer.segmenter.set_parameters([Parameter("max_size", value=float("nan"))])
        assert not refused[0].successful
        assert peer.segmenter.set_parameters([Parameter("max_size", value=0.5)])[0].successful
        peer.segmenter.trigger_deactivate()
        peer.segmenter.trigger_cleanup()
        peer.segmenter.trigger_configure()
        peer.segmenter.trigger_activate()
        assert pixels(peer.answer(scene)).max() == 2


def test_the_network_of_the_package_segments_too() -> None:
    scene = box_scene(BOXES)
    with running([Parameter("network", value=True)]) as peer:
        labels = pixels(peer.answer(scene))
        found = {int(np.bincount(labels[scene.labels == i]).argmax()) for i in (1, 2)}
        assert len(found) == 2 and 0 not in found


def test_missing_weights_refuse_the_configuration() -> None:
    parameters = {"network": True, "weights": "/missing.safetensors"}
    with running([Parameter(n, value=v) for n, v in parameters.items()]) as peer:
        status = peer.diagnosis("lifecycle", "missing.safetensors")
        assert status.level == DiagnosticStatus.ERROR
