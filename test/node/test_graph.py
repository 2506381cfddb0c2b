"""The node in another process over real DDS: inputs and outputs."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import numpy as np
import pytest
from crisp_ros.msg import ObjectEstimate, ObjectEstimateArray
from diagnostic_msgs.msg import DiagnosticStatus
from lifecycle_msgs.msg import Transition
from node.fakes import AMBIGUOUS, HALF_EDGES, LOOK_ALIKE, OFF_CENTRE, OFFSET, REASON
from node.outputs.point_clouds import read_points
from node.peer import (
    CAMERA_FRAME,
    FAKE_NODE,
    HEIGHT,
    LATCHED,
    PATIENCE_S,
    WIDTH,
    Peer,
    Scene,
    graph,
    image,
)
from ros_graph import free_domain, isolated_node, spin_until
from sensor_msgs.msg import Image, PointCloud2
from visualization_msgs.msg import Marker, MarkerArray

ARGUMENTS = [
    *("--ros-args", "-p", "label_names:=1=mug"),
    *("-p", "diagnostic_updater.period:=0.2", "-p", "input_timeout:=60.0"),
]
WARN, ERROR = DiagnosticStatus.WARN, DiagnosticStatus.ERROR


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[Peer, subprocess.Popen[bytes]]]:
    with graph(FAKE_NODE, ARGUMENTS) as (peer, process):
        peer.activate()
        yield peer, process
        assert process.poll() is None, "the node did not survive"


@pytest.fixture
def impatient(peer: Peer) -> Iterator[Peer]:
    """The peer of a node with a short input_timeout."""
    assert peer.set_parameters(input_timeout=1.0) == []
    yield peer
    assert peer.set_parameters(input_timeout=60.0) == []


@pytest.fixture
def peer(running: tuple[Peer, subprocess.Popen[bytes]]) -> Peer:
    peer, process = running
    assert process.poll() is None, "the node did not survive"
    return peer


def transforms(peer: Peer, header) -> dict[str, object]:
    """Wait for the transforms of a frame; return them by child frame."""

    def of_frame() -> list:
        return [t for m in peer.received["tf"] for t in m.transforms if t.header == header]

    peer.wait(of_frame)
    return {t.child_frame_id: t.transform for t in of_frame()}


def seen(answer: ObjectEstimateArray) -> list[ObjectEstimate]:
    """Objects that a frame shows, without held ones."""
    return [o for o in answer.estimates if o.label]


def test_objects_and_transforms_answer_a_frame(peer: Peer) -> None:
    scene = Scene({1: (20, 30, 60, 70, 0.5), 2: (90, 40, 130, 100, 0.8), 101: (5, 5, 25, 25, 1.0)})
    answer = peer.answer(scene)
    assert answer.header.frame_id == CAMERA_FRAME
    assert [o.id for o in answer.estimates] == ["mug_1", "object_2", "object_3"]
    assert [o.label for o in answer.estimates] == [1, 2, 101]
    assert [o.class_name for o in answer.estimates] == ["mug", "", ""]
    assert [o.certified for o in answer.estimates] == [True, True, False]
    assert answer.estimates[2].reason == REASON
    assert answer.model_version == "fake-1"
    assert answer.stage_names == ["convert", "network", "fits", "tracking"]
    found = transforms(peer, answer.header)
    assert set(found) == {"mug_1", "object_2"}  # without a certificate no transform
    for o in answer.estimates:
        p = o.pose.pose.position
        np.testing.assert_allclose((p.x, p.y, p.z), scene.centre(o.label), atol=1e-5)
        if o.certified:
            t = found[o.child_frame_id].translation
            assert (t.x, t.y, t.z) == (p.x, p.y, p.z)
    status = peer.diagnosis("estimates", REASON)
    assert status.level == WARN and "1 of 3 without certificate" in status.message
    assert ("uncertified object_3", REASON) in [(v.key, v.value) for v in status.values]


def test_depth_and_label_encodings_give_the_same_poses(peer: Peer) -> None:
    scene = Scene()
    reference = [o.pose.pose for o in seen(peer.answer(scene))]
    millimetres = np.round(1000 * scene.depth_m).astype(np.uint16)
    scene.depth = image(millimetres, "16UC1")
    labels = np.frombuffer(scene.labels.data, np.int32).reshape(HEIGHT, WIDTH)
    for dtype, encoding in ((np.uint8, "mono8"), (np.uint8, "8UC1"), (np.uint16, "16UC1")):
        scene.labels = image(labels.astype(dtype), encoding)
        found = [o.pose.pose for o in seen(peer.answer(scene))]
        for a, b in zip(found, reference, strict=True):
            assert a.position.z == pytest.approx(b.position.z, abs=1e-6)
            assert a.position.x == pytest.approx(b.position.x, abs=1e-6)


def test_meshes_and_markers_reach_late_subscribers(peer: Peer) -> None:
    peer.answer(Scene())  # before anybody listens to shapes
    peer.listen_to_shapes()
    meshes, markers = peer.received["meshes"], peer.received["markers"]
    everything = {"mug_1", "object_2"}
    peer.wait(lambda: everything <= {m.id for m in meshes} and len(markers) >= 2)
    first = {m.id: m for m in meshes}["mug_1"]
    vertices = np.array([(p.x, p.y, p.z) for p in first.mesh.vertices])
    np.testing.assert_allclose(vertices.max(0), HALF_EDGES, atol=1e-6)
    shown = {m.ns: m for array in markers for m in array.markers}
    assert shown["mug_1"].type == Marker.TRIANGLE_LIST and shown["mug_1"].frame_locked
    assert shown["mug_1"].header.frame_id == "mug_1" and len(shown["mug_1"].points) == 36

    same = peer.answer(Scene())
    assert same.estimates[0].mesh_version == first.mesh_version
    assert [m.id for m in meshes].count("mug_1") == 1
    # Only a lasting contradiction changes the shape of an object that was certified.
    versions = [peer.answer(Scene(shape=50)).estimates[0].mesh_version for _ in range(12)]
    assert versions[0] == first.mesh_version and versions[-1] == first.mesh_version + 1
    changed = peer.answer(Scene(shape=50)).estimates[0]
    peer.wait(lambda: ("mug_1", changed.mesh_version) in [(m.id, m.mesh_version) for m in meshes])
    newest = [m for m in meshes if m.id == "mug_1"][-1]
    assert newest.shape_code.tolist() == [51.0] * 8

    later: list = []
    peer.node.create_subscription(type(first), "/crisp/meshes", later.append, LATCHED)
    latest = {"mug_1": changed.mesh_version, "object_2": changed.mesh_version}
    peer.wait(lambda: latest.items() <= {m.id: m.mesh_version for m in later}.items())


def test_a_pose_is_that_of_the_object_frame_not_of_its_box(peer: Peer) -> None:
    peer.listen_to_shapes()
    scene = Scene({OFF_CENTRE: (20, 30, 60, 70, 1.2)})  # away from all before
    (found,) = (o for o in peer.answer(scene).estimates if o.label)
    p, size = found.pose.pose.position, found.size
    origin = np.array((p.x, p.y, p.z))
    np.testing.assert_allclose(origin + OFFSET, scene.centre(OFF_CENTRE), atol=1e-5)
    np.testing.assert_allclose((size.x, size.y, size.z), 2 * HALF_EDGES, atol=1e-6)
    meshes = peer.received["meshes"]
    peer.wait(lambda: any(m.id == found.id for m in meshes))
    mesh = next(m.mesh for m in meshes if m.id == found.id)
    vertices = np.array([(v.x, v.y, v.z) for v in mesh.vertices])
    np.testing.assert_allclose(vertices.min(0), OFFSET - HALF_EDGES, atol=1e-6)
    np.testing.assert_allclose(vertices.max(0), OFFSET + HALF_EDGES, atol=1e-6)


def test_tracks_are_listed(peer: Peer) -> None:
    answer = peer.answer(Scene())
    ids = {o.id for o in answer.estimates if o.label}
    status = peer.diagnosis("tracks", "2 seen")
    assert ids <= {v.key for v in status.values}


def test_a_marker_is_deleted_when_its_object_ends(peer: Peer) -> None:
    markers = peer.received["markers"]
    peer.listen(MarkerArray, "/crisp/markers", "markers", LATCHED)
    here, away = {1: (20, 30, 60, 70, 0.5)}, {7: (100, 10, 140, 50, 0.9)}
    (id,) = [o.id for o in peer.answer(Scene(here | away)).estimates if o.label == 7]
    peer.wait(lambda: any(m.ns == id for a in markers for m in a.markers))

    def actions() -> list[int]:
        return [m.action for a in markers for m in a.markers if m.ns == id]

    for _ in range(5):  # object_timeout is 5 s of image time
        peer.stamp_ns += 800_000_000
        answer = peer.answer(Scene(here))
        (held,) = [o for o in answer.estimates if o.id == id]
        assert held.label == 0 and not held.certified and held.reason.startswith("not seen for")
        assert id not in transforms(peer, answer.header)
    assert Marker.DELETE not in actions()
    peer.stamp_ns += 800_000_000
    assert id not in [o.id for o in peer.answer(Scene(here)).estimates]
    peer.wait(lambda: actions()[-1] == Marker.DELETE)


def test_overlay_is_made_only_for_subscribers(peer: Peer) -> None:
    subscription = peer.listen(Image, "/crisp/overlay", "overlay", 1)
    peer.wait(lambda: peer.node.count_publishers("/crisp/overlay") == 1)
    overlays = peer.received["overlay"]
    scene = Scene()

    def answered() -> bool:
        peer.answer(scene)
        return bool(overlays)

    assert spin_until(peer.node, answered, 60.0)
    shown = overlays[-1]
    assert (shown.encoding, shown.width, shown.height) == ("rgb8", WIDTH, HEIGHT)
    assert shown.header.frame_id == CAMERA_FRAME and shown.data != scene.rgb.data
    peer.node.destroy_subscription(subscription)


def test_points_of_objects_are_published(peer: Peer) -> None:
    subscription = peer.listen(PointCloud2, "/crisp/points", "points", 1)
    peer.wait(lambda: peer.node.count_publishers("/crisp/points") == 1)
    clouds = peer.received["points"]
    scene = Scene({1: (20, 30, 60, 70, 0.5), 101: (5, 5, 25, 25, 1.0)})
    answers: list[ObjectEstimateArray] = []
    pairs: list[tuple[PointCloud2, ObjectEstimateArray]] = []

    def answered() -> bool:
        # The node may still be at frames of earlier tests: only clouds of this scene count.
        answers.append(peer.answer(scene))
        pairs[:] = [(c, a) for c in clouds for a in answers if c.header == a.header]
        return bool(pairs)

    assert spin_until(peer.node, answered, 60.0)
    cloud, answer = pairs[-1]
    certified = {o.label: o.certified for o in seen(answer)}
    assert cloud.header.frame_id == CAMERA_FRAME and cloud.is_dense
    found = read_points(cloud)
    assert set(np.unique(found["label"])) == {1, 101} == set(certified)
    for label, depth in ((1, 0.5), (101, 1.0)):
        mine = found[found["label"] == label]
        np.testing.assert_allclose(mine["z"], depth, atol=2e-3)
        assert set(mine["certified"]) == {certified[label]}
    peer.node.destroy_subscription(subscription)


def all_zero_depth(scene: Scene) -> None:
    scene.depth = image(np.zeros((HEIGHT, WIDTH), np.uint16), "16UC1")


def nan_depth(scene: Scene) -> None:
    scene.depth = image(np.full((HEIGHT, WIDTH), np.nan, np.float32), "32FC1")


def millimetres_as_metres(scene: Scene) -> None:
    scene.depth = image(1000 * scene.depth_m, "32FC1")


def empty_mask(scene: Scene) -> None:
    scene.labels = image(np.zeros((HEIGHT, WIDTH), np.uint8), "mono8")


def one_pixel_mask(scene: Scene) -> None:
    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    labels[50, 60] = 3
    scene.labels = image(labels, "mono8")


def smaller_depth(scene: Scene) -> None:
    scene.depth = image(scene.depth_m[::2, ::2].copy(), "32FC1")


def smaller_mask(scene: Scene) -> None:
    scene.labels = image(np.ones((HEIGHT // 2, WIDTH // 2), np.uint8), "mono8")


def unknown_encoding(scene: Scene) -> None:
    scene.rgb.encoding = "yuv444"


def mislabelled(scene: Scene) -> None:
    scene.rgb.encoding = "yuv422"


def truncated(scene: Scene) -> None:
    scene.depth.data = scene.depth.data[:1000]


def negative_labels(scene: Scene) -> None:
    scene.labels = image(np.full((HEIGHT, WIDTH), -1, np.int32), "32SC1")


def uncalibrated(scene: Scene) -> None:
    scene.focal = 0.0


def no_frame_id(scene: Scene) -> None:
    scene.frame_id = ""


def estimator_fails(scene: Scene) -> None:
    scene.rgb.data[2] = 1


# What is wrong, who reports it, how gravely, and in which words.
FAULTS = [
    (all_zero_depth, "input depth", WARN, "no valid depth"),
    (nan_depth, "input depth", WARN, "no valid depth"),
    (millimetres_as_metres, "input depth", WARN, "32FC1 has to be in metres"),
    (empty_mask, "input segmentation", WARN, "every pixel is background"),
    (one_pixel_mask, "estimates", WARN, "label 3: depth on 1 of 1 px"),
    (smaller_depth, "input depth", ERROR, "depth is 80 x 60 pixels, colour is 160 x 120"),
    (smaller_mask, "input segmentation", ERROR, "segmentation is 80 x 60 pixels"),
    (unknown_encoding, "input rgb", ERROR, "'yuv444' is not supported"),
    (mislabelled, "input rgb", ERROR, "but yuv422 has 2: its encoding is wrong"),
    (truncated, "input depth", ERROR, "truncated: 1000 bytes"),
    (negative_labels, "input segmentation", ERROR, "negative labels"),
    (uncalibrated, "input camera_info", ERROR, "uncalibrated"),
    (no_frame_id, "input rgb", WARN, "no frame_id"),
    (estimator_fails, "estimates", ERROR, "the fake fails when asked to"),
]


@pytest.mark.parametrize(
    ("spoil", "reporter", "level", "words"), FAULTS, ids=[f[0].__name__ for f in FAULTS]
)
def test_bad_input_is_reported_and_the_next_frame_is_estimated(
    peer: Peer, spoil, reporter: str, level: bytes, words: str
) -> None:
    bad = Scene()
    spoil(bad)
    peer.send(bad)
    assert peer.diagnosis(reporter, words).level == level
    assert len(seen(peer.answer(Scene()))) == 2


def test_a_backward_jump_of_time_restarts_tracking(peer: Peer) -> None:
    before = {o.id for o in peer.answer(Scene()).estimates}
    peer.stamp_ns -= 50 * 10**9
    answer = peer.answer(Scene())
    assert [o.label for o in answer.estimates] == [1, 2]  # nothing is held
    assert not before & {o.id for o in answer.estimates}
    peer.diagnosis("synchronisation", "1")


def test_stamps_too_far_apart_are_diagnosed(impatient: Peer) -> None:
    peer = impatient
    scene = Scene()
    publisher = peer._depth
    publish = publisher.publish

    class Skewed:
        get_subscription_count = publisher.get_subscription_count

        def publish(self, message) -> None:
            stamp = peer.stamp_ns + 400_000_000
            message.header = type(message.header)(frame_id=CAMERA_FRAME)
            message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp, 10**9)
            publish(message)

    peer._depth = Skewed()
    timer = peer.node.create_timer(0.3, lambda: peer.send(scene, step_ns=10**9))
    try:
        status = peer.diagnosis("synchronisation", "none match")
        assert status.level == ERROR and "sync_slop" in status.message
    finally:
        peer._depth = publisher
        peer.node.destroy_timer(timer)
    assert len(seen(peer.answer(Scene()))) == 2


def test_parameters_change_live_and_are_refused_with_the_reason(peer: Peer) -> None:
    assert peer.set_parameters(publish_uncertified_tf=True, tf_prefix="left_") == []
    answer = peer.answer(Scene({102: (20, 30, 60, 70, 0.5)}))
    first = answer.estimates[0]
    assert first.child_frame_id == f"left_{first.id}" and not first.certified
    assert set(transforms(peer, answer.header)) == {first.child_frame_id}
    assert peer.set_parameters(publish_uncertified_tf=False, tf_prefix="") == []
    two = Scene({3: (20, 30, 60, 70, 0.5), AMBIGUOUS: (90, 30, 130, 70, 0.6)})
    in_view = [e for e in peer.answer(two).estimates if e.label > 0]
    certain, ambiguous = sorted(in_view, key=lambda e: e.label)
    assert certain.orientation_certified and ambiguous.certified
    assert not ambiguous.orientation_certified and ambiguous.orientation_reason == LOOK_ALIKE
    assert peer.set_parameters(certified_orientation_tf=True) == []
    answer = peer.answer(two)
    assert set(transforms(peer, answer.header)) == {certain.child_frame_id}
    assert peer.set_parameters(certified_orientation_tf=False) == []
    answer = peer.answer(two)
    assert len(transforms(peer, answer.header)) == 2
    (reason,) = peer.set_parameters(sync_slop=0.2)
    assert "deactivate it first" in reason


def test_stage_times_and_memory_are_reported(peer: Peer) -> None:
    assert peer.transition(Transition.TRANSITION_DEACTIVATE)  # earlier frames are forgotten
    assert peer.transition(Transition.TRANSITION_ACTIVATE)
    peer.wait(peer.is_heard)
    peer.stamp_ns = peer.node.get_clock().now().nanoseconds - 10 * 10**9
    peer.answer(Scene())
    timing = {v.key: v.value for v in peer.diagnosis("timing", "from stamp").values}
    median, p95 = (float(timing[f"{key} latency (s)"]) for key in ("median", "p95"))
    assert 9.9 <= median == p95 < 9.9 + PATIENCE_S
    assert 0 <= float(timing["median network (ms)"]) <= float(timing["p95 network (ms)"])
    device = {v.key: v.value for v in peer.diagnosis("device", "").values}
    assert 50 < int(device["process memory (MB)"]) < 20_000 and device["device"] == "cpu"


def test_a_failure_of_all_objects_names_the_depth(peer: Peer) -> None:
    scene = Scene({101: (20, 30, 60, 70, 0.5), 102: (90, 40, 130, 100, 0.8)})
    for _ in range(30):
        peer.answer(scene)
    status = peer.diagnosis("depth scale and registration", "all objects miss")
    assert status.level == WARN and "depth scale or registration is wrong" in status.message
    for _ in range(30):
        peer.answer(Scene())
    assert peer.diagnosis("depth scale and registration", "0% of the").level == DiagnosticStatus.OK


def test_missing_inputs_are_named_with_the_probable_cause(impatient: Peer) -> None:
    status = impatient.diagnosis("input rgb", "1 publisher(s) on /rgb/image_rect_color")
    assert status.level == ERROR and "but no message" in status.message
    assert impatient.diagnosis("estimates", "no frame for").level == ERROR


def test_an_invalid_transition_is_answered_and_survived(peer: Peer) -> None:
    assert not peer.transition(Transition.TRANSITION_CONFIGURE)
    assert peer.state() == "active"
    assert peer.transition(Transition.TRANSITION_DEACTIVATE)
    header = peer.send(Scene())
    assert not spin_until(
        peer.node, lambda: any(m.header == header for m in peer.received["objects"]), 1.0
    )
    assert peer.transition(Transition.TRANSITION_CLEANUP)
    assert peer.state() == "unconfigured"
    peer.activate()
    assert len(seen(peer.answer(Scene()))) == 2


def test_domains_differ_from_one_another_and_from_those_in_use() -> None:
    assert free_domain() != free_domain()
    with isolated_node("first") as first, isolated_node("second") as second:
        taken = {node.context.get_domain_id() for node in (first, second)}
        assert taken.isdisjoint(free_domain() for _ in range(60))
