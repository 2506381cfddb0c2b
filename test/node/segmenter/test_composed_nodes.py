"""Segmenter and estimator in one process, over a real graph."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
from box_scene import BoxScene, box_scene
from crisp_ros.msg import ObjectEstimateArray
from node.fakes import FakeEstimator, estimate
from node.peer import image
from node.segmenter.camera_peer import CameraPeer, pixels
from rclpy.parameter import Parameter
from ros_graph import isolated_node
from segmentation.test_known_surfaces import BOX, NEXT, known_box, with_stripe
from std_msgs.msg import Header

from crisp_ros.node.crisp_node import CrispNode
from crisp_ros.node.inputs import shared_images
from crisp_ros.node.segmenter.estimator_link import EstimatorLink
from crisp_ros.node.segmenter.segmenter_node import SegmenterNode
from crisp_ros.observation.frame import Frame
from crisp_ros.pipeline import FrameEstimate, Trace


class BoxEstimator(FakeEstimator):
    """Estimator that finds the box of `known_box` in the largest mask, and nothing else."""

    def trace(self, frame: Frame, *options: object) -> Trace:
        pixels_of = np.bincount(frame.labels[frame.labels > 0].ravel())
        found = []
        if len(pixels_of):
            half = np.array(BOX[1]) / 2.0
            pose = known_box().T_camera_object
            box = estimate(int(pixels_of.argmax()), pose)
            found = [replace(box, lower=-half, upper=half)]
        return Trace(FrameEstimate(tuple(found), (), {"network": 1.0}, self.model_version), ())


class Composed(CameraPeer):
    """The peer of both nodes; it also hears the estimates."""

    def __init__(self, node, link: EstimatorLink, segmenter: SegmenterNode, crisp: CrispNode):
        super().__init__(node, segmenter, crisp)
        self.link, self.crisp = link, crisp
        self.estimates: list[ObjectEstimateArray] = []
        node.create_subscription(ObjectEstimateArray, "crisp/objects", self.estimates.append, 10)

    def estimates_of(self, header: Header) -> ObjectEstimateArray:
        """The estimates of a frame."""
        self.wait(lambda: any(m.header == header for m in self.estimates))
        return next(m for m in self.estimates if m.header == header)


@contextmanager
def composed(estimator: FakeEstimator, **parameters: object) -> Iterator[Composed]:
    with isolated_node() as node:
        given = {"autostart": True, "network": False, **parameters}
        overrides = [Parameter(name, value=value) for name, value in given.items()]
        options = {"context": node.context, "parameter_overrides": overrides}
        link = EstimatorLink()
        crisp = CrispNode(lambda _: estimator, link=link, **options)
        segmenter = SegmenterNode(link=link, **options)
        peer = Composed(node, link, segmenter, crisp)
        try:
            yield peer
        finally:
            for each in (segmenter, crisp):
                each.close()
            peer.close()
            for each in (segmenter, crisp):
                each.destroy_node()


def depth_message(depth: np.ndarray):
    return image(depth, "32FC1")


def masks(message, scene: BoxScene, number: int) -> set[int]:
    labels = pixels(message)[scene.labels == number]
    values, counts = np.unique(labels[labels > 0], return_counts=True)
    return {int(v) for v, c in zip(values, counts, strict=True) if c > 200}


def test_images_are_received_and_converted_once_for_both(monkeypatch: pytest.MonkeyPatch) -> None:
    converted = []
    read = shared_images.read_camera_images
    monkeypatch.setattr(
        shared_images, "read_camera_images", lambda *a: converted.append(a[0].header) or read(*a)
    )
    scene = box_scene([BOX, NEXT])
    with composed(FakeEstimator()) as peer:
        headers = [peer.send(scene)]
        peer.estimates_of(headers[0])
        headers.append(peer.send(scene))
        labels = pixels(peer.labels_of(headers[1]))
        found = peer.estimates_of(headers[1]).estimates
        assert {o.label for o in found} == set(np.unique(labels)) - {0}
        assert len(found) == 2
        assert converted == headers
        for topic in ("rgb/image_rect_color", "depth_registered/image_rect", "rgb/camera_info"):
            assert peer.node.count_subscribers(topic) == 1  # the segmenter's
        assert peer.node.count_subscribers("segmentation") == 1  # this test's
        assert "2 objects" in peer.diagnosis("segmentation", "2 objects").message


def test_the_certificate_merges_the_parts_of_an_object() -> None:
    whole, both = box_scene([BOX]), box_scene([BOX, NEXT])
    with composed(BoxEstimator()) as peer:
        striped = depth_message(with_stripe(whole))
        assert len(masks(peer.answer(whole, depth=striped), whole, 1)) == 2
        peer.wait(lambda: peer.link.known_objects(Header(frame_id="camera")))
        merged = masks(peer.answer(whole, depth=striped), whole, 1)
        assert len(merged) == 1
        entered = peer.answer(both, depth=depth_message(with_stripe(both)))
        assert masks(entered, both, 1) == merged
        assert len(masks(entered, both, 2)) == 1 and masks(entered, both, 2) != merged


def test_a_stopped_estimator_forgets_its_surfaces() -> None:
    scene = box_scene([BOX])
    with composed(BoxEstimator()) as peer:
        header = peer.send(scene)
        peer.estimates_of(header)
        peer.wait(lambda: peer.link.known_objects(header))
        peer.crisp.trigger_deactivate()
        assert peer.link.known_objects(header) == []
        peer.answer(scene)  # the segmenter goes on
        peer.crisp.trigger_activate()
        header = peer.send(scene)
        assert len(peer.estimates_of(header).estimates) == 1


def test_another_format_of_labels_is_refused() -> None:
    with composed(FakeEstimator(), segmentation_format="detections") as peer:
        status = peer.diagnosis("lifecycle", "segmentation_format is detections")
        assert "labels" in status.message
