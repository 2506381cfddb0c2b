"""All kinds of input over real DDS give the same poses."""

from __future__ import annotations

import array
import struct
from collections.abc import Iterator

import cv2
import numpy as np
import pytest
from lifecycle_msgs.msg import Transition
from node.peer import (
    CAMERA_FRAME,
    CX,
    CY,
    FAKE_NODE,
    FOCAL,
    HEIGHT,
    WIDTH,
    Peer,
    Scene,
    graph,
    image,
)
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from ros_graph import spin_until
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header
from vision_msgs.msg import (
    Detection2D,
    Detection2DArray,
    LabelInfo,
    ObjectHypothesisWithPose,
    VisionClass,
)

RGB, DEPTH, SEGMENTATION = "/rgb/image_rect_color", "/depth_registered/image_rect", "/segmentation"
INFO, DETECTIONS = "/rgb/camera_info", "/detections"
ARGUMENTS = [
    *("--ros-args", "-p", "label_names:=1=mug,2=bowl"),
    *("-p", "diagnostic_updater.period:=0.2", "-p", "input_timeout:=1.0"),
    *("-p", f"qos_overrides.{SEGMENTATION}/compressed.subscription.reliability:=reliable"),
    # No image is lost on a loaded machine.
    *("-p", f"qos_overrides.{RGB}.subscription.reliability:=reliable"),
    *("-p", f"qos_overrides.{DEPTH}.subscription.reliability:=reliable"),
    *("-p", f"qos_overrides.{SEGMENTATION}.subscription.reliability:=reliable"),
]
RAW = dict(
    image_transport="raw",
    depth_image_transport="raw",
    segmentation_image_transport="raw",
    segmentation_format="labels",
    rectified=True,
)
RAW_TYPES = {RGB: Image, DEPTH: Image, SEGMENTATION: Image, INFO: CameraInfo}
DISTORTION = (-0.25, 0.06, 0.001, -0.001, 0.0)


class Camera:
    """Publisher of messages of any kind with one stamp, by topic."""

    def __init__(self, peer: Peer, types: dict[str, type]) -> None:
        self._peer = peer
        self._publishers = {t: peer.node.create_publisher(k, t, 10) for t, k in types.items()}
        peer.wait(lambda: all(p.get_subscription_count() for p in self._publishers.values()))
        # The other side may find this one a bit later, and hears nothing before.
        spin_until(peer.node, lambda: False, 0.5)

    def send(self, messages: dict[str, object], late_s: dict[str, float] | None = None) -> Header:
        """Publish one frame, with stamps later by `late_s`; return the colour header."""
        peer = self._peer
        peer.stamp_ns += 100_000_000
        for topic, message in messages.items():
            stamp_ns = peer.stamp_ns + round(1e9 * (late_s or {}).get(topic, 0.0))
            message.header = Header(frame_id=CAMERA_FRAME)
            message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp_ns, 10**9)
            self._publishers[topic].publish(message)
        return next(m.header for t, m in messages.items() if t.startswith(RGB))

    def close(self) -> None:
        for publisher in self._publishers.values():
            self._peer.node.destroy_publisher(publisher)


@pytest.fixture(scope="module")
def peer() -> Iterator[Peer]:
    with graph(FAKE_NODE, ARGUMENTS) as (peer, process):
        peer.start()
        yield peer
        assert process.poll() is None, "the node did not survive"


def switch(peer: Peer, **parameters: object) -> None:
    """Set parameters while the node is inactive; reset the others to raw images."""
    assert peer.transition(Transition.TRANSITION_DEACTIVATE)
    assert peer.set_parameters(**{**RAW, **parameters}) == []
    assert peer.transition(Transition.TRANSITION_ACTIVATE)


def places(peer: Peer, header: Header) -> dict[int, np.ndarray]:
    """Positions by label in the estimates of a frame, metres."""
    answer = peer.answer_to(header)
    # What is only remembered has no label.
    positions = {o.label: o.pose.pose.position for o in answer.estimates if o.label}
    return {label: np.array((p.x, p.y, p.z)) for label, p in positions.items()}


def expect(found: dict[int, np.ndarray], scene: Scene, atol: float) -> None:
    assert set(found) == set(scene.objects)
    for label, place in found.items():
        np.testing.assert_allclose(place, scene.centre(label), atol=atol)


def compressed(
    pixels: np.ndarray, format: str, kind: str = ".png", head: bytes = b""
) -> CompressedImage:
    data = head + cv2.imencode(kind, pixels)[1].tobytes()
    return CompressedImage(format=format, data=array.array("B", data))


def raw(scene: Scene) -> dict[str, object]:
    return {
        RGB: scene.rgb,
        DEPTH: scene.depth,
        SEGMENTATION: scene.labels,
        INFO: scene.camera_info(),
    }


def pixels(message: Image, dtype: type) -> np.ndarray:
    return np.frombuffer(message.data, dtype).reshape(message.height, message.width, -1).squeeze()


def test_compressed_images_give_the_same_poses(peer: Peer) -> None:
    switch(
        peer,
        image_transport="compressed",
        depth_image_transport="compressedDepth",
        segmentation_image_transport="compressed",
    )
    topics = [f"{RGB}/compressed", f"{DEPTH}/compressedDepth", f"{SEGMENTATION}/compressed"]
    camera = Camera(peer, {**dict.fromkeys(topics, CompressedImage), INFO: CameraInfo})
    scene = Scene()
    a, b = 100 * 101.0, 1 - 100 * 101.0 / 10  # image_transport's quantisation up to 10 m
    millimetres = np.rint(1000 * scene.depth_m).astype(np.uint16)
    quantised = np.rint(a / scene.depth_m + b).astype(np.uint16)
    labels = pixels(scene.labels, np.int32).astype(np.uint8)
    messages = {
        INFO: scene.camera_info(),
        topics[0]: compressed(pixels(scene.rgb, np.uint8), "rgb8; jpeg compressed bgr8", ".jpg"),
        topics[2]: compressed(labels, "mono8; png compressed"),
    }
    for depth in (
        compressed(millimetres, "16UC1; compressedDepth png", head=bytes(12)),
        compressed(quantised, "32FC1; compressedDepth png", head=struct.pack("<iff", 0, a, b)),
    ):
        header = camera.send({**messages, topics[1]: depth})
        expect(places(peer, header), scene, atol=2e-3)
    status = peer.diagnosis("input depth", "compressedDepth")
    assert {"topic", "encoding", "rate (Hz)", "delay (s)"} <= {v.key for v in status.values}

    messages[topics[2]].data = messages[topics[2]].data[:-30]
    camera.send({**messages, topics[1]: depth})
    assert "no whole image" in peer.diagnosis("input segmentation", "cannot be decoded").message
    camera.close()


def test_an_incompatible_qos_policy_is_named(peer: Peer) -> None:
    switch(peer, segmentation_image_transport="compressed")
    topic = f"{SEGMENTATION}/compressed"
    best_effort = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
    publisher = peer.node.create_publisher(CompressedImage, topic, best_effort)
    status = peer.diagnosis("input segmentation", "incompatible RELIABILITY")
    assert f"qos_overrides.{topic}.subscription" in status.message
    peer.node.destroy_publisher(publisher)


def test_stamps_within_the_slop_are_matched(peer: Peer) -> None:
    switch(peer)
    camera, scene = Camera(peer, RAW_TYPES), Scene()
    header = camera.send(raw(scene), late_s={DEPTH: 0.03, SEGMENTATION: -0.015})
    expect(places(peer, header), scene, atol=1e-5)
    camera.close()


def test_a_changed_calibration_moves_the_objects(peer: Peer) -> None:
    switch(peer)
    camera, scene = Camera(peer, RAW_TYPES), Scene()
    expect(places(peer, camera.send(raw(scene))), scene, atol=1e-5)
    for zoom in (2, 1):
        scene.focal = zoom * FOCAL
        header = camera.send(raw(scene))
        expected = {k: np.divide(scene.centre(k), (zoom, zoom, 1)) for k in scene.objects}
        found = places(peer, header)
        if any(abs(found[k] - expected[k]).max() > 1e-5 for k in expected):
            # Images that overtake their calibration are answered with the last one first.
            peer.received["objects"].clear()
            found = places(peer, header)
        assert found.keys() == expected.keys()
        for label, place in found.items():
            np.testing.assert_allclose(place, expected[label], atol=1e-5)
    camera.close()


def time_jumps(peer: Peer) -> int:
    values = peer.diagnosis("synchronisation", "").values
    return int(next(v.value for v in values if v.key == "time jumps"))


def test_a_bag_that_loops_is_answered_frame_by_frame(peer: Peer) -> None:
    switch(peer)
    camera, scene = Camera(peer, RAW_TYPES), Scene()
    first = peer.stamp_ns
    before = time_jumps(peer)
    for _ in range(3):
        peer.stamp_ns = first
        for _ in range(15):
            peer.received["objects"].clear()
            expect(places(peer, camera.send(raw(scene))), scene, atol=1e-5)
    assert time_jumps(peer) == before + 2
    camera.close()


def test_twelve_objects_at_once(peer: Peer) -> None:
    switch(peer)
    objects = {
        n + 1: (10 + 38 * (n % 4), 8 + 36 * (n // 4), 34 + 38 * (n % 4), 34 + 36 * (n // 4), 0.5)
        for n in range(12)
    }
    camera, scene = Camera(peer, RAW_TYPES), Scene(objects)
    answers = [peer.answer_to(camera.send(raw(scene))) for _ in range(3)]
    ids = [[o.id for o in sorted(a.estimates, key=lambda o: o.label)] for a in answers]
    assert len(set(ids[0])) == 12 and ids[0] == ids[1] == ids[2]
    expect(places(peer, camera.send(raw(scene))), scene, atol=1e-5)
    camera.close()


@pytest.mark.parametrize("format", ["category_instance", "instance_category"])
def test_packed_labels_are_named_by_their_category(peer: Peer, format: str) -> None:
    switch(peer, segmentation_format=format)
    camera, scene = Camera(peer, RAW_TYPES), Scene()
    labels = pixels(scene.labels, np.int32)
    instances = np.where(labels > 0, 7, 0)
    high, low = (labels, instances) if format == "category_instance" else (instances, labels)
    packed = ((high << 16) | low).astype(np.int32)
    packed[0, 0] = 1 << 16 if format == "category_instance" else 1  # a category without instance
    scene.labels = image(packed, "32SC1")
    answer = peer.answer_to(camera.send(raw(scene)))
    assert sorted(o.class_name for o in answer.estimates) == ["bowl", "mug"]
    camera.close()


def test_label_names_by_topic_and_parameter(peer: Peer) -> None:
    switch(peer)
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    publisher = peer.node.create_publisher(LabelInfo, "/label_info", latched)
    names = {1: "cup", 3: "can"}
    classes = [VisionClass(class_id=i, class_name=name) for i, name in names.items()]
    publisher.publish(LabelInfo(class_map=classes))
    camera = Camera(peer, RAW_TYPES)
    scene = Scene({1: (20, 30, 60, 70, 0.5), 3: (90, 40, 130, 100, 0.8)})

    def named() -> bool:
        answer = peer.answer_to(camera.send(raw(scene)))
        return [o.class_name for o in answer.estimates] == ["mug", "can"]

    peer.wait(named)
    peer.node.destroy_publisher(publisher)
    camera.close()


def test_boxes_of_a_detector(peer: Peer) -> None:
    switch(peer, segmentation_format="detections")
    types = {t: k for t, k in RAW_TYPES.items() if t != SEGMENTATION}
    camera = Camera(peer, {**types, DETECTIONS: Detection2DArray})
    scene = Scene()
    detections = Detection2DArray()
    for label, (left, top, right, bottom, _) in scene.objects.items():
        detection = Detection2D(id=str(label))
        detection.bbox.center.position.x = (left + right - 1) / 2
        detection.bbox.center.position.y = (top + bottom - 1) / 2
        detection.bbox.size_x = 1.3 * (right - left)
        detection.bbox.size_y = 1.3 * (bottom - top)
        hypothesis = ObjectHypothesisWithPose()
        hypothesis.hypothesis.class_id = {1: "1", 2: "plate"}[label]
        hypothesis.hypothesis.score = 0.4 + 0.1 * label
        detection.results = [hypothesis]
        detections.detections.append(detection)
    messages = {**raw(scene), DETECTIONS: detections}
    del messages[SEGMENTATION]
    header = camera.send(messages)
    expect(places(peer, header), scene, atol=3e-3)
    names = {o.label: o.class_name for o in peer.answer_to(header).estimates}
    assert names == {1: "mug", 2: "plate"}
    assert peer.set_parameters(detection_score=0.55) == []
    assert set(places(peer, camera.send(messages))) == {2}
    assert peer.set_parameters(detection_score=0.0) == []
    camera.close()


def test_raw_distorted_images_give_the_same_poses(peer: Peer) -> None:
    switch(peer, rectified=False)
    camera, scene = Camera(peer, RAW_TYPES), Scene()
    K = np.array([[FOCAL, 0, CX], [0, FOCAL, CY], [0, 0, 1]])
    v, u = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    seen = cv2.undistortPoints(np.stack([u.ravel(), v.ravel()], -1)[None], K, DISTORTION, P=K)
    maps = [m.reshape(HEIGHT, WIDTH).astype(np.float32) for m in np.moveaxis(seen, -1, 0)]
    straight = pixels(scene.labels, np.int32)
    bent = cv2.remap(straight, *maps, cv2.INTER_NEAREST)
    assert (bent != straight).sum() > 100  # the lens does bend
    depth = cv2.remap(scene.depth_m, *maps, cv2.INTER_NEAREST, borderValue=1.5)
    scene.depth, scene.labels = image(depth, "32FC1"), image(bent, "32SC1")
    info = scene.camera_info()
    info.d, info.distortion_model, info.p = list(DISTORTION), "plumb_bob", [0.0] * 12
    expect(places(peer, camera.send({**raw(scene), INFO: info})), scene, atol=2e-3)
    camera.close()
