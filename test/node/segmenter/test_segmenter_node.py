"""The segmenter over a real graph: label images, diagnostics, lifecycle."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from box_scene import box_scene
from diagnostic_msgs.msg import DiagnosticStatus
from node.peer import image
from node.segmenter.camera_peer import CameraPeer, pixels
from rclpy.node import Node
from rclpy.parameter import Parameter
from ros_graph import isolated_node
from sensor_msgs.msg import CameraInfo

from crisp_ros.node.parameters.parameter_docs import segmenter_file
from crisp_ros.node.segmenter.segmenter_inputs import SegmenterInputs
from crisp_ros.node.segmenter.segmenter_node import SegmenterNode
from crisp_ros.node.segmenter.segmenter_parameters import SegmenterParameters
from crisp_ros.share import share_directory

BOXES = [((-0.15, 0.0), (0.08, 0.06, 0.12)), ((0.1, 0.05), (0.1, 0.1, 0.05))]


@contextmanager
def running(parameters: Sequence[Parameter] = ()) -> Iterator[CameraPeer]:
    with isolated_node() as node:
        given = {p.name for p in parameters}
        defaults = {"autostart": True, "network": False}
        rest = [Parameter(n, value=v) for n, v in defaults.items() if n not in given]
        overrides = [*rest, *parameters]
        segmenter = SegmenterNode(context=node.context, parameter_overrides=overrides)
        peer = CameraPeer(node, segmenter)
        try:
            yield peer
        finally:
            segmenter.close()
            peer.close()
            segmenter.destroy_node()


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


def test_the_parameter_file_is_current_and_read_by_the_node() -> None:
    path = share_directory() / "config" / "segmenter.yaml"
    assert path.read_text() == segmenter_file()
    arguments = ["--ros-args", "--params-file", str(path)]
    with isolated_node() as node:
        for name, given in (("crisp_segmenter", True), ("crisp", False)):
            other = Node(name, namespace="/robot", context=node.context, cli_args=arguments)
            overrides = {key: p.value for key, p in other._parameter_overrides.items()}
            fields = {f.name: f.default for f in dataclasses.fields(SegmenterParameters)}
            assert overrides == (fields if given else {})
            other.destroy_node()


def test_late_messages_of_an_ended_subscription_are_dropped() -> None:
    """An executor may call back once more, with a message or an event that it had taken."""
    scene, delivered = box_scene(BOXES), []
    with isolated_node() as node:
        inputs = SegmenterInputs(node, delivered.append, lambda: None)
        inputs.subscribe(SegmenterParameters())
        inputs.unsubscribe()
        inputs._received("rgb", image(scene.rgb, "rgb8"))
        inputs._calibrated(CameraInfo())
        inputs._refuse("depth", "a publisher offers an incompatible RELIABILITY")
        assert not delivered and not inputs.inputs
